//! From SIGTERM and SIGINT to one token that everything listens to.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Task;

/// Cancels its token at the first SIGTERM or SIGINT. It listens as long as it is kept.
#[derive(Debug)]
pub struct Shutdown {
    token: CancellationToken,
    _listener: Task,
}

impl Shutdown {
    /// Starts listening.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = CancellationToken::new();
        let cancel = token.clone();
        let listener = Task::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            cancel.cancel();
            tracing::info!(signal = name, "Shutting down");
        });
        Ok(Self { token, _listener: listener })
    }

    /// Returns the token.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
