//! A running pod as its caller holds it: every call is one connection to its shim.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::control::{self, Attached, Request};
use crate::error::{Doing, Error};
use crate::folder::{self, Folder, ShimIdentity};
use crate::shim::{cgroup, clean};
use crate::spec::{AttachSpec, ExecSpec, FileContent, PodStatus, Usage};

/// How often and how long apart a shim is looked at that is only beginning.
pub(crate) const TRIES: u32 = 200;
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// A pod whose shim was seen alive.
#[derive(Debug, Clone)]
pub struct Pod {
    id: String,
    folder: Folder,
}

/// A program started inside a running container.
#[derive(Debug)]
pub struct Exec {
    /// Its input, if asked for; with a terminal the PTY's master.
    pub stdin: Option<OwnedFd>,
    /// Its output; with a terminal the PTY's master, whose end is EIO.
    pub stdout: OwnedFd,
    /// Its errors; with a terminal they are part of `stdout`.
    pub stderr: Option<OwnedFd>,
    /// Takes `{"resize":{"rows":R,"cols":C}}` lines, gives one line `{"exit":CODE}` at the end,
    /// when all of the program's own output is in the pipes. Closing it early ends the program.
    pub control: UnixStream,
}

impl Pod {
    pub(crate) fn new(id: &str, folder: Folder) -> Self {
        Self { id: id.to_owned(), folder }
    }

    /// Returns the pod's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what became of it so far.
    ///
    /// # Errors
    /// [`Error::Gone`] with the last status when the pod has ended.
    pub fn status(&self) -> Result<PodStatus, Error> {
        self.or_gone(control::read_value(&self.ask(&Request::Status)?))
    }

    /// Returns a stream of [`PodStatus`] as JSON lines: the present one first, then each change.
    /// It ends with the shim, after the final status.
    ///
    /// # Errors
    /// [`Error::Gone`] with the last status when the pod has ended.
    pub fn subscribe(&self) -> Result<UnixStream, Error> {
        self.ask(&Request::Subscribe)
    }

    /// Starts a program in a running container, with its user, environment and folder.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or [`Error::Program`] when it cannot be executed.
    pub fn exec(&self, spec: &ExecSpec) -> Result<Exec, Error> {
        let control = self.ask(&Request::Exec(spec.clone()))?;
        let mut fds = self.or_gone(control::read_reply(&control))?.into_iter();
        let mut next = || fds.next().ok_or(io::ErrorKind::UnexpectedEof).doing("taking a pipe");
        let stdin = if spec.stdin { Some(next()?) } else { None };
        let stdout = next()?;
        let stderr = if spec.tty { None } else { Some(next()?) };
        Ok(Exec { stdin, stdout, stderr, control })
    }

