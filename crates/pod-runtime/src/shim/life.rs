//! The life of a pod: init containers in turn, containers together, until all have ended.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;

use super::cgroup::{Cgroup, Cgroups};
use super::link::Exit;
use super::logs;
use super::startup;
use super::state::{Running, Shared};
use super::threads;
use crate::clock;
use crate::folder::Folder;
use crate::spec::{ContainerSpec, ContainerState, ContainerStatus, PodSpec};
use crate::zygote::failure::{Failure, Step};
use crate::zygote::message::{Order, Stdio};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// What Kubernetes shows for a container whose program could not be executed.
const START_ERROR: i32 = 128;
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
    /// A container did not start within its startup probe's patience.
    NeverStarted { slot: Slot, message: String },
}

/// Runs one pod, on the shim's first thread.
pub(crate) struct Life {
    shared: Arc<Shared>,
    spec: PodSpec,
    folder: Folder,
    cgroups: Cgroups,
    happenings: Receiver<Happening>,
    alive: BTreeMap<Slot, Alive>,
    began: Duration,
    /// When what still runs is killed; set once the pod is to end.
    kill_at: Option<Duration>,
}

/// A container that runs.
struct Alive {
    started_at: Timestamp,
    cgroup: Cgroup,
    log: Option<JoinHandle<()>>,
    /// When it is killed by itself, and why.
    kill: Option<(Duration, String)>,
    /// Dropped with it: ends its startup probe.
    _probe: Option<Sender<()>>,
    /// Held open for as long as it runs, when it wants an input nobody gives.
    _stdin: Option<OwnedFd>,
}

impl Life {
    pub(crate) fn new(
        shared: Arc<Shared>,
        spec: PodSpec,
        folder: Folder,
        cgroups: Cgroups,
        happenings: Receiver<Happening>,
    ) -> Self {
        let began = clock::uptime();
        let (alive, kill_at) = (BTreeMap::new(), None);
        Self { shared, spec, folder, cgroups, happenings, alive, began, kill_at }
    }

    /// Returns when nothing of the pod runs any more.
    pub(crate) fn run(mut self) {
        for index in 0..self.spec.init_containers.len() {
            self.start(Slot { init: true, index });
            self.wait_for_all();
            if self.kill_at.is_some() || !self.init_succeeded(index) {
                return;
            }
        }
        for index in 0..self.spec.containers.len() {
            self.start(Slot { init: false, index });
        }
        self.wait_for_all();
    }

    fn init_succeeded(&self, index: usize) -> bool {
        let status = self.shared.status();
        let state = status.init_containers.get(index).map(|container| &container.state);
        matches!(state, Some(ContainerState::Terminated { exit_code: 0, .. }))
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
        match self.launch(slot, &spec, cgroup) {
            Ok(alive) => {
                let started_at = alive.started_at;
                if !alive.cgroup.procs().is_empty() {
                    self.move_zygote(slot, &spec.name);
                }
                self.alive.insert(slot, alive);
                self.change(slot, |status| {
                    status.started = spec.startup_probe.is_none();
                    status.state = ContainerState::Running { started_at };
                });
            }
            Err(failure) => {
                let now = clock::now();
                let message = failure.to_string();
                let state = terminated((START_ERROR, None), "StartError", message, (now, now));
                self.change(slot, |status| status.state = state);
            }
        }
    }

    /// On a thread, since it takes its time. Without one, programs move by themselves.
    fn move_zygote(&self, slot: Slot, container: &str) {
        if !slot.init && self.spec.containers.len() == 1 {
            let (shared, container) = (self.shared.clone(), container.to_owned());
            threads::spawn("move", move || shared.move_zygote(&container)).ok();
        }
    }

    fn launch(&self, slot: Slot, spec: &ContainerSpec, cgroup: Cgroup) -> Result<Alive, Failure> {
        let log_path = self.folder.log(&spec.name);
        logs::create(&log_path).step("making the log")?;
        let pipes = Pipes::new(spec).step("making pipes")?;
        let procs = cgroup.open().step("opening control groups")?;
        let mut fds = pipes.theirs();
        fds.extend(procs.iter().map(AsFd::as_fd));
        let (ended, stdio) = (self.shared.happenings.clone(), pipes.stdio);
        let order = |key| Order::Run { key, container: Box::new(spec.clone()), stdio };
        // Nobody listens once the pod's life is over.
        let on_exit = move |exit| drop(ended.send(Happening::Ended { slot, exit }));
        let started = self.shared.link.start(order, &fds, Box::new(on_exit))?;
        let (started_at, key) = (clock::now(), started.key);
        let running = Running { key, cgroup_procs: cgroup.procs() };
        self.shared.set_running(&spec.name, Some(running));
        let log = pipes.into_log(started.master, log_path);
        let (log, stdin) = log.step("starting the log's thread")?;
        let probe = spec.startup_probe.as_ref().map(|probe| {
            let (alive, watch) = channel();
            startup::watch(self.shared.clone(), slot, spec.name.clone(), probe.clone(), watch);
            alive
        });
        Ok(Alive { started_at, cgroup, log: Some(log), kill: None, _probe: probe, _stdin: stdin })
    }

