//! The process that owns one pod.

pub(crate) mod cgroup;
pub(crate) mod clean;
pub(crate) mod ids;

use std::ffi::OsString;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// What a shim says on its standard output once: the pod stands, or why it does not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StartReport {
    Ready,
    Unsupported { cause: String, fix: String },
    Failed(String),
}

/// Runs a shim: what `BINARY pod-shim ARGS…` must call, with the arguments after `pod-shim`,
/// before it starts any thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = args.into_iter().count();
    ExitCode::FAILURE
}
