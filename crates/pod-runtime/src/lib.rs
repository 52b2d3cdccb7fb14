//! Runs one pod on this machine: shim, namespaces, mounts, images, limits, terminals, logs.
//!
//! It knows no HTTP and no Kubernetes types, and it is the only crate with `unsafe`.
//!
//! ```text
//! local-cluster -> Runtime -> (control socket) -> shim, one process a pod -> containers
//! ```

pub mod spec;
