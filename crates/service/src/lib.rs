//! What every program of ours needs before it does anything of its own.
//!
//! Logs, metrics, health, clock, secrets, owned tasks, shutdown, the guard at the door, and one way
//! to serve HTTP. It knows neither weavers nor Kubernetes nor the API, and decides nothing for them.
//!
//! ```text
//! main -> log, metrics, shutdown -> app(state) -> serve(listener, router, options, shutdown)
//!                                                   `-> guard (host, origin, token) in the router
//! ```

pub mod clock;
pub mod config;
pub mod crypto;
pub mod guard;
pub mod health;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod outcome;
pub mod secret;
pub mod serve;
pub mod shutdown;
pub mod task;

pub use config::config_table;
pub use crypto::install_crypto;
pub use guard::{Denied, Guard, GuardArgs};
pub use health::Health;
pub use limits::raise_open_files;
pub use log::LogArgs;
pub use metrics::Metrics;
pub use secret::{Secret, SecretError};
pub use serve::{ServeArgs, ServeOptions, serve};
pub use shutdown::Shutdown;
pub use task::Task;
