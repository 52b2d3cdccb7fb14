//! A copy of the output for `kubectl logs`, which nobody ever waits for.

use std::os::fd::{AsFd, OwnedFd};

use bytes::{Buf, BytesMut};
use rustix::fs::{FileType, Mode, OFlags};
use tokio::io::unix::AsyncFd;

use crate::watch::{Watched, set_nonblocking, watch};

/// Most bytes that wait to be written; what comes beyond is dropped.
const WAITING: usize = 256 * 1024;

/// One stream of the log.
#[derive(Debug)]
pub(crate) struct Log {
    /// `None` where writing never waits (a plain file), or nothing can be written at all.
    watched: Option<Watched>,
    plain: Option<OwnedFd>,
    waiting: BytesMut,
    lost: u64,
}

impl Log {
    /// Writes to a standard stream from now on.
    ///
    /// A pipe or terminal is opened anew, so that others who share it do not find it non-blocking.
    pub(crate) fn new(standard: impl AsFd, number: u32) -> Self {
        let mut log = Self { watched: None, plain: None, waiting: BytesMut::new(), lost: 0 };
        let Ok(own) = standard.as_fd().try_clone_to_owned() else { return log };
        let kind = rustix::fs::fstat(&own).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if matches!(kind, Ok(FileType::RegularFile)) {
            log.plain = Some(own);
            return log;
        }
        let path = format!("/proc/self/fd/{number}");
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).unwrap_or_else(|_| {
            let _ = set_nonblocking(&own);
            own
        });
        match watch(fd) {
            Ok(watched) => log.watched = Some(watched),
            // Such as /dev/null: never waits.
            Err((fd, _)) => log.plain = Some(fd),
        }
        log
    }

    /// Takes output, or drops it when too much waits.
    pub(crate) fn push(&mut self, data: &[u8]) {
        if self.waiting.len() + data.len() > WAITING {
            self.lost += data.len() as u64;
            return;
        }
        if self.lost > 0 {
            let note = format!("\r\n[loom: {} bytes are missing in this log]\r\n", self.lost);
            self.waiting.extend_from_slice(note.as_bytes());
            self.lost = 0;
        }
        self.waiting.extend_from_slice(data);
        self.write();
    }

    /// Says whether something waits to be written.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits until something of it can be written, and writes it; may be dropped at any time.
    pub(crate) async fn go_on(&mut self) {
        let Some(watched) = &self.watched else { return };
        if let Ok(mut guard) = watched.writable().await {
            guard.clear_ready();
        }
        self.write();
    }

    /// Writes what can be written at once.
    fn write(&mut self) {
        let fd = self.watched.as_ref().map(AsyncFd::get_ref).or(self.plain.as_ref());
        let Some(fd) = fd else { return self.waiting.clear() };
        while !self.waiting.is_empty() {
            match rustix::io::write(fd, &self.waiting) {
                Ok(written) => self.waiting.advance(written),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => self.waiting.clear(),
            }
        }
    }
}
