//! A container's own standard streams: its log hears them all, and whoever is attached.
//!
//! Output waits for those who are attached, as it does in Kubernetes: what they see has no holes.
//! One who takes nothing for long is let go.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{logs, server, threads};
use crate::clock;
use crate::control::{self, ExecInput, ExecOutput, Reply};
use crate::fdpass;
use crate::spec::ContainerSpec;
use crate::zygote::failure::{Failure, Step};
use crate::zygote::message::Stdio;

/// How long a container waits for somebody to take a piece of its output.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container's standard streams before it runs: our ends and theirs.
pub(super) struct Pipes {
    pub(super) stdio: Stdio,
    stdout: Option<(OwnedFd, OwnedFd)>,
    stderr: Option<(OwnedFd, OwnedFd)>,
    stdin: Option<(OwnedFd, OwnedFd)>,
}

impl Pipes {
    pub(super) fn new(spec: &ContainerSpec) -> io::Result<Self> {
        if spec.tty {
            let none = (None, None, None);
            let (stdout, stderr, stdin) = none;
            return Ok(Self { stdio: Stdio::Terminal, stdout, stderr, stdin });
        }
        Ok(Self {
            stdio: Stdio::Pipes { stdin: spec.stdin },
            stdout: Some(logs::pipe()?),
            stderr: Some(logs::pipe()?),
            stdin: if spec.stdin { Some(logs::pipe()?) } else { None },
        })
    }

    pub(super) fn theirs(&self) -> Vec<BorrowedFd<'_>> {
        let out = [&self.stdout, &self.stderr].into_iter().flatten().map(|(_, write)| write);
        out.chain(self.stdin.as_ref().map(|(read, _)| read)).map(AsFd::as_fd).collect()
    }

    /// Copies our ends into the log and to those who are attached; theirs are closed here.
    pub(super) fn into_console(
        self,
        master: Option<OwnedFd>,
        path: PathBuf,
    ) -> io::Result<(Arc<Console>, JoinHandle<()>)> {
        let terminal = master.as_ref().map(OwnedFd::try_clone).transpose()?;
        let stdin = match &terminal {
            Some(terminal) => Some(terminal.try_clone()?),
            None => self.stdin.map(|(_, write)| write),
        };
        let stdout = master.or(self.stdout.map(|(read, _)| read));
        let stderr = self.stderr.map(|(read, _)| read);
        let stdout = stdout.ok_or(io::ErrorKind::NotFound)?;
        let streams = Streams { stdin, viewers: Vec::new(), ended: false };
        let console = Arc::new(Console { terminal, streams: Mutex::new(streams) });
        let tapped = console.clone();
        let copy = move || {
            logs::copy(&path, stdout, stderr, |name, bytes| tapped.show(name, bytes));
        };
        Ok((console, threads::spawn("log", copy)?))
    }
}

/// The streams of a container that runs.
pub(crate) struct Console {
    terminal: Option<OwnedFd>,
    streams: Mutex<Streams>,
}

struct Streams {
    stdin: Option<OwnedFd>,
    viewers: Vec<Arc<Viewer>>,
    ended: bool,
}

/// Somebody who sees what the container writes.
struct Viewer {
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    control: UnixStream,
}

/// Somebody's part in a console, until it is dropped.
pub(super) struct Attached {
    console: Arc<Console>,
    viewer: Arc<Viewer>,
}

impl Console {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the ends of new pipes to the other end of `stream`.
    pub(super) fn attach(
        self: &Arc<Self>,
        stdin: bool,
        stream: &UnixStream,
    ) -> Result<Attached, Failure> {
        let (stdout, out) = logs::pipe().step("making pipes")?;
        let errors =
            if self.terminal.is_none() { Some(logs::pipe().step("making pipes")?) } else { None };
        let (stderr, err) = errors.unzip();
        let control = stream.try_clone().step("copying a connection")?;
        let mut streams = self.streams();
        if streams.ended {
            return Err(Failure::Gone);
        }
        let input = streams.stdin.as_ref().filter(|_| stdin);
        let fds: Vec<_> = [Some(&stdout), stderr.as_ref(), input]
            .into_iter()
            .flatten()
            .map(AsFd::as_fd)
            .collect();
        let reply = Reply::Attached { stderr: stderr.is_some(), stdin: input.is_some() };
        fdpass::send_all(stream, &control::line(&reply), &fds).step("handing pipes over")?;
        for fd in [Some(&out), err.as_ref()].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true).map_err(io::Error::from).step("making pipes")?;
        }
        let viewer = Arc::new(Viewer { stdout: out, stderr: err, control });
        streams.viewers.push(viewer.clone());
        Ok(Attached { console: self.clone(), viewer })
    }

    /// Shows output to all who are attached.
    fn show(&self, name: &str, bytes: &[u8]) {
        let viewers = self.streams().viewers.clone();
        for viewer in viewers {
            let fd = if name == "stderr" { viewer.stderr.as_ref() } else { Some(&viewer.stdout) };
            if fd.is_some_and(|fd| write_soon(fd, bytes).is_err()) {
                self.remove(&viewer);
            }
        }
    }

    fn remove(&self, gone: &Arc<Viewer>) {
        self.streams().viewers.retain(|viewer| !Arc::ptr_eq(viewer, gone));
    }

    /// Tells all that the container has ended. All its output was shown.
    pub(super) fn close(&self, code: i32) {
        let viewers = {
            let mut streams = self.streams();
            (streams.ended, streams.stdin) = (true, None);
            std::mem::take(&mut streams.viewers)
        };
        for viewer in viewers {
            // Who has left need not know.
            (&viewer.control).write_all(&control::line(&ExecOutput::Exit(code))).ok();
            viewer.control.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Attached {
    /// Does what he says until he leaves.
    pub(super) fn attend(&self, stream: &UnixStream) -> io::Result<()> {
        server::hear(stream, |input| match (input, &self.console.terminal) {
            (ExecInput::Resize { rows, cols }, Some(terminal)) => {
                server::resize(terminal, rows, cols);
            }
            (ExecInput::Resize { .. }, None) => {}
            (ExecInput::CloseStdin, _) => self.console.streams().stdin = None,
        });
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.console.remove(&self.viewer);
    }
}

/// Writes all, waiting for room for a while.
fn write_soon(fd: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    let until = clock::uptime() + PATIENCE;
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = until.saturating_sub(clock::uptime());
                let left = Timespec::try_from(left).map_err(io::Error::other)?;
                let mut wait = [PollFd::new(fd, PollFlags::OUT)];
                if rustix::io::retry_on_intr(|| poll(&mut wait, Some(&left)))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
