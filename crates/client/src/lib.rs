//! Loom's HTTP API as Rust calls: REST with typed errors, event streams, attached terminals.
//!
//! It knows URLs, a token and the API's JSON. It is no terminal, keeps no files and has not heard of
//! Kubernetes. One [`Client`] is one connection pool: make it once and clone it.
//!
//! ```text
//! cli -> Client -> reqwest ---- REST, SSE -----> handlers
//!           `-> Attach (frames) -- WebSocket --> relay
//! ```

mod api;
mod attach;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod server;
mod sse;
mod stream;

pub use api::{Client, ListQuery, LogsQuery};
pub use attach::{Attach, AttachOptions, Close, Event, ExecOptions, FrameSender};
pub use error::Error;
pub use server::{Server, Token};
pub use stream::{EventStream, LogStream};
