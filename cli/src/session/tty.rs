//! This terminal: its size, raw mode, and everything put back at the end however that comes.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetwinsize, tcsetattr,
};
use wire::frame::Size;

use super::modes::Modes;
use crate::failure::{Doing, Failure};

/// Tells whether a person sits in front: both what is typed and what is shown is a terminal.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Returns the terminal's size, if there is one.
pub(crate) fn size() -> Option<Size> {
    let size = tcgetwinsize(std::io::stdout().as_fd()).ok()?;
    Size::new(size.ws_row, size.ws_col)
}

/// How long a terminal may be quiet in the middle of a paste.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// How often more of a paste is waited for.
const ROUNDS: usize = 100;

/// Raw mode. Dropping it, or a panic, restores the terminal.
pub(crate) struct Raw(Arc<Mutex<Held>>);

struct Held {
    /// The settings to go back to; taken by whoever restores first.
    before: Option<Termios>,
    modes: Modes,
    /// Whether the cursor stands behind something, as far as the last byte tells.
    line_begun: bool,
    /// Whether what was typed and not read is for whoever reads this terminal next.
    keeps_typed: bool,
}

impl Raw {
    /// Switches the terminal to raw mode.
    pub(crate) fn enter() -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).doing("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Drain, &raw)
            .doing("cannot set the terminal's settings")?;
        let modes = Modes::default();
        let held = Held { before: Some(before), modes, line_begun: false, keeps_typed: false };
        let held = Arc::new(Mutex::new(held));
        let in_panic = Arc::clone(&held);
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore(&in_panic);
            usual(panic);
        }));
        Ok(Self(held))
    }

    /// Leaves what was typed and not read to whoever reads this terminal next: the session ended as
    /// it was meant to. Otherwise that was meant for the program, and a shell might run it.
    pub(crate) fn keep_typed(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keeps_typed = true;
    }

    /// Takes note of what the program writes to the terminal.
    pub(crate) fn shown(&self, output: &[u8]) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.modes.feed(output);
        if let Some(last) = output.last() {
            held.line_begun = *last != b'\n';
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.0);
    }
}

fn restore(held: &Mutex<Held>) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(before) = held.before.take() else { return };
    let mut undo = held.modes.undo();
    if held.line_begun {
        // What is said next, by us or by the shell, is not to stand behind a prompt.
        undo.extend_from_slice(b"\r\n");
    }
    let mut stdout = std::io::stdout();
    // Nothing can be done about a terminal that is gone.
    let _ = stdout.write_all(&undo).and_then(|()| stdout.flush());
    if !held.keeps_typed {
        forget_typed();
    }
    let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &before);
}

/// Discards what was typed, and what else comes of a paste: terminals give it in pieces.
fn forget_typed() {
    let stdin = std::io::stdin();
    for _ in 0..ROUNDS {
        let flushed = tcflush(stdin.as_fd(), QueueSelector::IFlush);
        let fd = stdin.as_fd();
        let mut more = [PollFd::new(&fd, PollFlags::IN)];
        if flushed.is_err() || !matches!(poll(&mut more, Some(&QUIET)), Ok(1..)) {
            return;
        }
    }
}
