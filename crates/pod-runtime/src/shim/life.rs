//! The life of a pod: init containers in turn, containers together, until all have ended.

mod course;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;

use super::cgroup::{Cgroup, Cgroups};
use super::console::{Console, Pipes};
use super::link::Exit;
use super::logs;
use super::plan::{BackOff, Plan, Rules, Standing};
use super::probes::{self, Kind, Whom};
use super::state::{Running, Shared};
use super::threads;
use crate::clock;
use crate::folder::Folder;
use crate::spec::{ContainerSpec, ContainerState, ContainerStatus, PodSpec, Probe};
use crate::zygote::failure::{Failure, Step};
use crate::zygote::message::Order;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// What Kubernetes shows for a container whose program could not be executed.
const START_ERROR: i32 = 128;
/// How a container ends that is killed.
const KILLED: i32 = 137;
/// The longest sleep: a suspended machine does not count its sleep in the waiting thread's clock.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Which container: of the init containers or of the others, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) init: bool,
    pub(crate) index: usize,
}

/// What may happen to a pod.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A container's first process has ended.
    Ended { slot: Slot, exit: Exit },
    /// Somebody wants the pod to end.
    Stop { grace: Duration },
    /// The pod has to end, and for what.
    Doom { why: (String, String), grace: Duration },
    /// A probe of a container's run has come to an outcome.
    Probed { slot: Slot, run: u32, kind: Kind, success: bool },
}

/// Runs one pod, on the shim's first thread.
pub(crate) struct Life {
    shared: Arc<Shared>,
    spec: PodSpec,
    rules: Rules,
    folder: Folder,
    cgroups: Cgroups,
    happenings: Receiver<Happening>,
    alive: BTreeMap<Slot, Alive>,
    /// What is known of containers that have ended before.
    past: BTreeMap<Slot, Past>,
    began: Duration,
    /// When what still runs is killed; set once the pod is to end.
    kill_at: Option<Duration>,
}

/// A container that runs.
struct Alive {
    started_at: Timestamp,
    /// The same, as uptime.
    since: Duration,
    /// Which run it is.
    run: u32,
    started: bool,
    cgroup: Cgroup,
    /// What [`Cgroup::oom_kills`] said before.
    ooms: u64,
    log: Option<JoinHandle<()>>,
    /// When it is killed by itself, and why.
    kill: Option<(Duration, String)>,
    /// It was asked to end, as all of the pod are.
    asked: bool,
    /// Dropped with it: ends its probes.
    probes: Vec<Sender<()>>,
    /// Keeps its input open for as long as it runs, whoever gives any.
    console: Arc<Console>,
}

/// A container that has ended at least once.
#[derive(Default)]
struct Past {
    code: i32,
    /// How often it has run.
    runs: u32,
    back_off: BackOff,
    /// When it may be started again, as uptime.
    due: Duration,
}

impl Life {
    pub(crate) fn new(
        shared: Arc<Shared>,
        spec: PodSpec,
        folder: Folder,
        cgroups: Cgroups,
        happenings: Receiver<Happening>,
    ) -> Self {
        let (began, rules) = (clock::uptime(), Rules::of(&spec));
        let (alive, past, kill_at) = (BTreeMap::new(), BTreeMap::new(), None);
        Self { shared, spec, rules, folder, cgroups, happenings, alive, past, began, kill_at }
    }

    /// Returns when nothing of the pod runs any more.
    pub(crate) fn run(mut self) {
        while !self.advance() {
            self.turn();
        }
        if self.shared.status().over != Some(true) {
            self.shared.change(|status| status.over = Some(true));
        }
    }

    /// Starts what may be started now, or ends what only waits for that; true at the very end.
    fn advance(&mut self) -> bool {
        loop {
            let Plan { start, over } = self.plan();
            if over && self.kill_at.is_none() && !self.alive.is_empty() {
                self.end(Duration::from_secs(self.spec.grace_seconds));
            }
            if over || self.kill_at.is_some() {
                self.press();
                return self.alive.is_empty();
            }
            let now = clock::uptime();
            let due = |slot: &Slot| self.past.get(slot).is_none_or(|past| past.due <= now);
            let due: Vec<Slot> = start.into_iter().filter(due).collect();
            if due.is_empty() {
                return false;
            }
            due.into_iter().for_each(|slot| self.start(slot));
        }
    }

