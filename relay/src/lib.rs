//! The streams that stay: attached terminals, and programs that run beside them.
//!
//! It carries bytes between viewers and the host in a weaver, and keeps nothing: the session, its
//! screen and its input belong to the host. It does not know what a terminal is, and it answers no
//! request that ends by itself; those are `handlers`'.
//!
//! ```text
//! viewer -- WebSocket --> attach (guard, find) --> viewer (v1 | v2)
//! viewer -- WebSocket --> attach ----------------> viewer --+
//!                                                           +--> link -- exec --> loom-host connect
//!                       links: one link per weaver ---------+
//! viewer -- WebSocket --> exec (guard, run) ------> viewer ------> one exec of its own
//! viewer -- WebSocket --> attach, an image's own program -> main: one Kubernetes attach of its own
//! ```

mod app;
mod args;
mod attach;
mod close;
mod doors;
mod exec;
mod hub;
mod limits;
mod link;
mod links;
mod main_process;
mod problem;
mod queue;
mod socket;
#[cfg(test)]
mod tests;
mod viewer;
mod watch;

pub use app::{MAX_VIEWERS, Relay, app};
pub use args::{Args, run};
