//! The shim's side of its zygote: starts processes, signals them, hears of their end.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fdpass;
use crate::spec::{FileContent, Usage};
use crate::zygote::failure::{Failure, Step};
use crate::zygote::message::{self, Event, Key, Order};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// As a shell reports it.
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
}

impl Exit {
    /// What happens to all when the zygote dies.
    const KILLED: Self = Self { code: 137, signal: Some(9) };
}

/// Called once, by the thread that listens to the zygote: it must not block.
pub(crate) type OnExit = Box<dyn FnOnce(Exit) + Send>;

/// A process that runs its program by now.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) key: Key,
    /// Its terminal, if it has one.
    pub(crate) master: Option<OwnedFd>,
}

/// The connection to the zygote, shared by all threads.
pub(crate) struct Link {
    socket: UnixStream,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: Key,
    /// The zygote is gone.
    closed: bool,
    waiting: BTreeMap<Key, OnExit>,
}

impl Link {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a process started and waits until its program runs. `fds` are its pipes, then the
    /// `cgroup.procs` files that it joins.
    pub(crate) fn start(
        &self,
        order: impl FnOnce(Key) -> Order,
        fds: &[BorrowedFd<'_>],
        on_exit: OnExit,
    ) -> Result<Started, Failure> {
        let (report, theirs) = UnixStream::pair().step("making a socket pair")?;
        let mut all = vec![theirs.as_fd()];
        all.extend(fds);
        let key = self.send(order, &all, on_exit)?;
        drop(theirs);
        let result = read_report(&report);
        if result.is_err() {
            self.state().waiting.remove(&key);
        }
        Ok(Started { key, master: result? })
    }

    fn send(
        &self,
        order: impl FnOnce(Key) -> Order,
        fds: &[BorrowedFd<'_>],
        on_exit: OnExit,
    ) -> Result<Key, Failure> {
        let mut state = self.state();
        if state.closed {
            return Err(Failure::Gone);
        }
        let key = state.next;
        state.next += 1;
        message::send(&self.socket, &order(key), fds).map_err(|_| Failure::Gone)?;
        state.waiting.insert(key, on_exit);
        Ok(key)
    }

    /// Returns a socket that connects within the pod's network.
    pub(crate) fn socket(&self) -> Result<OwnedFd, Failure> {
        self.ask(&Order::Socket)?.ok_or(Failure::Gone)
    }

    /// Replaces the files of a volume.
    pub(crate) fn replace(
        &self,
        volume: String,
        files: BTreeMap<String, FileContent>,
    ) -> Result<(), Failure> {
        self.ask(&Order::Files { volume, files }).map(drop)
    }

    /// Returns what the pod's containers and volumes have on disk; it may take long.
    pub(crate) fn usage(&self, containers: Vec<String>) -> Result<Usage, Failure> {
        let (report, theirs) = UnixStream::pair().step("making a socket pair")?;
        let order = |key| Order::Usage { key, containers };
        self.send(order, &[theirs.as_fd()], Box::new(drop))?;
        drop(theirs);
        let mut text = Vec::new();
        (&report).read_to_end(&mut text).step("counting files")?;
        serde_json::from_slice(&text).map_err(|_| Failure::from_report(&text))
    }

    /// Has the zygote do something by itself.
    fn ask(&self, order: &Order) -> Result<Option<OwnedFd>, Failure> {
        let (report, theirs) = UnixStream::pair().step("making a socket pair")?;
        {
            let state = self.state();
            if state.closed {
                return Err(Failure::Gone);
            }
            message::send(&self.socket, order, &[theirs.as_fd()]).map_err(|_| Failure::Gone)?;
        }
        drop(theirs);
        read_report(&report)
    }

    /// Sends a signal to a process, or to the group it leads; one that has ended gets none.
    pub(crate) fn signal(&self, key: Key, signal: i32, group: bool) {
        let _one_at_a_time = self.state();
        // A zygote that is gone has taken the process along.
        message::send(&self.socket, &Order::Signal { key, signal, group }, &[]).ok();
    }

    /// Passes ends on until the zygote is gone; then all have ended.
    pub(crate) fn listen(&self) {
        while let Ok(Some((event, _))) = message::recv::<Event>(&self.socket) {
            if let Event::Exited { key, code, signal } = event {
                let waiting = self.state().waiting.remove(&key);
                if let Some(on_exit) = waiting {
                    on_exit(Exit { code, signal });
                }
            }
        }
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(|on_exit| on_exit(Exit::KILLED));
    }
}

/// Reads a terminal, if one comes, and then an end without a word or the failure.
fn read_report(report: &UnixStream) -> Result<Option<OwnedFd>, Failure> {
    let mut first = [0];
    let (count, fds) = fdpass::recv(report, &mut first).step("waiting for a program")?;
    let master = fds.into_iter().next();
    let mut text = Vec::new();
    if count == 1 && master.is_none() {
        text.push(first[0]);
    }
    let mut report = report;
    report.read_to_end(&mut text).step("waiting for a program")?;
    match text.is_empty() {
        true => Ok(master),
        false => Err(Failure::from_report(&text)),
    }
}
