//! Garbage collection: dependents go with the last of their owners, hold it back, or are let go,
//! as the owner's deletion asked.
//!
//! ```text
//! changes -> who depends on whom -> dependents of what is gone -> deleted
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::{self, kinds};
use crate::store::{Decision, Key, Object, Store, WriteError};

/// Set by a deletion that lets dependents go.
pub(crate) const ORPHAN: &str = "orphan";
/// Set by a deletion that waits for dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
const BATCH: usize = 1024;

/// Who depends on whom, kept by reading changes.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    seen: u64,
    /// By an owner's uid.
    dependents: BTreeMap<String, BTreeSet<Key>>,
    /// The uids of an object's owners.
    owners: BTreeMap<Key, Vec<String>>,
    /// Deleted objects that something has to be done about first.
    waiting: BTreeSet<Key>,
    /// Objects whose owners have to be looked at.
    doubtful: BTreeSet<Key>,
}

/// What an owner is to what depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Present,
    Gone,
    /// It waits for its dependents to go.
    Waiting,
}

impl Collector {
    /// Begins with what exists.
    pub(crate) fn new(store: &Store) -> Self {
        let mut collector = Self { seen: store.version(), ..Self::default() };
        for kind in kinds::KINDS {
            for object in store.list(kind.resource, "").0 {
                collector.note(&Key::of(kind.resource, &object), &object, false);
            }
        }
        collector
    }

    /// Takes note of all changes and does what follows from them.
    pub(crate) fn step(&mut self, store: &Store) {
        loop {
            match store.since(self.seen, BATCH) {
                Ok(changes) if changes.is_empty() => break,
                Ok(changes) => {
                    for change in changes {
                        self.seen = change.version;
                        self.note(&change.key, &change.object, change.deleted);
                    }
                }
                Err(_) => *self = Self::new(store),
            }
        }
        for key in std::mem::take(&mut self.doubtful) {
            judge(store, &key);
        }
        for key in self.waiting.clone() {
            self.finish(store, &key);
        }
    }

    fn note(&mut self, key: &Key, object: &Value, deleted: bool) {
        for uid in self.owners.remove(key).unwrap_or_default() {
            if let Some(dependents) = self.dependents.get_mut(&uid) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(&uid);
                }
            }
        }
        let uids: Vec<String> = references(object).map(|owner| text(owner, "uid")).collect();
        if !deleted && !uids.is_empty() {
            for uid in &uids {
                self.dependents.entry(uid.clone()).or_default().insert(key.clone());
            }
            self.owners.insert(key.clone(), uids);
            self.doubtful.insert(key.clone());
        }
        let waits =
            !deleted && is_deleted(object) && (has(object, ORPHAN) || has(object, FOREGROUND));
        if waits {
            self.waiting.insert(key.clone());
        } else {
            self.waiting.remove(key);
        }
        if deleted || waits && has(object, FOREGROUND) {
            let of = self.dependents.get(&text(&object["metadata"], "uid"));
            self.doubtful.extend(of.into_iter().flatten().cloned());
        }
    }

    /// Lets a deleted object go once nothing that depends on it holds it.
    fn finish(&self, store: &Store, key: &Key) {
        let Some(object) = store.get(key) else { return };
        let uid = text(&object["metadata"], "uid");
        let dependents = || self.dependents.get(&uid).into_iter().flatten();
        if has(&object, ORPHAN) {
            dependents().for_each(|key| let_go(store, key, |owner| owner["uid"] == uid));
            release(store, key, ORPHAN);
        } else if !dependents().any(|key| blocks(store, key, &uid)) {
            release(store, key, FOREGROUND);
        }
    }
}

fn references(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn is_deleted(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

fn has(object: &Value, finalizer: &str) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|finalizers| finalizers.iter().any(|name| name == finalizer))
}

fn blocks(store: &Store, key: &Key, owner: &str) -> bool {
    let blocks =
        |reference: &Value| reference["uid"] == owner && reference["blockOwnerDeletion"] == true;
    store.get(key).is_some_and(|object| references(&object).any(blocks))
}

/// Deletes an object that no owner wants any more, or drops the owners that are no more.
fn judge(store: &Store, key: &Key) {
    let Some(object) = store.get(key).filter(|object| !is_deleted(object)) else { return };
    let owners: Vec<Owner> = references(&object).map(|owner| owner_of(store, key, owner)).collect();
    if owners.iter().all(|owner| *owner == Owner::Present) {
        return;
    }
    if owners.contains(&Owner::Present) {
        return let_go(store, key, |owner| owner_of(store, key, owner) != Owner::Present);
    }
    if let Err(refusal) = api::delete(store, key) {
        tracing::warn!(refusal = %refusal.body(), "a dependent could not be deleted");
    }
}

/// Finds an owner. Of kinds that are not served nothing is known, and so nothing is done.
fn owner_of(store: &Store, dependent: &Key, reference: &Value) -> Owner {
    let known = kinds::KINDS.iter().find(|kind| {
        reference["kind"] == kind.kind && reference["apiVersion"] == kind.group_version()
    });
    let Some(kind) = known.filter(|k| !k.namespaced || !dependent.namespace.is_empty()) else {
        return Owner::Present;
    };
    let namespace = if kind.namespaced { dependent.namespace.as_str() } else { "" };
    let found: Option<Object> =
        store.get(&Key::new(kind.resource, namespace, &text(reference, "name")));
    match found.filter(|owner| owner["metadata"]["uid"] == reference["uid"]) {
        None => Owner::Gone,
        Some(owner) if is_deleted(&owner) && has(&owner, FOREGROUND) => Owner::Waiting,
        Some(_) => Owner::Present,
    }
}

/// Removes some owners from an object.
fn let_go(store: &Store, key: &Key, gone: impl Fn(&Value) -> bool) {
    let Some(object) = store.get(key) else { return };
    // Owners are looked up before: the store is locked while it decides.
    let gone: Vec<&Value> = references(&object).filter(|owner| gone(owner)).collect();
    let updated = store.update(key, |object| -> Result<Decision, WriteError> {
        let mut new = Value::clone(object);
        let left = references(object).filter(|owner| !gone.contains(owner));
        let left: Vec<Value> = left.cloned().collect();
        if left.is_empty() {
            if let Some(meta) = new["metadata"].as_object_mut() {
                meta.remove("ownerReferences");
            }
        } else {
            new["metadata"]["ownerReferences"] = left.into();
        }
        Ok(Decision::Put(new))
    });
    if let Err(error) = updated {
        tracing::debug!(%error, "a dependent was gone before its owner");
    }
}

fn release(store: &Store, key: &Key, finalizer: &str) {
    if let Err(refusal) = api::release(store, key, finalizer) {
        tracing::debug!(refusal = %refusal.body(), "an owner was gone before its finalizer");
    }
}
