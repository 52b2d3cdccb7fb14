//! What is on the disk, by what it is: blobs and unpacked images by their digests, names beside.
//!
//! ```text
//! blobs/sha256/HEX        layers as they came; HEX.part while they come
//! images/HEX.json         Record: what an image says of itself
//! images/HEX/             its files
//! names/HEX.json          Named: a name and the image it stands for, by the hash of the name
//! ```
//!
//! Everything is made beside and renamed, so what has its name is whole, whatever was killed or lost its
//! power.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::{Doing, Error, Result};
use crate::image::{Image, ImageConfig};
use crate::unpack::{Bounds, Ownership};

/// Unpacks and removes the files of images: another process may have to, whose ids theirs are.
pub trait Unpack: Send + Sync {
    /// Applies layers in order to an empty folder.
    ///
    /// # Errors
    /// As [`crate::unpack::flatten`].
    fn flatten(&self, layers: &[PathBuf], into: &Path, bounds: Bounds) -> Result<()>;

    /// Removes a folder that [`Unpack::flatten`] has filled, or begun to.
    ///
    /// # Errors
    /// When it cannot.
    fn remove(&self, folder: &Path) -> io::Result<()>;

    /// Moves a folder that [`Unpack::flatten`] has filled into another one, where it must be new
    /// or replace an empty one.
    ///
    /// # Errors
    /// When it cannot.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// Unpacks in this process.
#[derive(Debug, Clone, Copy)]
pub struct InProcess(pub Ownership);

impl Unpack for InProcess {
    fn flatten(&self, layers: &[PathBuf], into: &Path, bounds: Bounds) -> Result<()> {
        crate::unpack::flatten(layers, into, self.0, bounds)
    }

    fn remove(&self, folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

/// The folders.
#[derive(Clone)]
pub(crate) struct Store {
    dir: Arc<Path>,
    unpack: Arc<dyn Unpack>,
    bounds: Bounds,
}

/// What is remembered of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<Digest>,
    pub(crate) size: u64,
}

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    digest: Digest,
}

impl Store {
    pub(crate) fn open(dir: &Path, unpack: Arc<dyn Unpack>, bounds: Bounds) -> Result<Self> {
        let opening = || format!("opening {}", dir.display());
        for part in ["blobs/sha256", "images", "names"] {
            let folder = dir.join(part);
            DirBuilder::new().recursive(true).mode(0o700).create(folder).doing(opening)?;
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).doing(opening)?;
        let store = Self { dir: dir.into(), unpack, bounds };
        store.sweep().doing(opening)?;
        Ok(store)
    }