    /// Takes part in what a running container says from now on, and hears. Its `control` gives the
    /// exit code as that of [`Pod::exec`] does, takes `"closeStdin"` too, and can be closed early
    /// without harm. A container whose output is not taken waits for it, though not for long.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn attach(&self, spec: &AttachSpec) -> Result<Exec, Error> {
        let control = self.ask(&Request::Attach(spec.clone()))?;
        let Attached { stdout, stderr, stdin } = self.or_gone(control::read_attached(&control))?;
        Ok(Exec { stdin, stdout, stderr, control })
    }

    /// Connects to a port of the pod's loopback.
    ///
    /// # Errors
    /// [`Error::Program`] when nobody listens there.
    pub fn dial(&self, port: u16) -> Result<TcpStream, Error> {
        let mut fds = self.or_gone(control::read_reply(&self.ask(&Request::Dial { port })?))?;
        let stream = fds.pop().ok_or(io::ErrorKind::UnexpectedEof).doing("taking a connection")?;
        Ok(stream.into())
    }

    /// Returns where a container's output is written, in CRI format. The file before it has
    /// `.1` appended; the newest line is always in this one.
    pub fn log_path(&self, container: &str) -> PathBuf {
        self.folder.log(container)
    }

    /// Ends it: SIGTERM now, SIGKILL after `grace`. Returns at once; a shorter grace asked later
    /// shortens it. The end is seen by [`Pod::subscribe`].
    ///
    /// # Errors
    /// [`Error::Gone`] with the last status when the pod has ended already.
    pub fn stop(&self, grace: Duration) -> Result<(), Error> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.or_gone(control::read_reply(&self.ask(&Request::Stop { grace_millis })?)).map(drop)
    }

    /// Ends it as [`Pod::stop`] does, for a reason that its last status gives: a CamelCase word
    /// and a message for people.
    ///
    /// # Errors
    /// [`Error::Gone`] with the last status when the pod has ended already.
    pub fn end(&self, reason: &str, message: &str, grace: Duration) -> Result<(), Error> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let (reason, message) = (reason.to_owned(), message.to_owned());
        let request = Request::End { reason, message, grace_millis };
        self.or_gone(control::read_reply(&self.ask(&request)?)).map(drop)
    }

    /// Returns what it has written to disk. Every file is looked at: it may take long.
    ///
    /// # Errors
    /// [`Error::Gone`] with the last status when the pod has ended.
    pub fn usage(&self) -> Result<Usage, Error> {
        self.or_gone(control::read_value(&self.ask(&Request::Usage)?))
    }

    /// Replaces the files of a volume, all at once: who reads by way of the volume's folder sees
    /// the old or the new ones. What is mounted by a sub path stays as it was.
    ///
    /// # Errors
    /// [`Error::Program`] when the volume is no [`crate::spec::Volume::Files`], [`Error::Gone`].
    pub fn replace_files(
        &self,
        volume: &str,
        files: &BTreeMap<String, FileContent>,
    ) -> Result<(), Error> {
        folder::check_name(volume)?;
        let fresh = self.folder.fresh(volume);
        folder::write_json(&fresh, files).doing("writing a volume's files")?;
        let request = Request::Files { volume: volume.to_owned() };
        let asked = self.ask(&request).and_then(|stream| control::read_reply(&stream));
        // They may be secrets; the pod's folder goes with the pod in any case.
        std::fs::remove_file(fresh).ok();
        self.or_gone(asked).map(drop)
    }

    /// Removes what is left of it; kills what still runs.
    ///
    /// # Errors
    /// When a file or cgroup cannot be removed, or [`Error::Beginning`]; it can be called again.
    pub fn remove(self) -> Result<(), Error> {
        let identity = self.shim()?;
        match &identity {
            Some(identity) => {
                clean::kill_shim(identity);
                cgroup::remove(&identity.cgroups);
            }
            None => cgroup::remove_unknown(&self.folder.name()),
        }
        clean::remove_folder(&self.folder, identity.as_ref()).doing("removing the pod's folder")
    }

    /// Removes its files but for logs and status, once nothing of it runs.
    pub(crate) fn forget_files(&self) -> Result<(), Error> {
        let identity = self.shim()?;
        if let Some(identity) = &identity {
            clean::kill_shim(identity);
        }
        clean::remove_files(&self.folder, identity.as_ref()).doing("removing the pod's files")
    }

    /// Returns who the shim is or was; one that lives and has not said it yet is waited for.
    fn shim(&self) -> Result<Option<ShimIdentity>, Error> {
        for _ in 0..TRIES {
            let held = self.folder.is_held();
            let identity = folder::read_json(&self.folder.identity()).ok();
            if identity.is_some() || !held {
                return Ok(identity);
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::Beginning(self.id.clone()))
    }

    /// Connects and asks; a shim that does not answer is gone.
    fn ask(&self, request: &Request) -> Result<UnixStream, Error> {
        let ask = || -> io::Result<UnixStream> {
            let mut stream = self.folder.connect()?;
            stream.write_all(&control::line(request))?;
            Ok(stream)
        };
        ask().map_err(|_| gone(&self.folder))
    }

    /// A shim that ends while it is asked is gone too.
    fn or_gone<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        answer.map_err(|error| match error {
            Error::Io { .. } => gone(&self.folder),
            other => other,
        })
    }
}

/// Tells what a shim left behind.
pub(crate) fn gone(folder: &Folder) -> Error {
    let identity: Option<ShimIdentity> = folder::read_json(&folder.identity()).ok();
    Error::Gone {
        last: folder::read_json(&folder.status()).ok().map(Box::new),
        rebooted: identity.is_some_and(|shim| shim.boot_id != folder::boot_id()),
    }
}

impl Exec {
    /// Tells the program's terminal its size.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<(), Error> {
        let line = control::line(&control::ExecInput::Resize { rows, cols });
        (&self.control).write_all(&line).doing("resizing the terminal")
    }

    /// Waits for the end and returns the exit code. Somebody must read the output meanwhile.
    ///
    /// # Errors
    /// When the pod's shim ends first.
    pub fn wait(&self) -> Result<i32, Error> {
        let (text, _) = control::read_line(&self.control).doing("waiting for a program")?;
        let control::ExecOutput::Exit(code) =
            serde_json::from_slice(&text).map_err(Error::Protocol)?;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_that_ends_when_asked_is_gone() {
        let dir = std::env::temp_dir().join(format!("loom-pod-{}", std::process::id()));
        let folder = Folder::new(dir.clone());
        folder.create().unwrap();
        let pod = Pod::new("x", folder.clone());
        let program = ExecSpec { container: String::new(), argv: vec![], tty: false, stdin: false };
        let listener = folder.listen().unwrap();
        let shim = std::thread::spawn(move || {
            for _ in 0..3 {
                drop(listener.accept().unwrap());
            }
        });
        let answers =
            [pod.status().map(drop), pod.stop(Duration::ZERO), pod.exec(&program).map(drop)];
        shim.join().unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        for answer in answers {
            assert!(matches!(answer, Err(Error::Gone { .. })), "{answer:?}");
        }
    }
}
