//! The API, route by route: `oneshot` on the router, over a fake Kubernetes below the real client.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "../fake/mod.rs"]
mod fake;
mod rig;

mod abuse;
mod create;
mod faults;
mod list;
mod streams;
mod weavers;
