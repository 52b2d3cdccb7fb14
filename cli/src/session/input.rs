//! Standard input as it comes, without a thread that would swallow a byte too many.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most bytes that are read at once.
const PIECE: usize = 16 * 1024;

/// Standard input.
pub(crate) enum Input {
    /// A terminal, pipe or socket: read when there is something.
    Polled(AsyncFd<OwnedFd>),
    /// A file: it never makes one wait.
    File(OwnedFd),
    /// It has ended.
    Ended,
}

impl Input {
    /// Takes standard input.
    #[expect(deprecated, reason = "an OwnedFd keeps its number, and its successor is unsafe")]
    pub(crate) fn stdin() -> Self {
        let Ok(fd) = std::io::stdin().as_fd().try_clone_to_owned() else { return Self::Ended };
        match AsyncFd::try_with_interest(fd, Interest::READABLE) {
            Ok(polled) => Self::Polled(polled),
            Err(error) => Self::File(error.into_parts().0),
        }
    }

    /// Returns the next bytes; empty once at the end, and never again.
    ///
    /// It may be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        let bytes = match self {
            Self::Polled(polled) => match readable(polled).await {
                Ok(()) => read(polled.get_ref()),
                Err(_) => Vec::new(),
            },
            Self::File(file) => {
                tokio::task::yield_now().await;
                read(file)
            }
            Self::Ended => return std::future::pending().await,
        };
        if bytes.is_empty() {
            *self = Self::Ended;
        }
        bytes
    }
}

/// Waits until a read would not wait. The descriptor stays blocking: others share it.
async fn readable(polled: &AsyncFd<OwnedFd>) -> std::io::Result<()> {
    loop {
        let mut ready = polled.readable().await?;
        let mut asked = [PollFd::new(polled.get_ref(), PollFlags::IN)];
        if poll(&mut asked, Some(&Timespec::default()))? > 0 {
            return Ok(());
        }
        ready.clear_ready();
    }
}

fn read(fd: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; PIECE];
    loop {
        match rustix::io::read(fd, &mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                return bytes;
            }
            Err(rustix::io::Errno::INTR) => {}
            // EIO is a terminal that was hung up: the end.
            Err(_) => return Vec::new(),
        }
    }
}
