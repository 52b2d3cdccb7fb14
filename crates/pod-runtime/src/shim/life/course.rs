//! What becomes of a container that runs: its probes, its end, and whether it comes back.

use super::*;
use crate::spec::NoteKind;

impl Life {
    /// Starts the probes that a container may be asked by now.
    pub(super) fn probe(&mut self, slot: Slot) {
        let all = self.container(slot).probes.clone();
        let Some(alive) = self.alive.get(&slot) else { return };
        let of = |kind: Kind, probe: Option<Probe>| Some((kind, probe?));
        let asked = match (alive.started, all.startup) {
            (false, startup) => vec![of(Kind::Startup, startup)],
            (true, _) => {
                vec![of(Kind::Readiness, all.readiness), of(Kind::Liveness, all.liveness)]
            }
        };
        let container = self.container(slot).name.clone();
        let whom = Whom { slot, container, run: alive.run, since: alive.since };
        let shared = &self.shared;
        let watch =
            |(kind, probe): (Kind, Probe)| probes::watch(shared, kind, &probe, whom.clone());
        let probes: Vec<_> = asked.into_iter().flatten().map(watch).collect();
        if let Some(alive) = self.alive.get_mut(&slot) {
            alive.probes = probes;
        }
    }

    /// Takes the outcome of a probe.
    pub(super) fn probed(&mut self, slot: Slot, kind: Kind, success: bool) {
        match (kind, success) {
            (Kind::Startup, true) => {
                if let Some(alive) = self.alive.get_mut(&slot) {
                    alive.started = true;
                }
                self.change(slot, |status| status.started = true);
                self.probe(slot);
            }
            (Kind::Readiness, ready) => self.change(slot, |status| status.ready = ready),
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => self.unhealthy(slot, kind),
        }
    }

    /// Ends a container by itself.
    fn unhealthy(&mut self, slot: Slot, kind: Kind) {
        let spec = self.container(slot);
        let (word, probe) = match kind {
            Kind::Startup => ("startup", &spec.probes.startup),
            Kind::Readiness | Kind::Liveness => ("liveness", &spec.probes.liveness),
        };
        let grace = probe.as_ref().and_then(|probe| probe.grace_seconds);
        let grace = Duration::from_secs(grace.unwrap_or(self.spec.grace_seconds));
        let name = spec.name.clone();
        let message = format!("Container {name} failed {word} probe");
        let told = match self.rules.restarts(slot, KILLED) && self.kill_at.is_none() {
            true => format!("{message}, will be restarted"),
            false => message.clone(),
        };
        let Some(alive) = self.alive.get_mut(&slot) else { return };
        if alive.kill.is_none() {
            alive.kill = Some((clock::uptime() + grace, message));
            alive.probes.clear();
            self.shared.note(&name, NoteKind::Killing, told);
            signal(&self.shared, &self.spec, slot, SIGTERM);
        }
    }

    /// Takes the end of a container's first process.
    pub(super) fn ended(&mut self, slot: Slot, exit: Exit) {
        let Some(mut alive) = self.alive.remove(&slot) else { return };
        self.shared.set_running(&self.container(slot).name, None);
        // All its processes are gone, so the pipes have an end; the log is whole before the
        // status says so.
        if let Some(log) = alive.log.take() {
            log.join().ok();
        }
        alive.console.close(exit.code);
        let reason = match exit.code {
            0 => "Completed",
            _ if alive.cgroup.oom_kills() > alive.ooms => "OOMKilled",
            _ => "Error",
        };
        let message = alive.kill.map(|(_, message)| message).unwrap_or_default();
        let times = (alive.started_at, clock::now());
        let state = terminated((exit.code, exit.signal), reason, message, times);
        self.over(slot, exit.code, state);
    }

    /// Shows how a run has ended; one that comes back, but not soon, is shown as waiting.
    pub(super) fn over(&mut self, slot: Slot, code: i32, state: ContainerState) {
        let again = self.kill_at.is_none() && self.rules.restarts(slot, code);
        let now = clock::uptime();
        let past = self.past.entry(slot).or_default();
        (past.code, past.runs) = (code, past.runs + 1);
        let pause = if again { past.back_off.pause(now) } else { Duration::ZERO };
        past.due = now + pause;
        let over = self.alive.is_empty() && (self.kill_at.is_some() || self.plan().over);
        self.shared.change(|status| {
            let list = if slot.init { &mut status.init_containers } else { &mut status.containers };
            show_end(&mut list[slot.index], state, pause);
            status.over = Some(over);
        });
        if !pause.is_zero() {
            let name = self.container(slot).name.clone();
            let message = format!("Back-off restarting failed container {name}");
            self.shared.note(&name, NoteKind::BackOff, message);
        }
    }
}

fn show_end(status: &mut ContainerStatus, state: ContainerState, pause: Duration) {
    (status.started, status.ready) = (false, false);
    if pause.is_zero() {
        status.state = state;
        return;
    }
    status.last = Some(state);
    let message = format!("back-off {} restarting failed container", span(pause));
    status.state = ContainerState::Waiting { reason: "CrashLoopBackOff".to_owned(), message };
}

/// A duration as Go writes it.
fn span(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_comes_back_later_waits() {
        let now = Timestamp::UNIX_EPOCH;
        let ended = || terminated((1, None), "Error", String::new(), (now, now));
        let mut status = ContainerStatus {
            name: "c".into(),
            state: ContainerState::Running { started_at: now },
            started: true,
            ready: true,
            restarts: 3,
            last: None,
        };
        show_end(&mut status, ended(), Duration::from_secs(160));
        assert_eq!(status.last, Some(ended()));
        let ContainerState::Waiting { reason, message } = &status.state else { panic!() };
        assert_eq!(reason, "CrashLoopBackOff");
        assert_eq!(message, "back-off 2m40s restarting failed container");
        assert!(!status.started && !status.ready);
        show_end(&mut status, ended(), Duration::ZERO);
        assert_eq!(status.state, ended());
    }
}
