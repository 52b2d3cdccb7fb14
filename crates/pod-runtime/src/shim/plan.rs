//! Which containers are to be started now, and whether the pod has had its life: no clock.

use std::time::Duration;

use super::life::Slot;
use crate::spec::{PodSpec, Restart};

/// The first pause before a container that keeps ending is started again, and the longest.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// What of a pod's spec decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    restart: Restart,
    /// Of each init container, whether it is a sidecar.
    sidecars: Vec<bool>,
    mains: usize,
}

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Fresh,
    Running { started: bool },
    Ended { code: i32 },
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Those that may be started, first or again, as soon as they have waited long enough.
    pub(crate) start: Vec<Slot>,
    /// No main container runs any more or ever will.
    pub(crate) over: bool,
}

impl Rules {
    pub(crate) fn of(spec: &PodSpec) -> Self {
        Self {
            restart: spec.restart,
            sidecars: spec.init_containers.iter().map(|init| init.sidecar).collect(),
            mains: spec.containers.len(),
        }
    }

    pub(crate) fn is_sidecar(&self, slot: Slot) -> bool {
        slot.init && self.sidecars.get(slot.index) == Some(&true)
    }

    /// Whether a container that has ended so is started again.
    pub(crate) fn restarts(&self, slot: Slot, code: i32) -> bool {
        let restart = match self.restart {
            // An init container that has succeeded is done.
            Restart::Always if slot.init => Restart::OnFailure,
            other => other,
        };
        self.is_sidecar(slot)
            || match restart {
                Restart::Never => false,
                Restart::OnFailure => code != 0,
                Restart::Always => true,
            }
    }

    pub(crate) fn plan(&self, at: impl Fn(Slot) -> Standing) -> Plan {
        let mains = || (0..self.mains).map(|index| Slot { init: false, index });
        let begun = mains().any(|slot| at(slot) != Standing::Fresh);
        let mut plan = Plan::default();
        for index in 0..self.sidecars.len() {
            let slot = Slot { init: true, index };
            let sidecar = self.is_sidecar(slot);
            let passed = match at(slot) {
                Standing::Running { started } => sidecar && started,
                Standing::Ended { code: 0 } if !sidecar => true,
                Standing::Ended { code } if !self.restarts(slot, code) => {
                    return Plan { start: Vec::new(), over: true };
                }
                Standing::Fresh | Standing::Ended { .. } => {
                    plan.start.push(slot);
                    false
                }
            };
            if !passed && !begun {
                return plan;
            }
        }
        let to_start = |slot: &Slot| match at(*slot) {
            Standing::Fresh => true,
            Standing::Running { .. } => false,
            Standing::Ended { code } => self.restarts(*slot, code),
        };
        let waiting: Vec<_> = mains().filter(to_start).collect();
        let running = mains().any(|slot| matches!(at(slot), Standing::Running { .. }));
        if waiting.is_empty() && !running {
            return Plan { start: Vec::new(), over: true };
        }
        plan.start.extend(waiting);
        plan
    }
}

/// How long a container that keeps ending waits, as the kubelet has it.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    /// The next pause and when it was last made longer.
    next: Option<(Duration, Duration)>,
}

impl BackOff {
    /// Returns the pause of one that has ended now; the first time there is none.
    pub(crate) fn pause(&mut self, now: Duration) -> Duration {
        match self.next {
            Some((pause, since)) if now.saturating_sub(since) <= 2 * LONGEST_BACK_OFF => {
                self.next = Some(((pause * 2).min(LONGEST_BACK_OFF), now + pause));
                pause
            }
            _ => {
                self.next = Some((FIRST_BACK_OFF, now));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: [Slot; 2] = [Slot { init: true, index: 0 }, Slot { init: true, index: 1 }];
    const MAIN: Slot = Slot { init: false, index: 0 };
    const RUNS: Standing = Standing::Running { started: true };
    const OK: Standing = Standing::Ended { code: 0 };
    const BAD: Standing = Standing::Ended { code: 1 };

    fn plan(restart: Restart, sidecars: [bool; 2], at: [Standing; 3]) -> (Vec<Slot>, bool) {
        let rules = Rules { restart, sidecars: sidecars.to_vec(), mains: 1 };
        let at = |slot: Slot| if slot.init { at[slot.index] } else { at[2] };
        let plan = rules.plan(at);
        (plan.start, plan.over)
    }

    #[test]
    fn init_containers_go_one_after_another() {
        use Standing::Fresh;
        let plan = |restart, at| plan(restart, [false; 2], at);
        assert_eq!(plan(Restart::Never, [Fresh; 3]), (vec![INIT[0]], false));
        assert_eq!(plan(Restart::Never, [RUNS, Fresh, Fresh]), (vec![], false));
        assert_eq!(plan(Restart::Always, [OK, Fresh, Fresh]), (vec![INIT[1]], false));
        assert_eq!(plan(Restart::Never, [BAD, Fresh, Fresh]), (vec![], true));
        assert_eq!(plan(Restart::OnFailure, [BAD, Fresh, Fresh]), (vec![INIT[0]], false));
        assert_eq!(plan(Restart::Always, [OK, OK, Fresh]), (vec![MAIN], false));
    }

    #[test]
    fn mains_restart_as_the_policy_says() {
        let plan = |restart, main| plan(restart, [false; 2], [OK, OK, main]);
        for (restart, after_ok, after_bad) in [
            (Restart::Never, false, false),
            (Restart::OnFailure, false, true),
            (Restart::Always, true, true),
        ] {
            for (main, again) in [(OK, after_ok), (BAD, after_bad)] {
                let start = if again { vec![MAIN] } else { vec![] };
                assert_eq!(plan(restart, main), (start, !again), "{restart:?} {main:?}");
            }
            assert_eq!(plan(restart, RUNS), (vec![], false));
        }
    }

    #[test]
    fn sidecars_gate_by_being_started_and_always_return() {
        use Standing::Fresh;
        let slow = Standing::Running { started: false };
        let plan = |at| plan(Restart::Never, [true, false], at);
        assert_eq!(plan([slow, Fresh, Fresh]), (vec![], false));
        assert_eq!(plan([RUNS, Fresh, Fresh]), (vec![INIT[1]], false));
        assert_eq!(plan([BAD, Fresh, Fresh]), (vec![INIT[0]], false));
        // Once the main container has begun nothing is held up.
        assert_eq!(plan([slow, OK, RUNS]), (vec![], false));
        assert_eq!(plan([OK, OK, RUNS]), (vec![INIT[0]], false));
        assert_eq!(plan([RUNS, OK, OK]), (vec![], true));
        assert_eq!(plan([RUNS, BAD, Fresh]), (vec![], true));
    }

    #[test]
    fn the_back_off_grows_and_is_forgotten() {
        let mut back_off = BackOff::default();
        let mut now = Duration::ZERO;
        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                let pause = back_off.pause(now);
                now += pause + Duration::from_secs(1);
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.pause(now + Duration::from_secs(601)), Duration::ZERO);
    }
}
