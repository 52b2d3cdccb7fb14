//! What is said on a pod's control socket: one request a connection, JSON, a line each.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error};
use crate::fdpass;
use crate::spec::{AttachSpec, ExecSpec};

/// The longest line that is accepted.
const MAX_LINE: usize = 1 << 20;

/// Asked of a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// One line of status, then the end.
    Status,
    /// A line of status now and at every change.
    Subscribe,
    /// A [`Reply`]; then this connection is the program's control.
    Exec(ExecSpec),
    /// A [`Reply`]; then this connection is the control of what the container says and hears.
    Attach(AttachSpec),
    /// A [`Reply`] with a connection to a port of the pod's loopback; then the end.
    Dial {
        /// The port.
        port: u16,
    },
    /// A [`Reply`]; then the end.
    Stop {
        /// Milliseconds between SIGTERM and SIGKILL.
        grace_millis: u64,
    },
    /// Ends the pod for a reason that its status gives. A [`Reply`]; then the end.
    End {
        /// A CamelCase word.
        reason: String,
        /// For people.
        message: String,
        /// Milliseconds between SIGTERM and SIGKILL.
        grace_millis: u64,
    },
    /// One line of [`crate::spec::Usage`], then the end.
    Usage,
    /// Replaces the files of a volume by those in [`crate::folder::Folder::fresh`]. A [`Reply`];
    /// then the end.
    Files {
        /// The volume.
        volume: String,
    },
}

/// Answers all but [`Request::Status`], [`Request::Subscribe`] and [`Request::Usage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reply {
    /// It is so; file descriptors came along if some were asked for.
    Done,
    /// Output comes along, and errors and input if there are such, in this order.
    Attached {
        /// It has errors of their own.
        stderr: bool,
        /// It takes input, which was asked for.
        stdin: bool,
    },
    /// The container is not running.
    NotRunning(String),
    /// The program could not be started.
    Program(String),
}

/// Said on the control of a running program, by its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ExecInput {
    /// The terminal has another size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters a line.
        cols: u16,
    },
    /// A container shall read the end of its input, for good.
    CloseStdin,
}

/// Said on the control of a running program, by the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ExecOutput {
    /// It has ended; as a shell reports it.
    Exit(i32),
}

/// Returns the value as one line.
pub(crate) fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Reads one line byte by byte, so that nothing behind it is taken.
pub(crate) fn read_line(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut byte = [0];
        let (count, more) = fdpass::recv(stream, &mut byte)?;
        fds.extend(more);
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if byte[0] == b'\n' {
            return Ok((text, fds));
        }
        if text.len() == MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        text.push(byte[0]);
    }
}

/// Reads a reply and the file descriptors that came along.
pub(crate) fn read_reply(stream: &UnixStream) -> Result<Vec<OwnedFd>, Error> {
    let (text, fds) = read_line(stream).doing("reading the shim's reply")?;
    match serde_json::from_slice(&text).map_err(Error::Protocol)? {
        Reply::Done => Ok(fds),
        Reply::Attached { .. } => Err(Error::Protocol(serde::de::Error::custom("not asked for"))),
        Reply::NotRunning(name) => Err(Error::NotRunning(name)),
        Reply::Program(message) => Err(Error::Program(message)),
    }
}

/// The ends of a container's streams that were asked for.
pub(crate) struct Attached {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) stdin: Option<OwnedFd>,
}

/// Reads the reply to [`Request::Attach`].
pub(crate) fn read_attached(stream: &UnixStream) -> Result<Attached, Error> {
    let (text, fds) = read_line(stream).doing("reading the shim's reply")?;
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or(io::ErrorKind::UnexpectedEof).doing("taking a pipe");
    match serde_json::from_slice(&text).map_err(Error::Protocol)? {
        Reply::Attached { stderr, stdin } => Ok(Attached {
            stdout: next()?,
            stderr: stderr.then(&mut next).transpose()?,
            stdin: stdin.then(&mut next).transpose()?,
        }),
        Reply::Done => Err(Error::Protocol(serde::de::Error::custom("not asked for"))),
        Reply::NotRunning(name) => Err(Error::NotRunning(name)),
        Reply::Program(message) => Err(Error::Program(message)),
    }
}

/// Reads a value to the end of the stream.
pub(crate) fn read_value<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> Result<T, Error> {
    let mut text = Vec::new();
    let mut stream = stream;
    let read = stream.read_to_end(&mut text);
    let some =
        read.and_then(
            |count| if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) },
        );
    some.doing("reading the shim's answer")?;
    serde_json::from_slice(&text).map_err(Error::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shim is as old as its pod: these lines are what it knows.
    #[test]
    fn shims_of_other_builds_are_asked_in_their_words() {
        let container = "main".to_owned();
        let exec = ExecSpec { container: container.clone(), argv: vec![], tty: true, stdin: false };
        let attach = AttachSpec { container, stdin: true };
        let (reason, message) = ("Evicted".to_owned(), "m".to_owned());
        for (request, words) in [
            (Request::Status, r#""status""#),
            (Request::Subscribe, r#""subscribe""#),
            (
                Request::Exec(exec),
                r#"{"exec":{"container":"main","argv":[],"tty":true,"stdin":false}}"#,
            ),
            (Request::Attach(attach), r#"{"attach":{"container":"main","stdin":true}}"#),
            (Request::Dial { port: 80 }, r#"{"dial":{"port":80}}"#),
            (Request::Stop { grace_millis: 5 }, r#"{"stop":{"grace_millis":5}}"#),
            (
                Request::End { reason, message, grace_millis: 5 },
                r#"{"end":{"reason":"Evicted","message":"m","grace_millis":5}}"#,
            ),
            (Request::Usage, r#""usage""#),
            (Request::Files { volume: "v".to_owned() }, r#"{"files":{"volume":"v"}}"#),
        ] {
            assert_eq!(line(&request), format!("{words}\n").into_bytes());
        }
        for (reply, words) in [
            (Reply::Done, r#""done""#),
            (
                Reply::Attached { stderr: true, stdin: false },
                r#"{"attached":{"stderr":true,"stdin":false}}"#,
            ),
            (Reply::NotRunning("main".to_owned()), r#"{"notRunning":"main"}"#),
            (Reply::Program("why".to_owned()), r#"{"program":"why"}"#),
        ] {
            assert_eq!(line(&reply), format!("{words}\n").into_bytes());
        }
    }
}
