//! When a probe counts as succeeded or failed, and when it is asked next: no clock, no process.

use std::time::Duration;

use super::Kind;
use crate::spec::Probe;

/// The first pause of a startup probe; each is twice the one before, up to the period. Most
/// programs are up long before a second has passed.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Counts successes and failures in a row.
#[derive(Debug)]
pub(super) struct Judge {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
}

impl Judge {
    pub(super) fn of(probe: &Probe) -> Self {
        let success_threshold = probe.success_threshold.max(1);
        let failure_threshold = probe.failure_threshold.max(1);
        Self { success_threshold, failure_threshold, last: None, run: 0 }
    }

    /// Takes the outcome of a try; returns it once there are enough of them in a row.
    pub(super) fn hear(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let enough = if success { self.success_threshold } else { self.failure_threshold };
        (self.run >= enough).then_some(success)
    }
}

/// Says when a probe is tried.
#[derive(Debug)]
pub(super) struct Pace {
    period: Duration,
    waited: Duration,
    /// The next pause of a probe that hurries.
    hurry: Option<Duration>,
}

impl Pace {
    pub(super) fn of(kind: Kind, probe: &Probe) -> Self {
        let period = Duration::from_secs(probe.period_seconds.max(1));
        let hurry = (kind == Kind::Startup).then_some(FIRST_PAUSE);
        Self { period, waited: Duration::ZERO, hurry }
    }

    /// Returns the pause before the first try, for a container that has run for so long.
    pub(super) fn first(&self, probe: &Probe, running: Duration) -> Duration {
        let delay = Duration::from_secs(probe.initial_delay_seconds).saturating_sub(running);
        // Not at once: the program itself, and whoever waits for its first word, come first.
        delay.max(FIRST_PAUSE)
    }

    /// Whether a failed try counts: of those that come in a hurry only the first, and that
    /// decides nothing before the period is over.
    pub(super) fn counts(&self, failure_threshold: u32) -> bool {
        let first = self.waited.is_zero();
        self.hurry.is_none() || self.waited >= self.period || first && failure_threshold > 1
    }

    /// Whether a failed try is worth telling.
    pub(super) fn tells(&self) -> bool {
        self.hurry.is_none() || self.waited >= self.period
    }

    /// Returns the pause before the next try.
    pub(super) fn next(&mut self) -> Duration {
        let pause = match &mut self.hurry {
            Some(pause) if self.waited < self.period => {
                let now = (*pause).min(self.period - self.waited);
                *pause *= 2;
                now
            }
            _ => self.period,
        };
        self.waited += pause;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Handler;

    fn probe(success_threshold: u32, failure_threshold: u32) -> Probe {
        Probe {
            handler: Handler::Tcp { port: 1 },
            initial_delay_seconds: 3,
            period_seconds: 1,
            timeout_seconds: 1,
            success_threshold,
            failure_threshold,
            grace_seconds: None,
        }
    }

    #[test]
    fn thresholds_count_in_a_row_only() {
        let mut judge = Judge::of(&probe(2, 3));
        let heard = [false, false, true, true, false, false, false, false, true, true];
        let said: Vec<_> = heard.into_iter().map(|success| judge.hear(success)).collect();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(said, [None, None, None, yes, None, None, no, no, None, yes]);
    }

    #[test]
    fn only_a_startup_probe_hurries() {
        let probe = probe(1, 3);
        let mut pace = Pace::of(Kind::Readiness, &probe);
        assert_eq!([pace.next(), pace.next()], [Duration::from_secs(1); 2]);
        assert!(pace.counts(1) && pace.tells());
        let mut pace = Pace::of(Kind::Startup, &probe);
        assert!(pace.counts(3) && !pace.counts(1) && !pace.tells());
        let pauses: Vec<u128> = (0..9).map(|_| pace.next().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 370, 1000, 1000]);
        assert!(pace.counts(1) && pace.tells());
    }

    #[test]
    fn the_delay_counts_from_the_containers_start() {
        let pace = Pace::of(Kind::Liveness, &probe(1, 1));
        let first = |running| pace.first(&probe(1, 1), Duration::from_secs(running));
        assert_eq!(first(1), Duration::from_secs(2));
        assert_eq!(first(9), FIRST_PAUSE);
    }
}
