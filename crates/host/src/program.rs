//! A running program and the bytes to and from it, over a terminal or over pipes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use pty_process::blocking::{Pts, Pty};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal};
use rustix::termios::{LocalModes, QueueSelector, SpecialCodeIndex, tcflush, tcgetattr};
use terminal::Size;
use tokio::io::Interest;

use crate::watch::{Watched, set_nonblocking, watch};

/// The terminal of a session; programs come and go on it.
pub(crate) struct Terminal {
    pty: Pty,
    /// Kept open, so that the terminal does not hang up between two programs.
    pts: Pts,
}

/// A program that runs.
pub(crate) struct Program {
    pub(crate) pid: Pid,
    pub(crate) out: Option<Watched>,
    pub(crate) err: Option<Watched>,
    pub(crate) input: Option<Watched>,
}

impl Terminal {
    pub(crate) fn open() -> io::Result<Self> {
        let (pty, pts) = pty_process::blocking::open().map_err(io::Error::other)?;
        set_nonblocking(&pty)?;
        Ok(Self { pty, pts })
    }

    pub(crate) fn resize(&self, size: Size) {
        let _ = self.pty.resize(pty_process::Size::new(size.rows(), size.cols()));
    }

    /// Says whether the program, not one that it has started, is in front.
    pub(crate) fn has_in_front(&self, program: &Program) -> bool {
        rustix::termios::tcgetpgrp(&self.pty).is_ok_and(|group| group == program.pid)
    }

    /// Forgets input that nobody has read, if Ctrl+C does that on this terminal as it is set now;
    /// returns what further input is written to.
    pub(crate) fn forget_input(&self) -> io::Result<Option<Watched>> {
        let now = tcgetattr(&self.pts)?;
        let flushes = now.local_modes & (LocalModes::ISIG | LocalModes::NOFLSH) == LocalModes::ISIG;
        if !flushes || now.special_codes[SpecialCodeIndex::VINTR] != 3 {
            return Ok(None);
        }
        // What is on its way first, then what has arrived.
        tcflush(&self.pty, QueueSelector::OFlush)?;
        tcflush(&self.pts, QueueSelector::IFlush)?;
        // Nobody is told that there is room again: a new watch looks for itself.
        self.input().map(Some)
    }

    fn input(&self) -> io::Result<Watched> {
        source(self.pty.as_fd().try_clone_to_owned()?)
    }

    /// Starts a program in its own session, with this as its controlling terminal.
    pub(crate) fn start(&self, command: Command) -> io::Result<Program> {
        let mut command = pty_process::blocking::Command::from(command);
        let child = command.spawn_borrowed(&self.pts).map_err(|error| match error {
            pty_process::Error::Io(error) => error,
            other => io::Error::other(other),
        })?;
        Ok(Program {
            pid: pid(&child)?,
            out: Some(source(self.pty.as_fd().try_clone_to_owned()?)?),
            err: None,
            input: Some(self.input()?),
        })
    }
}

impl Program {
    /// Starts a program on pipes, in a process group of its own; `deaf`: it gets no input.
    pub(crate) fn start(mut command: Command, deaf: bool) -> io::Result<Self> {
        command.stdin(if deaf { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn()?;
        let optional = |pipe: Option<OwnedFd>| pipe.map(source).transpose();
        Ok(Self {
            pid: pid(&child)?,
            out: optional(child.stdout.take().map(OwnedFd::from))?,
            err: optional(child.stderr.take().map(OwnedFd::from))?,
            input: optional(child.stdin.take().map(OwnedFd::from))?,
        })
    }

    /// Sends a signal to the program and what it has started, as far as that has stayed with it.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }
}

/// Reads as much as there is, up to the buffer's length; 0 when there is nothing now.
///
/// # Errors
/// Nothing will come any more.
pub(crate) fn read(source: &Watched, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        // By the source's own readiness: it must know when there is nothing left.
        let read = source.try_io(Interest::READABLE, |fd| read_once(fd, &mut buffer[filled..]));
        match read {
            Ok(0) if filled == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) if filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads once, whatever is known of readiness; 0 when there is nothing.
pub(crate) fn read_rest(source: &Watched, buffer: &mut [u8]) -> usize {
    read_once(source.get_ref(), buffer).unwrap_or(0)
}

/// Writes what can be written now.
pub(crate) fn write(source: &Watched, data: &[u8]) -> io::Result<usize> {
    source.try_io(Interest::WRITABLE, |fd| Ok(retry_on_intr(|| rustix::io::write(fd, data))?))
}

/// Writes what can be written now, whatever is known of readiness.
pub(crate) fn write_anyway(source: &Watched, data: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::io::write(source.get_ref(), data))?)
}

fn read_once(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::io::read(fd, &mut *buffer))?)
}

fn source(fd: OwnedFd) -> io::Result<Watched> {
    set_nonblocking(&fd)?;
    watch(fd).map_err(|(_, error)| error)
}

fn pid(child: &std::process::Child) -> io::Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData.into())
}
