//! What a shim knows about its pod, and who wants to hear of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::console::Console;
use super::life::Happening;
use super::link::Link;
use crate::control;
use crate::folder::{self, Folder};
use crate::spec::{Note, NoteKind, PodStatus};
use crate::zygote::message::Key;

/// How many notes are kept.
const NOTES: usize = 16;

/// A container whose first process runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) key: Key,
    /// Files that take a process into its control groups.
    pub(crate) cgroup_procs: Vec<PathBuf>,
    pub(crate) console: Arc<Console>,
}

/// Shared by the shim's threads.
pub(crate) struct Shared {
    pub(crate) link: Link,
    pub(crate) happenings: Sender<Happening>,
    zygote: i32,
    folder: Folder,
    inner: Mutex<Inner>,
}

struct Inner {
    status: PodStatus,
    running: BTreeMap<String, Running>,
    subscribers: Vec<UnixStream>,
}

impl Shared {
    pub(crate) fn new(
        folder: Folder,
        link: Link,
        happenings: Sender<Happening>,
        (status, zygote): (PodStatus, i32),
    ) -> Self {
        let inner = Inner { status, running: BTreeMap::new(), subscribers: Vec::new() };
        Self { link, happenings, zygote, folder, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the present status.
    pub(crate) fn status(&self) -> PodStatus {
        self.inner().status.clone()
    }

    /// Changes the status: on disk first, then to all subscribers.
    pub(crate) fn change(&self, change: impl FnOnce(&mut PodStatus)) {
        let mut inner = self.inner();
        change(&mut inner.status);
        if let Err(error) = folder::write_json(&self.folder.status(), &inner.status) {
            eprintln!("the status cannot be written: {error}");
        }
        let line = control::line(&inner.status);
        // One that does not read loses its connection rather than hold the pod up.
        inner.subscribers.retain_mut(|subscriber| subscriber.write_all(&line).is_ok());
    }

    /// Tells something that is forgotten after [`NOTES`] others.
    pub(crate) fn note(&self, container: &str, kind: NoteKind, message: String) {
        self.change(|status| {
            let number = status.notes.last().map_or(1, |last| last.number + 1);
            let container = container.to_owned();
            status.notes.push(Note { number, container, kind, message });
            let surplus = status.notes.len().saturating_sub(NOTES);
            status.notes.drain(..surplus);
        });
    }

    /// Sends the present status and every later one; nothing is missed between.
    pub(crate) fn subscribe(&self, mut stream: UnixStream) -> std::io::Result<()> {
        let mut inner = self.inner();
        stream.write_all(&control::line(&inner.status))?;
        stream.set_nonblocking(true)?;
        inner.subscribers.push(stream);
        Ok(())
    }

    /// Ends all subscriptions: nothing more will change.
    pub(crate) fn close(&self) {
        self.inner().subscribers.clear();
    }

    pub(crate) fn set_running(&self, container: &str, running: Option<Running>) {
        let mut inner = self.inner();
        match running {
            Some(running) => inner.running.insert(container.to_owned(), running),
            None => inner.running.remove(container),
        };
    }

    /// Moves the zygote into the groups of the pod's only container, so that programs started
    /// there are in them from birth: moving each would cost it 15 ms.
    pub(crate) fn move_zygote(&self, container: &str) {
        let Some(running) = self.running(container) else { return };
        let join = |procs: &PathBuf| std::fs::write(procs, self.zygote.to_string()).is_ok();
        if !running.cgroup_procs.iter().all(join) {
            return;
        }
        if let Some(now) = self.inner().running.get_mut(container) {
            now.cgroup_procs.clear();
        }
    }

    pub(crate) fn running(&self, container: &str) -> Option<Running> {
        self.inner().running.get(container).cloned()
    }
}