    fn plan(&self) -> Plan {
        self.rules.plan(|slot| match (self.alive.get(&slot), self.past.get(&slot)) {
            (Some(alive), _) => Standing::Running { started: alive.started },
            (None, Some(past)) => Standing::Ended { code: past.code },
            (None, None) => Standing::Fresh,
        })
    }

    fn container(&self, slot: Slot) -> &ContainerSpec {
        let list = if slot.init { &self.spec.init_containers } else { &self.spec.containers };
        &list[slot.index]
    }

    fn change(&self, slot: Slot, change: impl FnOnce(&mut ContainerStatus)) {
        self.shared.change(|status| {
            let list = if slot.init { &mut status.init_containers } else { &mut status.containers };
            change(&mut list[slot.index]);
        });
    }

    fn start(&mut self, slot: Slot) {
        let spec = self.container(slot).clone();
        let cgroup = self.cgroups.container(&spec.name, &spec.limits);
        let run = self.past.get(&slot).map_or(0, |past| past.runs);
        match self.launch(slot, run, &spec, cgroup) {
            Ok(alive) => {
                let started_at = alive.started_at;
                if !alive.cgroup.procs().is_empty() {
                    self.move_zygote(slot, &spec.name);
                }
                self.alive.insert(slot, alive);
                self.change(slot, |status| {
                    status.started = spec.probes.startup.is_none();
                    status.ready = spec.probes.readiness.is_none();
                    status.restarts = run;
                    if let ended @ ContainerState::Terminated { .. } = &status.state {
                        status.last = Some(ended.clone());
                    }
                    status.state = ContainerState::Running { started_at };
                });
                self.probe(slot);
            }
            Err(failure) => {
                let now = clock::now();
                let message = failure.to_string();
                let state = terminated((START_ERROR, None), "StartError", message, (now, now));
                self.change(slot, |status| status.restarts = run);
                self.over(slot, START_ERROR, state);
            }
        }
    }

    /// On a thread, since it takes its time. Without one, programs move by themselves.
    fn move_zygote(&self, slot: Slot, container: &str) {
        if !slot.init && self.spec.containers.len() == 1 && !self.spec.restarts() {
            let (shared, container) = (self.shared.clone(), container.to_owned());
            threads::spawn("move", move || shared.move_zygote(&container)).ok();
        }
    }

    fn launch(
        &self,
        slot: Slot,
        run: u32,
        spec: &ContainerSpec,
        cgroup: Cgroup,
    ) -> Result<Alive, Failure> {
        let log_path = self.new_log(&spec.name, run)?;
        let pipes = Pipes::new(spec).step("making pipes")?;
        let procs = cgroup.open().step("opening control groups")?;
        let mut fds = pipes.theirs();
        fds.extend(procs.iter().map(AsFd::as_fd));
        let (ended, stdio) = (self.shared.happenings.clone(), pipes.stdio);
        let (container, again) = (Box::new(spec.clone()), run > 0);
        let order = |key| Order::Run { key, container, stdio, again };
        let ooms = cgroup.oom_kills();
        // Nobody listens once the pod's life is over.
        let on_exit = move |exit| drop(ended.send(Happening::Ended { slot, exit }));
        let started = self.shared.link.start(order, &fds, Box::new(on_exit))?;
        let (started_at, key) = (clock::now(), started.key);
        let (console, log) =
            pipes.into_console(started.master, log_path).step("starting the log's thread")?;
        let cgroup_procs = cgroup.procs();
        let running = Running { key, cgroup_procs, console: console.clone() };
        self.shared.set_running(&spec.name, Some(running));
        Ok(Alive {
            started_at,
            since: clock::uptime(),
            run,
            started: spec.probes.startup.is_none(),
            cgroup,
            ooms,
            log: Some(log),
            kill: None,
            asked: false,
            probes: Vec::new(),
            console,
        })
    }

