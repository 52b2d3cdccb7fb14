//! Threads of a shim: small ones, since there may be hundreds of shims.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Enough for everything a shim does.
const STACK: usize = 256 << 10;

/// Starts a thread. All end with the process, which ends with the pod.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run)
}
