//! Pods as objects: what is filled in, what is refused, what their fields mean here.

pub(crate) mod defaults;
mod fields;
mod probes;
pub(crate) mod quantity;
pub(crate) mod update;
pub(crate) mod validate;
mod volumes;

/// The image that shows the host's programs.
pub(crate) const HOST_IMAGE: &str = "loom.local/host";
/// The image that holds `loom-host`.
pub(crate) const TOOLS_IMAGE: &str = "loom.local/tools";
