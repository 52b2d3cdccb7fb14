//! The event loop.

use std::os::fd::OwnedFd;

use crate::{Config, Error};

pub(crate) fn run(_config: Config, stop: &OwnedFd) -> Result<(), Error> {
    let mut fds = [rustix::event::PollFd::new(stop, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).map_err(Error::Events)?;
    Ok(())
}
