//! Which build of `loom` a process runs.

use std::os::unix::fs::MetadataExt;

use crate::failure::{Doing, Failure};

/// Returns what tells this build from others: version, size and time of the running binary.
///
/// It is a look at one inode; reading the binary would cost more than starting a weaver.
pub(crate) fn id() -> Result<String, Failure> {
    let meta = std::fs::metadata("/proc/self/exe").doing("cannot look at the running program")?;
    let time = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(format!("{}-{:x}-{time:x}", env!("CARGO_PKG_VERSION"), meta.size()))
}
