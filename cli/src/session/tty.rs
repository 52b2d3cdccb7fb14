//! This terminal: its size, raw mode, and everything put back at the end however that comes.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
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

/// Raw mode. Dropping it, or a panic, restores the terminal.
pub(crate) struct Raw(Arc<Mutex<Held>>);

struct Held {
    /// The settings to go back to; taken by whoever restores first.
    before: Option<Termios>,
    modes: Modes,
    /// Whether the cursor stands behind something, as far as the last byte tells.
    line_begun: bool,
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
        let held = Held { before: Some(before), modes, line_begun: false };
        let held = Arc::new(Mutex::new(held));
        let in_panic = Arc::clone(&held);
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore(&in_panic);
            usual(panic);
        }));
        Ok(Self(held))
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
    let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &before);
}
