//! Runs one pod on this machine: shim, namespaces, mounts, images, limits, terminals, logs.
//!
//! It knows no HTTP and no Kubernetes types, and it is the only crate with `unsafe`.
//!
//! ```text
//! caller -> Runtime -> Pod --control socket--> shim (one a pod, its own session, never restarted)
//!                                               |  logs, exit statuses, probes, deadline, network
//!                                               v
//!                                             zygote (first process of the pod's namespaces)
//!                                               |  forks on request, single-threaded
//!                                               v
//!                                             containers and exec'd programs
//! ```
//!
//! A pod needs nobody but its shim: the caller may die and come back with [`Runtime::adopt`].
//! A pod never outlives its shim: the zygote dies with it, and all else with the zygote.
//!
//! After its last container has ended a shim writes the final status and leaves. A container that
//! was never started (an init container failed, the pod was stopped before) stays `Waiting`.
//!
//! [`Runtime::prepare`] has a shim and a zygote wait for a pod that is not known yet, in
//! `STATE/spares`; a pod that takes them takes their folder along.
//!
//! The folder of a pod, `STATE/pods/ID`, 0700:
//!
//! | file | content |
//! |---|---|
//! | `spec.json` | the [`spec::PodSpec`] |
//! | `shim.json` | pid, start time and boot of its shim, id range, cgroups |
//! | `status.json` | the last [`spec::PodStatus`], replaced atomically |
//! | `s` | the control socket |
//! | `shim.log` | what the shim has to say when something is broken |
//! | `logs/CONTAINER.log`, `.log.1` | output in CRI format, two files of 16 MiB at most |
//! | `logs/CONTAINER.log.previous` | that of its run before, if it was started again |
//! | `fs/` | root file systems and volumes |

mod clock;
mod control;
mod copy;
mod error;
mod fdpass;
mod folder;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod pod;
mod probe;
mod runtime;
mod shim;
mod spare;
pub mod spec;
mod sys;
mod zygote;

pub use error::Error;
pub use pod::{Exec, Pod};
pub use probe::{Check, probe};
pub use runtime::{Runtime, RuntimeConfig};
pub use shim::{as_subordinate, main as shim_main};

/// Where the tools' binary is found in an image volume of [`spec::Image::Tools`].
pub const TOOLS_BINARY: &str = "loom-host";
