//! Probes: a thread each asks until its container ends.
//!
//! ```text
//! Life -> watch -> [Pace: when] -> ask (inside, or the pod's network) -> [Judge] -> Life
//! ```

mod ask;
mod grpc;
mod http;
mod judge;
mod tls;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::life::{Happening, Slot};
use super::state::Shared;
use super::threads;
use crate::clock;
use crate::spec::{NoteKind, Probe};
use ask::Trouble;
pub(super) use ask::connect;
use judge::{Judge, Pace};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use {grpc::fuzz as fuzz_grpc, http::fuzz as fuzz_http};

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// Whether an outcome decides for good.
    fn is_done(self, success: bool) -> bool {
        match self {
            Self::Startup => true,
            Self::Readiness => false,
            Self::Liveness => !success,
        }
    }
}

/// Whom a probe asks.
#[derive(Debug, Clone)]
pub(crate) struct Whom {
    pub(crate) slot: Slot,
    pub(crate) container: String,
    /// Which of its runs.
    pub(crate) run: u32,
    /// When that began, as uptime.
    pub(crate) since: Duration,
}

/// Probes until it is decided, or until the result is dropped.
pub(crate) fn watch(shared: &Arc<Shared>, kind: Kind, probe: &Probe, whom: Whom) -> Sender<()> {
    let (alive, watch) = channel();
    let (shared, probe) = (shared.clone(), probe.clone());
    let probing = Watch { shared: shared.clone(), kind, probe, whom: whom.clone(), alive: watch };
    if let Err(error) = threads::spawn("probe", move || probing.run()) {
        let message = format!("{} probe errored: {error}", kind.word());
        shared.note(&whom.container, NoteKind::Unhealthy, message);
        let Whom { slot, run, .. } = whom;
        // Nobody listens once the pod's life is over.
        shared.happenings.send(Happening::Probed { slot, run, kind, success: false }).ok();
    }
    alive
}

struct Watch {
    shared: Arc<Shared>,
    kind: Kind,
    probe: Probe,
    whom: Whom,
    alive: Receiver<()>,
}

impl Watch {
    fn run(self) {
        let (mut pace, mut judge) = (Pace::of(self.kind, &self.probe), Judge::of(&self.probe));
        let running = clock::uptime().saturating_sub(self.whom.since);
        let mut pause = pace.first(&self.probe, running);
        let mut said = None;
        while self.pause(pause) {
            let verdict = self.try_once(&pace, &mut judge);
            if verdict.is_some() && verdict != said {
                said = verdict;
                self.say(verdict == Some(true));
            }
            if verdict.is_some_and(|success| self.kind.is_done(success)) {
                return;
            }
            pause = pace.next();
        }
    }

    fn try_once(&self, pace: &Pace, judge: &mut Judge) -> Option<bool> {
        let Err(why) = ask::ask(&self.shared, &self.whom.container, &self.probe) else {
            return judge.hear(true);
        };
        if pace.tells() && self.pause(Duration::ZERO) {
            let message = format!("{} probe {why}", self.kind.word());
            self.shared.note(&self.whom.container, NoteKind::Unhealthy, message);
        }
        let failed = matches!(why, Trouble::Failed(_));
        if failed && pace.counts(self.probe.failure_threshold) { judge.hear(false) } else { None }
    }

    fn say(&self, success: bool) {
        let Whom { slot, run, .. } = self.whom;
        let happening = Happening::Probed { slot, run, kind: self.kind, success };
        // Nobody listens once the pod's life is over.
        self.shared.happenings.send(happening).ok();
    }

    /// Waits; false when the container has ended.
    fn pause(&self, time: Duration) -> bool {
        self.alive.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}
