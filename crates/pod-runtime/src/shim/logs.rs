//! Writes a container's output as Kubernetes' CRI log format, in two files of bounded size.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock;

/// A file that has grown so large makes place for a new one.
const FILE_SIZE: u64 = 16 << 20;
/// A longer line is written in parts, as containerd does.
const LINE: usize = 16 << 10;
/// A line without its end is written as a part after so long, e.g. a prompt.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Copies until both streams have ended, and shows everything to `tap` as it comes. A terminal's
/// output counts as stdout.
pub(crate) fn copy(
    path: &Path,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    tap: impl Fn(&str, &[u8]),
) {
    let mut log = Log::new(path.to_owned());
    let mut sources = vec![Source::new("stdout", stdout)];
    sources.extend(stderr.map(|fd| Source::new("stderr", fd)));
    while !sources.is_empty() {
        let ready = wait(&sources);
        let now = clock::now();
        sources.retain_mut(|source| {
            let open = match ready {
                Ready::Idle => {
                    source.flush(now, &mut log.pending);
                    Ok(())
                }
                Ready::Data => source.read(now, &mut log.pending, &tap),
            };
            if open.is_err() {
                source.flush(now, &mut log.pending);
            }
            open.is_ok()
        });
        // A full disk must not stop the program: what cannot be written is lost.
        log.write().ok();
    }
}

enum Ready {
    Data,
    Idle,
}

fn wait(sources: &[Source]) -> Ready {
    let mut waits: Vec<_> =
        sources.iter().map(|source| PollFd::new(&source.file, PollFlags::IN)).collect();
    let unfinished = sources.iter().any(|source| !source.line.is_empty());
    match rustix::io::retry_on_intr(|| poll(&mut waits, unfinished.then_some(&PATIENCE))) {
        Ok(0) => Ready::Idle,
        _ => Ready::Data,
    }
}

struct Source {
    name: &'static str,
    file: File,
    line: Vec<u8>,
}

impl Source {
    fn new(name: &'static str, fd: OwnedFd) -> Self {
        Self { name, file: File::from(fd), line: Vec::new() }
    }

    /// Takes what is there; an error is the end.
    fn read(
        &mut self,
        now: Timestamp,
        into: &mut Vec<u8>,
        tap: &impl Fn(&str, &[u8]),
    ) -> io::Result<()> {
        let mut wait = [PollFd::new(&self.file, PollFlags::IN)];
        if poll(&mut wait, Some(&Timespec::default()))? == 0 {
            return Ok(());
        }
        let mut buffer = [0; 64 << 10];
        match (&self.file).read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.take(&buffer[..count], now, into);
                tap(self.name, &buffer[..count]);
                Ok(())
            }
            // Whoever is attached to a terminal does not wait for it, and so it does for nobody.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, mut bytes: &[u8], now: Timestamp, into: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = LINE - self.line.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let count = end.unwrap_or(bytes.len().min(room));
            self.line.extend(&bytes[..count]);
            bytes = &bytes[count + usize::from(end.is_some())..];
            if end.is_some() {
                self.emit('F', now, into);
            } else if self.line.len() == LINE {
                self.emit('P', now, into);
            }
        }
    }

    /// Writes what there is of a line.
    fn flush(&mut self, now: Timestamp, into: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.emit('P', now, into);
        }
    }

    fn emit(&mut self, tag: char, now: Timestamp, into: &mut Vec<u8>) {
        into.extend(format!("{now:.9} {} {tag} ", self.name).bytes());
        into.append(&mut self.line);
        into.push(b'\n');
    }
}

struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    pending: Vec<u8>,
}

impl Log {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None, size: 0, pending: Vec::new() }
    }

    /// Writes what is pending; lines are never divided between files.
    fn write(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        if self.size > 0 && self.size + pending.len() as u64 > FILE_SIZE {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            (self.file, self.size) = (None, 0);
        }
        if self.file.is_none() {
            let mut options = File::options();
            self.file = Some(options.create(true).append(true).mode(0o600).open(&self.path)?);
        }
        self.size += pending.len() as u64;
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(&pending))
    }
}

/// Makes the file that `copy` will append to, so that a reader finds it before any output.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    File::options().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// Returns the bytes that all files of a log have on disk.
pub(crate) fn size(path: &Path) -> u64 {
    let names =
        [path.to_owned(), path.with_extension("log.1"), path.with_extension("log.previous")];
    let blocks = names.iter().filter_map(|path| Some(fs::metadata(path).ok()?.blocks()));
    blocks.sum::<u64>() * 512
}

/// Keeps the log of a run that has ended under another name, and nothing of those before.
pub(crate) fn put_aside(path: &Path) -> io::Result<()> {
    match fs::remove_file(path.with_extension("log.1")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::rename(path, path.with_extension("log.previous")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns a pipe's ends, reading one first.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (read, _write) = pipe().unwrap();
        let mut source = Source::new("stdout", read);
        let mut out = Vec::new();
        let now = Timestamp::from_second(1).unwrap();
        chunks.iter().for_each(|chunk| source.take(chunk, now, &mut out));
        source.flush(now, &mut out);
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let at = "1970-01-01T00:00:01.000000000Z stdout";
        assert_eq!(
            lines(&[b"a\nb", b"c\n\nd"]),
            [format!("{at} F a"), format!("{at} F bc"), format!("{at} F "), format!("{at} P d"),]
        );
    }

    #[test]
    fn long_lines_are_written_in_parts() {
        let long = vec![b'x'; LINE + 1];
        let lines = lines(&[&long, b"\n"]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(" P xx") && lines[1].ends_with(" F x"));
    }
}
