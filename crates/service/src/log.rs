//! Logs on stderr, as text or JSON lines.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// What is logged, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// What is logged, e.g. info or cluster=debug,warn
    #[arg(long = "log", env = "LOOM_LOG", default_value = "info", value_name = "FILTER")]
    pub filter: String,
    /// How a line is written
    #[arg(long = "log-format", env = "LOOM_LOG_FORMAT", value_enum, default_value = "text")]
    pub format: LogFormat,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for collectors.
    Json,
}

/// Logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("LOOM_LOG is not a filter such as info or cluster=debug,warn")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Somebody else has set up logs.
    #[error("logs are set up already")]
    Twice(#[source] TryInitError),
}

impl LogArgs {
    /// Starts logging to stderr.
    ///
    /// # Errors
    /// The filter cannot be read, or logs are set up already.
    pub fn install(&self) -> Result<(), LogError> {
        let filter = EnvFilter::try_new(&self.filter).map_err(LogError::Filter)?;
        // A line that cannot be written is lost; reporting that on the same stderr would panic.
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .log_internal_errors(false);
        match self.format {
            LogFormat::Text => lines.with_ansi(is_terminal()).finish().try_init(),
            LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
        }
        .map_err(LogError::Twice)
    }
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}