    /// Removes what was being unpacked when somebody was killed. Parts of blobs stay: they go on.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.dir.join("images"))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') && !is_held(&entry.path()) {
                self.unpack.remove(&entry.path())?;
            }
        }
        Ok(())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    fn record(&self, digest: &Digest) -> PathBuf {
        self.dir.join("images").join(format!("{}.json", digest.hex()))
    }

    fn rootfs(&self, digest: &Digest) -> PathBuf {
        self.dir.join("images").join(digest.hex())
    }

    fn name(&self, name: &str) -> PathBuf {
        let hash = Digest::of(&Sha256::digest(name.as_bytes()));
        self.dir.join("names").join(format!("{}.json", hash.hex()))
    }

    /// Tells whether an image is here whole.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.record(digest).exists()
    }

    /// Returns the image that a name stands for.
    pub(crate) fn find(&self, name: &str) -> Option<Image> {
        let named: Named = read(&self.name(name))?;
        if named.name != name {
            return None;
        }
        self.image(&named)
    }

    fn image(&self, named: &Named) -> Option<Image> {
        let record: Record = read(&self.record(&named.digest))?;
        let repository = named.name.split_once('@').map_or(named.name.as_str(), |(left, _)| left);
        let repository = match repository.rsplit_once(':') {
            Some((left, tag)) if !tag.contains('/') => left,
            _ => repository,
        };
        Some(Image {
            name: named.name.clone(),
            id: format!("{repository}@{}", named.digest),
            digest: named.digest.to_string(),
            rootfs: self.rootfs(&named.digest),
            size: record.size,
            config: record.config,
        })
    }

    /// Returns all that have names.
    pub(crate) fn list(&self) -> Vec<Image> {
        let names = fs::read_dir(self.dir.join("names")).into_iter().flatten().flatten();
        let mut images: Vec<_> =
            names.filter_map(|entry| self.image(&read(&entry.path())?)).collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        images
    }

    /// Unpacks an image whose layers are here, unless it is here already.
    pub(crate) fn keep(&self, digest: &Digest, record: &Record) -> Result<()> {
        if self.has(digest) {
            return Ok(());
        }
        let layers: Vec<_> = record.layers.iter().map(|layer| self.blob(layer)).collect();
        let making = || "making room for an image".to_owned();
        let work = self.dir.join("images").join(format!(".{}.{}", digest.hex(), unique()));
        let held = Held::new(&work).doing(making)?;
        let fresh = work.join("fs");
        DirBuilder::new().mode(0o755).create(&fresh).doing(making)?;
        let done = self.unpack.flatten(&layers, &fresh, self.bounds).and_then(|()| {
            // The record below says that all is there, also after a loss of power.
            let all = fs::File::open(&work).doing(making)?;
            rustix::fs::syncfs(all).map_err(io::Error::from).doing(making)?;
            match self.unpack.rename(&fresh, &self.rootfs(digest)) {
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                renamed => renamed.doing(making),
            }
        });
        drop(held);
        // Else the next start removes it.
        self.unpack.remove(&work).ok();
        done?;
        write(&self.record(digest), record)
    }

    /// Lets a name stand for an image.
    pub(crate) fn call(&self, name: &str, digest: &Digest) -> Result<Image> {
        let named = Named { name: name.to_owned(), digest: digest.clone() };
        write(&self.name(name), &named)?;
        let lost = || Error::Unsupported("the image is gone again".to_owned());
        self.image(&named).ok_or_else(lost)
    }

    /// Removes every image whose files are not in `used`, its names, and blobs that no image is
    /// of; returns how many bytes of blobs that were.
    pub(crate) fn prune(&self, used: &BTreeSet<PathBuf>) -> io::Result<u64> {
        let mut kept = BTreeSet::new();
        for entry in fs::read_dir(self.dir.join("names"))?.flatten() {
            let named: Option<Named> = read(&entry.path());
            if !named.is_some_and(|named| used.contains(&self.rootfs(&named.digest))) {
                fs::remove_file(entry.path())?;
            }
        }
        for entry in fs::read_dir(self.dir.join("images"))?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let rootfs = path.with_extension("");
            if used.contains(&rootfs) {
                kept.extend(read::<Record>(&path).into_iter().flat_map(|record| record.layers));
                continue;
            }
            // The record first: without one the image is not here.
            fs::remove_file(&path)?;
            self.unpack.remove(&rootfs)?;
        }
        let mut freed = 0;
        for entry in fs::read_dir(self.dir.join("blobs/sha256"))?.flatten() {
            let name = entry.file_name();
            if !kept.iter().any(|digest| digest.hex().as_str() == name) {
                freed += entry.metadata()?.len();
                fs::remove_file(entry.path())?;
            }
        }
        Ok(freed)
    }
}

/// A folder that somebody works in, who holds a lock beside it as long as they live.
struct Held {
    _lock: fs::File,
}

impl Held {
    fn new(work: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(work)?;
        let lock = fs::File::create(work.join("lock"))?;
        lock.lock()?;
        Ok(Self { _lock: lock })
    }
}

fn is_held(work: &Path) -> bool {
    let lock = fs::File::open(work.join("lock"));
    lock.is_ok_and(|lock| lock.try_lock().is_err())
}

fn unique() -> String {
    format!("{}-{:x}", std::process::id(), rand())
}

/// Tells apart what one process makes at the same time.
fn rand() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let json = serde_json::to_vec(value).map_err(io::Error::from).doing(writing)?;
    let fresh = path.with_extension(unique());
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).doing(writing)?;
    file.write_all(&json).and_then(|()| file.sync_all()).doing(writing)?;
    fs::rename(&fresh, path).doing(writing)
}
