//! A terminal for one program: what is typed goes in, what is written becomes a screen.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex};

use pty_process::Size;
use pty_process::blocking::{Command, open};
use rustix::termios::{Termios, tcgetattr};

use super::{PATIENCE, now};

/// A program on a terminal.
pub(crate) struct Terminal {
    child: Child,
    input: std::fs::File,
    pty: Arc<pty_process::blocking::Pty>,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    /// Our own hold of the program's side, to look at its settings.
    side: OwnedFd,
    before: Termios,
}

struct Shown {
    screen: vt100::Parser,
    raw: Vec<u8>,
    ended: bool,
}

impl Terminal {
    pub(crate) fn start(
        program: &Path,
        args: Vec<String>,
        variables: Vec<(String, String)>,
    ) -> Self {
        let (pty, pts) = open().unwrap();
        pty.resize(Size::new(24, 80)).unwrap();
        let name = rustix::pty::ptsname(&pty, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let side = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
        let before = tcgetattr(&side).unwrap();
        let command = Command::new(program).args(args).env_clear().envs(variables);
        let child = command.spawn(pts).unwrap();
        let pty = Arc::new(pty);
        let screen = vt100::Parser::new(side_of(24), side_of(80), 1000);
        let shown = Shown { screen, raw: Vec::new(), ended: false };
        let shown = Arc::new((Mutex::new(shown), Condvar::new()));
        let (from, to) = (duplicate(&pty), shown.clone());
        std::thread::spawn(move || read(from, &to));
        Self { child, input: duplicate(&pty), pty, shown, side, before }
    }

    /// Types.
    pub(crate) fn send(&mut self, typed: &str) {
        self.input.write_all(typed.as_bytes()).unwrap();
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, rows: u16, cols: u16) {
        self.pty.resize(Size::new(rows, cols)).unwrap();
        self.shown.0.lock().unwrap().screen.screen_mut().set_size(side_of(rows), side_of(cols));
    }

    /// Returns the screen, lines without trailing spaces.
    pub(crate) fn screen(&self) -> String {
        let shown = self.shown.0.lock().unwrap();
        screen_of(&shown)
    }

    /// Returns every byte that was written.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.shown.0.lock().unwrap().raw).into_owned()
    }

    /// Waits until the screen shows a text; `\n` in front means at the beginning of a line.
    pub(crate) fn sees(&self, what: &str) {
        self.wait(what, |shown| screen_of(shown).contains(what));
    }

    /// Waits until a text was written, wherever it stands now.
    pub(crate) fn wrote(&self, what: &str) {
        self.wait(what, |shown| String::from_utf8_lossy(&shown.raw).contains(what));
    }

    /// Waits until the screen no longer shows a text.
    pub(crate) fn gone(&self, what: &str) {
        self.wait(what, |shown| !screen_of(shown).contains(what));
    }

    fn wait(&self, what: &str, is: impl Fn(&Shown) -> bool) {
        let (lock, changed) = &*self.shown;
        let end = now() + PATIENCE;
        let mut shown = lock.lock().unwrap();
        while !is(&shown) {
            let left = end.saturating_duration_since(now());
            let screen = screen_of(&shown);
            assert!(!left.is_zero(), "never saw {what:?} on:\n{screen}");
            assert!(!shown.ended, "ended without {what:?}:\n{screen}");
            shown = changed.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// Waits for the program's end and returns its exit code, -1 when a signal ended it; its
    /// terminal must be as it was.
    pub(crate) fn end(&mut self) -> i32 {
        let end = now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.drain();
                let after = tcgetattr(&self.side).unwrap();
                let same = format!("{after:?}") == format!("{:?}", self.before);
                assert!(same, "{:?}\n{after:?}", self.before);
                return status.code().unwrap_or(-1);
            }
            assert!(now() < end, "it does not end:\n{}", self.screen());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits until all that the program wrote is read: behind it comes a mark of ours.
    fn drain(&self) {
        const MARK: &[u8] = b"\x1b]0;all of it\x07";
        rustix::io::write(&self.side, MARK).unwrap();
        let (lock, changed) = &*self.shown;
        let (mut shown, waited) = changed
            .wait_timeout_while(lock.lock().unwrap(), PATIENCE, |shown| !shown.raw.ends_with(MARK))
            .unwrap();
        assert!(!waited.timed_out(), "its terminal is stuck:\n{}", screen_of(&shown));
        let end = shown.raw.len() - MARK.len();
        shown.raw.truncate(end);
    }

    /// Tells whether what is typed is passed on as it is.
    pub(crate) fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.side).unwrap().local_modes;
        !modes.contains(rustix::termios::LocalModes::ICANON)
    }

    /// Returns how many bytes were typed that whoever reads this terminal next would get.
    pub(crate) fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.side).unwrap()
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn side_of(cells: u16) -> std::num::NonZeroU16 {
    std::num::NonZeroU16::new(cells).unwrap()
}

fn duplicate(pty: &pty_process::blocking::Pty) -> std::fs::File {
    rustix::io::dup(pty).unwrap().into()
}

fn read(mut from: std::fs::File, to: &(Mutex<Shown>, Condvar)) {
    let mut bytes = [0; 8192];
    loop {
        let count = from.read(&mut bytes).unwrap_or(0);
        let mut shown = to.0.lock().unwrap();
        shown.raw.extend_from_slice(&bytes[..count]);
        shown.screen.process(&bytes[..count]);
        shown.ended = count == 0;
        to.1.notify_all();
        if count == 0 {
            return;
        }
    }
}

fn screen_of(shown: &Shown) -> String {
    format!("\n{}", shown.screen.screen().contents())
}
