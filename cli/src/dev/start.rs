//! Starts the daemon in the background and waits for its word; stops it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use pod_runtime::Check;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::state::{self, Running};
use super::{build, process::Process};
use crate::config::Dirs;
use crate::failure::{Doing, Failure};

/// How long the daemon may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to end: its requests get ten seconds.
const STOPPING: Duration = Duration::from_secs(20);
/// A log larger than that is put aside when the daemon starts.
const MAX_LOG: u64 = 8 * 1024 * 1024;

/// The one line that a daemon in the background says to who started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Word {
    Serves(Running),
    Failed { what: String },
}

/// Starts the daemon unless another process does so first; one of another build is replaced.
pub(crate) fn start(dirs: &Dirs) -> Result<Running, Failure> {
    // Before anything is made, so that nothing is left where no weaver can run.
    check(&pod_runtime::probe(&dirs.state))?;
    let lock = state::lock_start(dirs)?;
    if let Some(running) = Running::alive(dirs)? {
        if running.build == build::id()? && !running.ending {
            return Ok(running);
        }
        end(&running.process)?;
    }
    let see = format!("see {}", log_path(dirs).display());
    match spawn(dirs, lock)? {
        Some(Word::Serves(running)) => Ok(running),
        Some(Word::Failed { what }) => Err(Failure::new(what).next(see)),
        None => Err(Failure::new("the local cluster did not start").next(see)),
    }
}

/// Fails with the first cause for which no pod could start, and its fix.
pub(crate) fn check(checks: &[Check]) -> Result<(), Failure> {
    let Some(broken) = checks.iter().find(|check| check.fatal && !check.ok) else {
        return Ok(());
    };
    let (name, detail) = (broken.name.replace('-', " "), &broken.detail);
    let failure = Failure::new(format!("local weavers cannot run here: no {name}: {detail}"));
    Err(match &broken.fix {
        Some(fix) => failure.next(fix),
        None => failure.next("use --server-url"),
    })
}

/// Stops the daemon, if one runs; pods live on.
pub(crate) fn stop(dirs: &Dirs) -> Result<Option<Running>, Failure> {
    let _lock = state::lock_start(dirs)?;
    let Some(running) = Running::alive(dirs)? else { return Ok(None) };
    end(&running.process)?;
    Ok(Some(running))
}

fn end(process: &Process) -> Result<(), Failure> {
    // What it had acknowledged is written: ending it the hard way loses nothing.
    if process.stop(STOPPING) || process.kill(STOPPING) {
        return Ok(());
    }
    Err(Failure::new(format!("the daemon (process {}) does not end", process.pid)))
}

fn spawn(dirs: &Dirs, lock: File) -> Result<Option<Word>, Failure> {
    let binary = std::env::current_exe().doing("cannot find this program")?;
    let mut child = Command::new(&binary)
        .args(["dev", "--background"])
        .env("LOOM_STATE_DIR", &dirs.state)
        .env("LOOM_CONFIG_DIR", &dirs.config)
        .current_dir("/")
        // The daemon keeps the lock until it serves: whatever becomes of this process, the next
        // one waits for that.
        .stdin(lock)
        .stdout(Stdio::piped())
        .stderr(open_log(dirs)?)
        .spawn()
        .doing(format!("cannot start {}", binary.display()))?;
    let said = child.stdout.take().and_then(listen);
    if !matches!(said, Some(Word::Serves(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(said)
}

/// Waits for the line: it comes, or the pipe ends with the daemon.
fn listen(from: ChildStdout) -> Option<Word> {
    let time = Timespec::try_from(PATIENCE).unwrap_or_default();
    poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&time)).ok().filter(|ready| *ready > 0)?;
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// Returns the daemon's log.
pub(crate) fn log_path(dirs: &Dirs) -> PathBuf {
    dirs.state.join("daemon.log")
}

/// Opens the log for the daemon to add to.
fn open_log(dirs: &Dirs) -> Result<File, Failure> {
    let path = log_path(dirs);
    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > MAX_LOG) {
        let _ = std::fs::rename(&path, path.with_extension("log.1"));
    }
    let opened = File::options().create(true).append(true).mode(0o600).open(&path);
    opened.doing(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_and_one_fix() {
        let check_of = |name, ok, fatal| Check {
            name,
            ok,
            detail: format!("{name} is forbidden"),
            fix: Some(format!("allow {name}")),
            fatal,
        };
        let fine = [check_of("tun", false, false), check_of("mounts", true, true)];
        assert!(check(&fine).is_ok());
        let broken = [check_of("user-namespaces", false, true), check_of("mounts", false, true)];
        assert_eq!(
            check(&broken).unwrap_err().to_string(),
            "local weavers cannot run here: no user namespaces: user-namespaces is forbidden; \
             allow user-namespaces"
        );
    }
}
