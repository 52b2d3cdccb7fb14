//! Serves the pod's network from a thread of the shim.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use netstack::SwitchPort;

use super::{logs, threads};

/// Serves while it lives, then gives the pod's address back.
pub(crate) struct Serving {
    port: Arc<SwitchPort>,
    _running: OwnedFd,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The thread may not come to it before the process ends.
        self.port.release();
    }
}

pub(crate) fn serve(port: SwitchPort, tun: OwnedFd) -> io::Result<Serving> {
    let port = Arc::new(port);
    let (stop, running) = logs::pipe()?;
    let mut config = netstack::Config::new(tun);
    config.offload = true;
    config.pod_ip = port.address();
    // Unused where the pod has no IPv6.
    config.pod_ip6 = Some(netstack::pod_ip6(port.address()));
    config.switch = Some(port.clone());
    threads::spawn("network", move || {
        if let Err(error) = netstack::run(config, stop) {
            eprintln!("the pod's network has ended: {error}");
        }
    })?;
    Ok(Serving { port, _running: running })
}
