//! One process, told from later ones with the same number by the time of its start.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks since the machine's start (proc(5), field 22 of stat).
    pub(crate) start_time: u64,
}

impl Process {
    /// Returns this process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Returns the process that has this number now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)? })
    }

    /// Tells whether it lives.
    pub(crate) fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }

    /// Ends it with SIGTERM and waits; `false` if it still lives after `patience`.
    pub(crate) fn stop(&self, patience: Duration) -> bool {
        let Some(handle) = self.handle() else { return true };
        let _ = pidfd_send_signal(&handle, Signal::TERM);
        wait(&handle, patience)
    }

    /// Ends it at once and waits.
    pub(crate) fn kill(&self, patience: Duration) -> bool {
        let Some(handle) = self.handle() else { return true };
        let _ = pidfd_send_signal(&handle, Signal::KILL);
        wait(&handle, patience)
    }

    /// Opens it; the handle cannot come to mean another process.
    fn handle(&self) -> Option<OwnedFd> {
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(handle)
    }
}

fn wait(handle: &OwnedFd, patience: Duration) -> bool {
    let time = Timespec::try_from(patience).unwrap_or_default();
    // A process's handle can be read from when it has ended.
    poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&time)).is_ok_and(|ready| ready > 0)
}

/// Reads when a process started; `None` when it is gone, or dead and not yet waited for.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so what follows the last one counts.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = Process::own().unwrap();
        assert!(own.is_alive());
        assert!(!Process { start_time: own.start_time + 1, ..own }.is_alive());
    }

    #[test]
    fn a_process_is_stopped() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process { pid, start_time: start_time(pid).unwrap() };
        assert!(process.stop(Duration::from_secs(30)));
        assert!(!process.is_alive());
        child.wait().unwrap();
        assert!(process.stop(Duration::ZERO));
    }
}
