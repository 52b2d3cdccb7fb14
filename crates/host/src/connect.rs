//! The other end of the socket: a byte pump for the relay's exec, and the startup probe.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// How often the socket is tried, and how long it is waited for in between: about 10 s in all.
const TRIES: u32 = 600;

/// Pumps stdin to the socket and the socket to stdout until the host ends the connection.
///
/// A relay may come before the host is up, so it waits for the socket for some seconds. The end of
/// stdin half-closes the connection; the host then closes it.
pub(crate) fn connect(socket: &Path) -> ExitCode {
    match patiently(socket).and_then(pump) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loom-host: {}: {error}", socket.display());
            ExitCode::FAILURE
        }
    }
}

/// Succeeds if the host accepts a connection now.
pub(crate) fn ready(socket: &Path) -> ExitCode {
    match UnixStream::connect(socket) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loom-host: not ready: {}: {error}", socket.display());
            ExitCode::FAILURE
        }
    }
}

fn patiently(socket: &Path) -> io::Result<UnixStream> {
    for tried in 0..TRIES {
        match UnixStream::connect(socket) {
            Err(error) if is_early(&error) => {
                thread::sleep(Duration::from_millis(if tried < 100 { 2 } else { 20 }));
            }
            result => return result,
        }
    }
    UnixStream::connect(socket)
}

fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn pump(stream: UnixStream) -> io::Result<()> {
    let (mut to, stdin) = (stream.try_clone()?, own(io::stdin())?);
    // Not joined: the process ends when the host has closed, whatever stdin does.
    thread::spawn(move || {
        let _ = copy(stdin, &mut to);
        to.shutdown(Shutdown::Write)
    });
    copy(stream, &mut own(io::stdout())?)
}

fn own(standard: impl AsFd) -> io::Result<File> {
    Ok(File::from(standard.as_fd().try_clone_to_owned()?))
}

fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&buffer[..read])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
