//! The folder of a pod: names, atomic writes, and sockets whose path may be of any length.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The control socket's name.
const SOCKET: &str = "s";

/// How a shim is recognized after its parent has forgotten it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimIdentity {
    pub(crate) pid: i32,
    /// Clock ticks since boot, from `/proc/PID/stat`: pids are used again, this pair is not.
    pub(crate) start_time: u64,
    /// The same pair of the pod's first process.
    pub(crate) zygote: (i32, u64),
    pub(crate) boot_id: String,
    /// The binary that it runs and that its pod's tools volume shows.
    pub(crate) binary: PathBuf,
    /// Folders to remove once all processes are gone.
    pub(crate) cgroups: Vec<PathBuf>,
    /// How ids inside map to ids outside; needed to remove files owned by them.
    pub(crate) ids: crate::shim::ids::IdMap,
}

/// A pod's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns its last part: the id of a pod.
    pub(crate) fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Makes it with what a shim expects inside; fails when it is there.
    pub(crate) fn create(&self) -> io::Result<()> {
        self.create_held().map(drop)
    }

    /// Makes it, and holds it from the beginning for as long as the file or a copy is open. Only
    /// its shim gets one: nothing else tells that a shim lives that has not said who it is.
    pub(crate) fn create_held(&self) -> io::Result<File> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        private.create(&self.0)?;
        let lock = File::options().write(true).create_new(true).mode(0o600).open(self.lock())?;
        lock.try_lock()?;
        private.create(self.0.join("logs"))?;
        private.create(self.files())?;
        Ok(lock)
    }

    /// Tells whether the shim or the pod's first process lives. Of a pod that was made in a spare
    /// only [`ShimIdentity`] tells.
    pub(crate) fn is_held(&self) -> bool {
        let Ok(lock) = File::open(self.lock()) else { return false };
        matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
    }

    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.0.join("fs")
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    pub(crate) fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.0.join("shim.json")
    }

    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// Returns where new files of a volume wait until the shim has taken them.
    pub(crate) fn fresh(&self, volume: &str) -> PathBuf {
        self.0.join(format!("fresh-{volume}"))
    }

    pub(crate) fn log(&self, container: &str) -> PathBuf {
        self.0.join("logs").join(format!("{container}.log"))
    }

    /// Connects to the shim. The path goes through an open folder: `sun_path` has 108 bytes.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let folder = File::open(&self.0)?;
        UnixStream::connect(short(&folder))
    }

    /// Listens in place of a shim.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let folder = File::open(&self.0)?;
        UnixListener::bind(short(&folder))
    }
}

fn short(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

/// Writes a value so that a reader sees the old one or the new one, whole. When the disk is full it
/// takes the blocks of the old one: how a pod ended that has filled the disk must be kept.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let json = serde_json::to_vec(value)?;
    match write_beside(path, &json) {
        Err(full) if full.kind() == io::ErrorKind::StorageFull => {
            write_over(path, &json).map_err(|_| full)
        }
        written => written,
    }
}

fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&fresh)?.write_all(bytes)?;
    fs::rename(&fresh, path)
}

fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

/// Reads a value that [`write_json`] wrote.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Refuses what could leave the folder or be mistaken for another name.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match (1..=128).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fine) {
        true => Ok(()),
        false => Err(Error::Name(name.to_owned())),
    }
}

/// Returns when a process was started, in clock ticks since boot; `None` when there is none.
/// One that has ended and was not waited for yet still counts.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|(_, start_time)| start_time)
}

/// Whether this very process lives, and not another with its pid.
pub(crate) fn is_alive(pid: i32, started: u64) -> bool {
    stat(pid).is_some_and(|(state, start_time)| start_time == started && !"ZX".contains(state))
}

/// Returns state and start time, see proc_pid_stat(5).
fn stat(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may hold anything, even parentheses; state is the third, this the 22nd.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Returns what tells one start of the machine from another.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for bad in ["", ".", "..", "a/b", ".x", "a b", "\0", &"x".repeat(129)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name("01890a5d-ac96-774b-bcce-b302099a8057").is_ok());
    }

    /// Pods outlive the build that started them: what is asserted here was written by one. Only
    /// what has a default may come later.
    #[test]
    fn what_shims_of_other_builds_write_is_read() {
        let shim = r#"{"pid": 7, "start_time": 8, "zygote": [9, 10], "boot_id": "b", "binary": "/b",
            "cgroups": ["/c"], "ids": {"range": {"uid": 1, "gid": 2}}, "later": {"more": [1]}}"#;
        let shim: ShimIdentity = serde_json::from_str(shim).unwrap();
        assert_eq!((shim.pid, shim.zygote), (7, (9, 10)));
        let status = r#"{"started_at": "2026-01-01T00:00:00Z", "ip": null, "network": "user",
            "limits_not_enforced": null, "init_containers": [], "containers": [{"name": "main",
            "state": {"state": "running", "started_at": "2026-01-01T00:00:00Z", "later": 1},
            "started": true, "later": 1}], "reason": null, "later": [true]}"#;
        let status: crate::spec::PodStatus = serde_json::from_str(status).unwrap();
        assert_eq!((status.over, status.notes.len()), (None, 0));
        assert!(status.containers[0].ready, "who knows no readiness is ready");
        assert_eq!((status.containers[0].restarts, &status.containers[0].last), (0, &None));
    }

    #[test]
    fn the_own_start_time_is_stable() {
        let pid = std::process::id().cast_signed();
        assert!(start_time(pid).is_some());
        assert_eq!(start_time(pid), start_time(pid));
        assert_eq!(start_time(0), None);
    }
}