    fn wait_for_all(&mut self) {
        while !self.alive.is_empty() {
            self.turn();
        }
    }

    /// Waits for what happens next or for what is due.
    fn turn(&mut self) {
        let now = clock::uptime();
        let wait = self.next_due().map_or(LONGEST_WAIT, |due| due.saturating_sub(now));
        match self.happenings.recv_timeout(wait.min(LONGEST_WAIT)) {
            Ok(Happening::Ended { slot, exit }) => self.ended(slot, exit),
            Ok(Happening::Stop { grace }) => self.end(grace),
            Ok(Happening::NeverStarted { slot, message }) => self.never_started(slot, message),
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
        kills.chain(deadline).chain(self.kill_at).min()
    }

    fn do_what_is_due(&mut self, now: Duration) {
        if self.kill_at.is_none() && self.deadline().is_some_and(|deadline| deadline <= now) {
            let message = "Pod was active on the node longer than the specified deadline";
            let reason = ("DeadlineExceeded".to_owned(), message.to_owned());
            self.shared.change(|status| status.reason = Some(reason));
            self.end(Duration::from_secs(self.spec.grace_seconds));
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
        if self.kill_at.is_none() {
            self.alive.keys().for_each(|slot| signal(&self.shared, &self.spec, *slot, SIGTERM));
        }
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
    }

    fn never_started(&mut self, slot: Slot, message: String) {
        let kill_at = clock::uptime() + Duration::from_secs(self.spec.grace_seconds);
        if let Some(alive) = self.alive.get_mut(&slot) {
            alive.kill = Some((kill_at, message));
            signal(&self.shared, &self.spec, slot, SIGTERM);
        }
    }

    fn ended(&mut self, slot: Slot, exit: Exit) {
        let Some(mut alive) = self.alive.remove(&slot) else { return };
        self.shared.set_running(&self.container(slot).name, None);
        // All its processes are gone, so the pipes have an end; the log is whole before the
        // status says so.
        if let Some(log) = alive.log.take() {
            log.join().ok();
        }
        let reason = match exit.code {
            0 => "Completed",
            _ if alive.cgroup.oom_killed() => "OOMKilled",
            _ => "Error",
        };
        let message = alive.kill.map(|(_, message)| message).unwrap_or_default();
        let times = (alive.started_at, clock::now());
        let state = terminated((exit.code, exit.signal), reason, message, times);
        self.change(slot, |status| status.state = state);
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

/// A container's standard streams: our ends and theirs.
struct Pipes {
    stdio: Stdio,
    stdout: Option<(OwnedFd, OwnedFd)>,
    stderr: Option<(OwnedFd, OwnedFd)>,
    stdin: Option<(OwnedFd, OwnedFd)>,
}

impl Pipes {
    fn new(spec: &ContainerSpec) -> std::io::Result<Self> {
        if spec.tty {
            let none = (None, None, None);
            let (stdout, stderr, stdin) = none;
            return Ok(Self { stdio: Stdio::Terminal, stdout, stderr, stdin });
        }
        Ok(Self {
            stdio: Stdio::Pipes { stdin: spec.stdin },
            stdout: Some(logs::pipe()?),
            stderr: Some(logs::pipe()?),
            stdin: if spec.stdin { Some(logs::pipe()?) } else { None },
        })
    }

    fn theirs(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        let out = [&self.stdout, &self.stderr].into_iter().flatten().map(|(_, write)| write);
        out.chain(self.stdin.as_ref().map(|(read, _)| read)).map(AsFd::as_fd).collect()
    }

    /// Copies our ends into the log; theirs are closed here.
    fn into_log(
        self,
        master: Option<OwnedFd>,
        path: std::path::PathBuf,
    ) -> std::io::Result<(JoinHandle<()>, Option<OwnedFd>)> {
        let stdin = match (&master, self.stdin) {
            (Some(master), _) => Some(master.try_clone()?),
            (None, stdin) => stdin.map(|(_, write)| write),
        };
        let stdout = master.or(self.stdout.map(|(read, _)| read));
        let stderr = self.stderr.map(|(read, _)| read);
        let stdout = stdout.ok_or(std::io::ErrorKind::NotFound)?;
        Ok((threads::spawn("log", move || logs::copy(&path, stdout, stderr))?, stdin))
    }
}
