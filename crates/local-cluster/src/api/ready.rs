//! File descriptors that can be waited for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Makes a descriptor that does not block; it stays the same as long as it is waited for.
#[expect(deprecated, reason = "the other way is unsafe; an OwnedFd is not exchanged in here")]
pub(crate) fn ready(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    AsyncFd::new(fd)
}