    fn new_log(&self, container: &str, run: u32) -> Result<PathBuf, Failure> {
        let path = self.folder.log(container);
        if run > 0 {
            logs::put_aside(&path).step("putting the last log aside")?;
        }
        logs::create(&path).step("making the log")?;
        Ok(path)
    }

    /// Waits for what happens next or for what is due.
    fn turn(&mut self) {
        let now = clock::uptime();
        let wait = self.next_due().map_or(LONGEST_WAIT, |due| due.saturating_sub(now));
        match self.happenings.recv_timeout(wait.min(LONGEST_WAIT)) {
            Ok(Happening::Ended { slot, exit }) => self.ended(slot, exit),
            Ok(Happening::Stop { grace }) => self.end(grace),
            Ok(Happening::Doom { why, grace }) => self.doom(why, grace),
            Ok(Happening::Probed { slot, run, kind, success }) => {
                if self.alive.get(&slot).is_some_and(|alive| alive.run == run) {
                    self.probed(slot, kind, success);
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        self.do_what_is_due(clock::uptime());
    }

    fn deadline(&self) -> Option<Duration> {
        Some(self.began + Duration::from_secs(self.spec.active_deadline_seconds?))
    }

    fn next_due(&self) -> Option<Duration> {
        let deadline = self.deadline().filter(|_| self.kill_at.is_none());
        let kills = self.alive.values().filter_map(|alive| Some(alive.kill.as_ref()?.0));
        let rests =
            self.plan().start.into_iter().filter_map(|slot| Some(self.past.get(&slot)?.due));
        let rests = rests.filter(|_| self.kill_at.is_none());
        kills.chain(rests).chain(deadline).chain(self.kill_at).min()
    }

    fn do_what_is_due(&mut self, now: Duration) {
        if self.kill_at.is_none() && self.deadline().is_some_and(|deadline| deadline <= now) {
            let message = "Pod was active on the node longer than the specified deadline";
            let why = ("DeadlineExceeded".to_owned(), message.to_owned());
            self.doom(why, Duration::from_secs(self.spec.grace_seconds));
        }
        let all = self.kill_at.is_some_and(|at| at <= now);
        for (slot, alive) in &mut self.alive {
            if all || alive.kill.as_ref().is_some_and(|(at, _)| *at <= now) {
                signal(&self.shared, &self.spec, *slot, SIGKILL);
                if let Some((at, _)) = &mut alive.kill {
                    *at = now + LONGEST_WAIT;
                }
            }
        }
        if all {
            self.kill_at = Some(now + LONGEST_WAIT);
        }
    }

    /// Asks everything to end; kills what has not by then. Asked again, the sooner counts.
    fn end(&mut self, grace: Duration) {
        let kill_at = clock::uptime().saturating_add(grace);
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
    }

    /// Ends everything for a reason, unless it ends already.
    fn doom(&mut self, why: (String, String), grace: Duration) {
        if self.kill_at.is_none() {
            self.shared.change(|status| status.reason = Some(why));
        }
        self.end(grace);
    }

    /// Asks those to end whose turn it is: sidecars after all others, the last one first.
    fn press(&mut self) {
        let sidecars = self.alive.keys().all(|slot| self.rules.is_sidecar(*slot));
        let last = self.alive.keys().next_back().copied();
        for (slot, alive) in &mut self.alive {
            let turn = if sidecars { last == Some(*slot) } else { !self.rules.is_sidecar(*slot) };
            if turn && !alive.asked {
                alive.asked = true;
                signal(&self.shared, &self.spec, *slot, SIGTERM);
            }
        }
    }
}

fn signal(shared: &Shared, spec: &PodSpec, slot: Slot, signal: i32) {
    let list = if slot.init { &spec.init_containers } else { &spec.containers };
    if let Some(running) = shared.running(&list[slot.index].name) {
        shared.link.signal(running.key, signal, false);
    }
}

fn terminated(
    (exit_code, signal): (i32, Option<i32>),
    reason: &str,
    message: String,
    (started_at, finished_at): (Timestamp, Timestamp),
) -> ContainerState {
    let reason = reason.to_owned();
    ContainerState::Terminated { exit_code, signal, reason, message, started_at, finished_at }
}
