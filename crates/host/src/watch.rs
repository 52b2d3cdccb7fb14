//! File descriptors that the runtime watches.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use tokio::io::unix::AsyncFd;

/// A descriptor that is watched.
pub(crate) type Watched = AsyncFd<OwnedFd>;

/// Watches a descriptor; gives it back where that cannot be, as with plain files.
#[expect(deprecated, reason = "its successor is unsafe; an OwnedFd keeps what that one asks for")]
pub(crate) fn watch(fd: OwnedFd) -> Result<Watched, (OwnedFd, io::Error)> {
    AsyncFd::try_new(fd).map_err(tokio::io::unix::AsyncFdRegisterError::into_parts)
}

/// Makes reads and writes return at once.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}
