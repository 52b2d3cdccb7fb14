//! The requests that end: Loom's REST API and its event streams.
//!
//! Each route is a function of (state, caller, request). The state holds clients, keys and
//! configuration only, so any replica serves any request. What it is not: a place where anything is
//! kept (the pod keeps it), a terminal (that is `relay`), a speaker of Kubernetes (`cluster`).
//!
//! ```text
//! request -> measure -> guard (host, origin, token) -> deadline -> weavers::* -> cluster
//!               `<-- problem+json, made in one place <-- ApiError <---'
//! ```

mod app;
mod args;
mod caller;
mod error;
mod json;
mod layers;
mod openapi;
mod ready;
mod run;
mod sse;
mod weavers;

pub use app::{App, Parts, api, app};
pub use args::{ApiArgs, Args};
pub use error::ApiError;
pub use openapi::document as openapi;
pub use ready::watch_namespace;
pub use run::run;
