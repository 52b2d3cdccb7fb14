//! All objects: in memory, with a log on disk written before anything is acknowledged.
//!
//! ```text
//! create / update -> log (write) -> objects + history -> watchers woken
//! ```

mod history;
mod key;
mod log;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use history::{Change, Object, TooOld};
pub(crate) use key::{Key, Resource};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use log::fuzz as fuzz_log;

use history::History;
use log::Log;

/// The objects of one cluster, owned by one process.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    objects: BTreeMap<Key, Object>,
    history: History,
    version: u64,
    log: Log,
    compact_at: u64,
    /// Space for deletions when the disk is full.
    reserve: PathBuf,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the folder.
    #[error("another process owns {0}")]
    Locked(String),
    /// The disk said no.
    #[error("cannot open the store in {0}")]
    Io(String, #[source] io::Error),
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("an object of this name exists")]
    Exists,
    #[error("there is no such object")]
    Missing,
    #[error("the disk refused the write")]
    Storage(#[source] io::Error),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Storage(cause) => cause,
            WriteError::Exists | WriteError::Missing => Self::other(error),
        }
    }
}

/// What an update decides.
pub(crate) enum Decision {
    Keep,
    Put(Value),
    Delete,
}

/// What an update did.
#[derive(Debug, Clone)]
pub(crate) struct Updated {
    pub(crate) object: Object,
    pub(crate) deleted: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Record {
    /// Nothing below this version will be issued again.
    Mark(u64),
    Put(u64, Key, Object),
    Delete(u64, Key),
}

const COMPACT_FLOOR: u64 = 4 << 20;
const RESERVE: u64 = 64 << 10;
/// How often and how long apart a folder is tried that another process owns.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

impl Store {
    /// Opens or creates the store in `dir`; only one process can.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io(dir.display().to_string(), error);
        fs::create_dir_all(dir).map_err(io)?;
        let lock = lock(dir)?;
        let (log, records) = Log::open(&dir.join("objects.log")).map_err(io)?;
        let mut inner = Inner {
            objects: BTreeMap::new(),
            history: History::default(),
            version: 0,
            log,
            compact_at: COMPACT_FLOOR,
            reserve: dir.join("reserve"),
        };
        keep_reserve(&inner.reserve);
        for record in records {
            let size = record.len();
            let record = serde_json::from_slice(&record).map_err(|e| io(e.into()))?;
            inner.replay(record, size);
        }
        if inner.log.len() > COMPACT_FLOOR / 4 {
            inner.compact().map_err(io)?;
        }
        let version = watch::Sender::new(inner.version);
        Ok(Self { inner: Mutex::new(inner), version, _lock: lock })
    }

    /// Returns one object.
    pub(crate) fn get(&self, key: &Key) -> Option<Object> {
        self.lock().objects.get(key).cloned()
    }

    /// Returns the version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Returns a receiver that is woken at every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Returns all objects of one kind, of one namespace or of all, and the present version.
    pub(crate) fn list(&self, resource: Resource, namespace: &str) -> (Vec<Object>, u64) {
        let inner = self.lock();
        let found = inner.range(resource, namespace).map(|(_, object)| object.clone()).collect();
        (found, inner.version)
    }

    /// Returns the objects of one kind and namespace whose names begin with `prefix`.
    pub(crate) fn list_prefixed(
        &self,
        resource: Resource,
        namespace: &str,
        prefix: &str,
    ) -> Vec<Object> {
        let inner = self.lock();
        let from = inner.objects.range(Key::new(resource, namespace, prefix)..);
        from.take_while(|(key, _)| {
            key.resource == resource && key.namespace == namespace && key.name.starts_with(prefix)
        })
        .map(|(_, object)| object.clone())
        .collect()
    }

    /// Returns what [`Store::list`] returned when `version` was the present one.
    pub(crate) fn list_at(
        &self,
        resource: Resource,
        namespace: &str,
        version: u64,
    ) -> Result<Vec<Object>, TooOld> {
        let inner = self.lock();
        let mut found: BTreeMap<Key, Object> =
            inner.range(resource, namespace).map(|(k, o)| (k.clone(), o.clone())).collect();
        for change in inner.history.back_to(version)? {
            let key = &change.key;
            if key.resource != resource || !(namespace.is_empty() || key.namespace == namespace) {
                continue;
            }
            match &change.before {
                Some(before) => found.insert(key.clone(), before.clone()),
                None => found.remove(key),
            };
        }
        Ok(found.into_values().collect())
    }

    /// Returns at most `limit` changes after `version`, oldest first.
    pub(crate) fn since(&self, version: u64, limit: usize) -> Result<Vec<Arc<Change>>, TooOld> {
        self.lock().history.since(version, limit)
    }

    /// Stores a new object and returns it with its version.
    pub(crate) fn create(&self, key: Key, object: Value) -> Result<Object, WriteError> {
        let mut inner = self.lock();
        if inner.objects.contains_key(&key) {
            return Err(WriteError::Exists);
        }
        let object = inner.put(key, object)?;
        self.version.send_replace(inner.version);
        Ok(object)
    }

