//! The last changes, for watches and for reading a moment of the past.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::key::Key;

/// An object as stored; shared, never changed in place.
pub(crate) type Object = Arc<Value>;

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) key: Key,
    /// The object before, if there was one.
    pub(crate) before: Option<Object>,
    /// The object after; of a deletion its last state, under the deletion's version.
    pub(crate) object: Object,
    pub(crate) deleted: bool,
    size: usize,
}

impl Change {
    pub(crate) fn new(
        version: u64,
        key: Key,
        before: Option<Object>,
        object: Object,
        deleted: bool,
        size: usize,
    ) -> Self {
        Self { version, key, before, object, deleted, size }
    }
}

/// Changes in order, bounded in number and in bytes.
#[derive(Debug, Default)]
pub(crate) struct History {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Versions after this one are all here.
    complete_after: u64,
}

const MAX_CHANGES: usize = 8192;
const MAX_BYTES: usize = 64 << 20;

/// The asked-for version is older than what is remembered.
#[derive(Debug)]
pub(crate) struct TooOld;

impl History {
    pub(crate) fn starting_at(version: u64) -> Self {
        Self { complete_after: version, ..Self::default() }
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.bytes += change.size;
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= oldest.size;
            self.complete_after = oldest.version;
        }
    }

    /// Returns at most `limit` changes after `version`, oldest first.
    pub(crate) fn since(&self, version: u64, limit: usize) -> Result<Vec<Arc<Change>>, TooOld> {
        if version < self.complete_after {
            return Err(TooOld);
        }
        let first = self.changes.partition_point(|change| change.version <= version);
        Ok(self.changes.iter().skip(first).take(limit).cloned().collect())
    }

    /// Returns the changes after `version`, newest first.
    pub(crate) fn back_to(
        &self,
        version: u64,
    ) -> Result<impl Iterator<Item = &Arc<Change>>, TooOld> {
        if version < self.complete_after {
            return Err(TooOld);
        }
        Ok(self.changes.iter().rev().take_while(move |change| change.version > version))
    }
}
