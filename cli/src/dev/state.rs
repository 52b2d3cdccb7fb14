//! What the daemon writes down about itself: `daemon.json`, held true by a lock on `daemon.lock`.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::config::{self, Dirs};
use crate::failure::{Doing, Failure};

/// How often and how long apart the lock of a daemon is tried that does not live.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A daemon that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    #[serde(flatten)]
    pub(crate) process: Process,
    /// Which build of loom it is.
    pub(crate) build: String,
    /// Where the API is.
    pub(crate) url: String,
    /// For kubectl.
    pub(crate) kubeconfig: PathBuf,
    /// Whether it has been told to end: it lives for a while, and serves nobody any more.
    #[serde(default)]
    pub(crate) ending: bool,
}

impl Running {
    /// Returns the daemon that serves this user's state folder.
    pub(crate) fn find(dirs: &Dirs) -> Result<Option<Self>, Failure> {
        Ok(Self::alive(dirs)?.filter(|running| !running.ending))
    }

    /// Returns the daemon that lives, also when it is about to end.
    pub(crate) fn alive(dirs: &Dirs) -> Result<Option<Self>, Failure> {
        let found: Option<Self> = config::read_json(&path(dirs))?;
        Ok(found.filter(|running| running.process.is_alive()))
    }

    /// Returns where the last daemon was, whether it lives or not.
    pub(crate) fn last(dirs: &Dirs) -> Option<Self> {
        config::read_json(&path(dirs)).unwrap_or_default()
    }

    /// Lets nobody find this daemon any more.
    pub(crate) fn withdraw(self, dirs: &Dirs) -> Result<(), Failure> {
        Self { ending: true, ..self }.publish(dirs)
    }

    /// Makes this the daemon that others find.
    pub(crate) fn publish(&self, dirs: &Dirs) -> Result<(), Failure> {
        config::write_json(&path(dirs), self)
    }
}

fn path(dirs: &Dirs) -> PathBuf {
    dirs.state.join("daemon.json")
}

/// Waits for the right to start or stop the daemon; it is given back with the file.
pub(crate) fn lock_start(dirs: &Dirs) -> Result<File, Failure> {
    let file = open(dirs, "start.lock")?;
    flock(&file, FlockOperation::LockExclusive).doing("cannot lock start.lock")?;
    Ok(file)
}

/// Takes the right to be the daemon, for as long as the file is kept; `None` if there is one.
pub(crate) fn lock_daemon(dirs: &Dirs) -> Result<Option<File>, Failure> {
    let file = open(dirs, "daemon.lock")?;
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            // One that was killed holds it until every child has let go that it forked and that
            // has not executed a program yet.
            Err(rustix::io::Errno::WOULDBLOCK) if Running::alive(dirs)?.is_none() => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error).doing("cannot lock daemon.lock"),
        }
    }
    Ok(None)
}

fn open(dirs: &Dirs, name: &str) -> Result<File, Failure> {
    config::make_private(&dirs.state)?;
    let path = dirs.state.join(name);
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(&path).doing(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_daemon_and_it_must_live() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs { config: folder.path().join("c"), state: folder.path().join("s") };
        assert_eq!(Running::find(&dirs).unwrap(), None);
        let held = lock_daemon(&dirs).unwrap();
        assert!(held.is_some() && lock_daemon(&dirs).unwrap().is_none());
        drop(held);
        assert!(lock_daemon(&dirs).unwrap().is_some());
        let running = Running {
            process: Process::own().unwrap(),
            build: "b".into(),
            url: "http://127.0.0.1:1".into(),
            kubeconfig: "/k".into(),
            ending: false,
        };
        running.publish(&dirs).unwrap();
        assert_eq!(Running::find(&dirs).unwrap(), Some(running.clone()));
        running.clone().withdraw(&dirs).unwrap();
        assert_eq!(Running::find(&dirs).unwrap(), None);
        assert!(Running::alive(&dirs).unwrap().is_some());
        let process = Process { start_time: 1, ..running.process };
        Running { process, ..running }.publish(&dirs).unwrap();
        assert_eq!(Running::alive(&dirs).unwrap(), None);
        assert!(Running::last(&dirs).is_some());
    }
}
