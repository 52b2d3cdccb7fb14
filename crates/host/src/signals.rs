//! Signals: what is forwarded, who has died, and a clean start for programs.

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Something that a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// End now.
    Terminate,
    /// Pass it on to the program.
    Forward(Signal),
    /// Some process has ended.
    Child,
}

/// The signals that are listened to.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Stream,
    child: Stream,
    hangup: Stream,
    interrupt: Stream,
    quit: Stream,
    user1: Stream,
    user2: Stream,
}

impl Signals {
    /// Listens; also takes over every signal that was ignored, because what is ignored stays so in
    /// programs, while what has a handler has its default again after exec.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let ignored = ignored();
        for number in (1..=64).filter(|number| ignored >> (number - 1) & 1 == 1) {
            // Some cannot be handled; those cannot be ignored either.
            let _ = signal(SignalKind::from_raw(number));
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            child: signal(SignalKind::child())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next one; may be dropped at any time.
    pub(crate) async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Terminate,
            _ = self.child.recv() => Event::Child,
            _ = self.hangup.recv() => Event::Forward(Signal::HUP),
            _ = self.interrupt.recv() => Event::Forward(Signal::INT),
            _ = self.quit.recv() => Event::Forward(Signal::QUIT),
            _ = self.user1.recv() => Event::Forward(Signal::USR1),
            _ = self.user2.recv() => Event::Forward(Signal::USR2),
        }
    }
}

/// Unblocks all signals: whoever started us may have blocked some.
pub(crate) fn unblock() {
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Takes every process that has ended, orphans too, and returns how `pid` did if it is among them.
pub(crate) fn reap(pid: Option<Pid>) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((ended, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(ended) == pid {
            code = Some(exit_code(status));
        }
    }
    code
}

/// Returns the code as a shell has it: 128 and the signal's number for a death by signal.
fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Returns the set of ignored signals as the kernel writes it.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}