    /// Reads, decides and writes one object as one step.
    pub(crate) fn update<E: From<WriteError>>(
        &self,
        key: &Key,
        decide: impl FnOnce(&Object) -> Result<Decision, E>,
    ) -> Result<Updated, E> {
        let mut inner = self.lock();
        let present = inner.objects.get(key).cloned().ok_or(WriteError::Missing)?;
        let updated = match decide(&present)? {
            Decision::Keep => Updated { object: present, deleted: false },
            Decision::Put(object) if without_version(&object) == without_version(&present) => {
                Updated { object: present, deleted: false }
            }
            Decision::Put(object) => {
                Updated { object: inner.put(key.clone(), object)?, deleted: false }
            }
            Decision::Delete => Updated { object: inner.delete(key.clone())?, deleted: true },
        };
        self.version.send_replace(inner.version);
        Ok(updated)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn range<'a>(
        &'a self,
        resource: Resource,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Object)> {
        self.objects.range(Key::new(resource, namespace, "")..).take_while(move |(key, _)| {
            key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
        })
    }

    fn put(&mut self, key: Key, mut object: Value) -> Result<Object, WriteError> {
        let version = self.version + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(object);
        self.write(Record::Put(version, key, object.clone()))?;
        Ok(object)
    }

    fn delete(&mut self, key: Key) -> Result<Object, WriteError> {
        let version = self.version + 1;
        let last = self.objects.get(&key).cloned().ok_or(WriteError::Missing)?;
        self.write(Record::Delete(version, key))?;
        let mut last = Arc::unwrap_or_clone(last);
        last["metadata"]["resourceVersion"] = json!(version.to_string());
        Ok(Arc::new(last))
    }

    /// Puts a record on disk, then into effect.
    fn write(&mut self, record: Record) -> Result<(), WriteError> {
        let bytes = serde_json::to_vec(&record).map_err(|e| WriteError::Storage(e.into()))?;
        if let Err(error) = self.log.append(&bytes) {
            self.make_room(&record);
            self.log.append(&bytes).map_err(|_| WriteError::Storage(error))?;
        }
        self.replay(record, bytes.len());
        if self.log.len() > self.compact_at
            && let Err(error) = self.compact()
        {
            self.compact_at = self.log.len() * 2;
            tracing::warn!(%error, "the log could not be compacted");
        }
        Ok(())
    }

    /// Frees disk: by leaving out what is no longer so, and for deletions by the reserve.
    fn make_room(&mut self, record: &Record) {
        let frees = match record {
            Record::Delete(..) => true,
            Record::Put(_, _, object) => object["metadata"].get("deletionTimestamp").is_some(),
            Record::Mark(_) => false,
        };
        // The new log needs some disk, too.
        fs::remove_file(&self.reserve).ok();
        let compacted = self.compact();
        if let Err(error) = &compacted {
            tracing::warn!(%error, "the disk is full and the log could not be compacted");
        }
        if compacted.is_ok() || !frees {
            keep_reserve(&self.reserve);
        }
    }

    fn replay(&mut self, record: Record, size: usize) {
        let change = match record {
            Record::Mark(version) => {
                self.version = version;
                self.history = History::starting_at(version);
                return;
            }
            Record::Put(version, key, object) => {
                let before = self.objects.insert(key.clone(), object.clone());
                Change::new(version, key, before, object, false, size)
            }
            Record::Delete(version, key) => {
                let Some(before) = self.objects.remove(&key) else { return };
                let mut last = Value::clone(&before);
                last["metadata"]["resourceVersion"] = json!(version.to_string());
                Change::new(version, key, Some(before), Arc::new(last), true, size)
            }
        };
        self.version = change.version;
        self.history.push(change);
    }

    /// Rewrites the log with what exists now.
    fn compact(&mut self) -> io::Result<()> {
        let mark = Record::Mark(self.version);
        let puts = self
            .objects
            .iter()
            .map(|(key, object)| Record::Put(version_of(object), key.clone(), object.clone()));
        let mut records: Vec<Vec<u8>> =
            puts.map(|record| serde_json::to_vec(&record)).collect::<Result<_, _>>()?;
        records.push(serde_json::to_vec(&mark)?);
        self.log.rewrite(records.iter().map(Vec::as_slice))?;
        self.compact_at = (self.log.len() * 4).max(COMPACT_FLOOR);
        Ok(())
    }
}

/// Returns the version an object carries.
pub(crate) fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn without_version(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    object
}

/// Occupies some disk, if there is some.
fn keep_reserve(path: &Path) {
    if fs::metadata(path).is_ok_and(|meta| meta.len() == RESERVE) {
        return;
    }
    let whole = vec![b'.'; usize::try_from(RESERVE).unwrap_or(0)];
    if fs::write(path, whole).is_err() {
        fs::remove_file(path).ok();
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io(dir.display().to_string(), error);
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
    for tried in 1.. {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if tried < LOCK_TRIES => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(fs::TryLockError::WouldBlock) => break,
            Err(fs::TryLockError::Error(error)) => return Err(io(error)),
        }
    }
    Err(OpenError::Locked(dir.display().to_string()))
}

#[cfg(test)]
mod tests;
