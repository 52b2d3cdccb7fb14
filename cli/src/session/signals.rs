//! The signals that a session answers: stop, and another size.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Doing, Failure};

/// Streams of the signals; from now on they do not end the process by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    size: Signal,
}

/// What a signal tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Somebody wants this program to end.
    Stop,
    /// The terminal has another size.
    Resized,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).doing("cannot listen for signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
            size: on(SignalKind::window_change())?,
        })
    }

    /// Waits until somebody wants this program to end.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Told::Stop {}
    }

    /// Waits for a signal of either sort.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Stop,
            _ = self.size.recv() => Told::Resized,
        }
    }
}
