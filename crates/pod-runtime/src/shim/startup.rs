//! Startup probes: a command is run inside until it ends with 0 once.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::life::{Happening, Slot};
use super::state::Shared;
use super::threads;
use crate::spec::ExecProbe;
use crate::zygote::message::{Order, Stdio};

const SIGKILL: i32 = 9;
/// Tries before the first period is over come at growing distances from here on. They count for
/// nothing when they fail: most programs are up long before a second has passed.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Probes until success, failure, or the end of the container, which closes `alive`.
pub(crate) fn watch(
    shared: Arc<Shared>,
    slot: Slot,
    container: String,
    probe: ExecProbe,
    alive: Receiver<()>,
) {
    let failed = shared.happenings.clone();
    let run = move || Watch { shared, slot, container, probe, alive }.run();
    if let Err(error) = threads::spawn("startup", run) {
        let message = format!("Startup probe failed: {error}");
        // Nobody listens once the pod's life is over.
        failed.send(Happening::NeverStarted { slot, message }).ok();
    }
}

struct Watch {
    shared: Arc<Shared>,
    slot: Slot,
    container: String,
    probe: ExecProbe,
    alive: Receiver<()>,
}

impl Watch {
    fn run(self) {
        let period = Duration::from_secs(self.probe.period_seconds.max(1));
        // Not at once: the program itself, and whoever waits for its first word, come first.
        let delay = Duration::from_secs(self.probe.initial_delay_seconds).max(FIRST_PAUSE);
        if !self.pause(delay) {
            return;
        }
        let (mut pause, mut waited) = (FIRST_PAUSE, Duration::ZERO);
        let mut failures = 0;
        while !self.succeeds() {
            let step = if waited < period { pause.min(period - waited) } else { period };
            if waited >= period || failures == 0 {
                failures += 1;
            }
            if failures >= self.probe.failure_threshold.max(1) && waited >= period {
                return self.give_up(failures);
            }
            if !self.pause(step) {
                return;
            }
            waited += step;
            pause *= 2;
        }
        self.shared.change(|status| {
            let list =
                if self.slot.init { &mut status.init_containers } else { &mut status.containers };
            list[self.slot.index].started = true;
        });
    }

    fn give_up(&self, failures: u32) {
        let message = format!("Startup probe failed {failures} times");
        let happening = Happening::NeverStarted { slot: self.slot, message };
        // Nobody listens once the pod's life is over.
        self.shared.happenings.send(happening).ok();
    }

    /// Waits; false when the container has ended.
    fn pause(&self, time: Duration) -> bool {
        self.alive.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }

    fn succeeds(&self) -> bool {
        let Some(running) = self.shared.running(&self.container) else { return false };
        let Ok(procs) = super::cgroup::open_all(&running.cgroup_procs) else { return false };
        let fds: Vec<_> = procs.iter().map(std::os::fd::AsFd::as_fd).collect();
        let argv = self.probe.argv.clone();
        let container = running.key;
        let order = |key| Order::Exec { key, container, argv, stdio: Stdio::Null };
        let (ended, end) = channel();
        let on_exit = move |exit| {
            ended.send(exit).ok();
        };
        let Ok(started) = self.shared.link.start(order, &fds, Box::new(on_exit)) else {
            return false;
        };
        match end.recv_timeout(Duration::from_secs(self.probe.timeout_seconds.max(1))) {
            Ok(exit) => exit.code == 0,
            Err(_) => {
                self.shared.link.signal(started.key, SIGKILL, true);
                false
            }
        }
    }
}
