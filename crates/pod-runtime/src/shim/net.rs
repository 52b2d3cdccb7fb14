//! Serves the pod's network from a thread of the shim.

use std::io;
use std::os::fd::OwnedFd;

use super::{logs, threads};

/// Serves until the result is dropped.
pub(crate) fn serve(tun: OwnedFd) -> io::Result<OwnedFd> {
    let (stop, running) = logs::pipe()?;
    threads::spawn("network", move || {
        if let Err(error) = netstack::run(netstack::Config::new(tun), stop) {
            eprintln!("the pod's network has ended: {error}");
        }
    })?;
    Ok(running)
}
