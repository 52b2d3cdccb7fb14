//! One TCP connection: the pod's end in smoltcp, the other end a socket of the host.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use smoltcp::iface::{Interface, PollResult};
use smoltcp::socket::tcp::{RecvError, Socket, State};
use smoltcp::time::{Duration, Instant};

use crate::host;
use crate::nat::Pair;
use crate::outbox::{Outbox, Port};

mod engine;

pub(crate) use engine::{Engine, Engines};

/// How long a host may take to accept. Shorter than Linux' own two minutes, so that a pod that
/// dials a black hole does not collect sockets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before a connection that wants to act but could not is asked again.
const RETRY: Duration = Duration::from_millis(1);

/// Whether a connection goes on, and when it wants to be looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Open(Option<Instant>),
    Done,
}

/// A connection and how far it has come.
///
/// The pod's SYN is not answered before the host's connect has succeeded. Bytes wait in smoltcp's
/// two buffers and nowhere else: a full one closes the pod's window, or leaves the bytes in the
/// host's socket.
pub(crate) struct Flow {
    pub(crate) pair: Pair,
    engine: Engine,
    /// Bytes in both directions.
    moved: usize,
    host: OwnedFd,
    /// Set until the host's connect has succeeded.
    connect_by: Option<Instant>,
    /// The host's socket may have something to read; false once it said "again".
    readable: bool,
    /// The host's socket has told of its end, which it does not do again.
    ending: bool,
    writable: bool,
    /// The host has sent FIN, and the pod's FIN follows its last byte.
    host_done: bool,
    /// The pod has sent FIN, and it was passed on behind the last byte.
    pod_done: bool,
    pod_reset: bool,
    host_failed: bool,
}

impl Flow {
    pub(crate) fn new(pair: Pair, host: OwnedFd, engine: Engine, now: Instant) -> Self {
        Self {
            pair,
            engine,
            moved: 0,
            host,
            connect_by: Some(now + CONNECT_TIMEOUT),
            readable: false,
            ending: false,
            writable: false,
            host_done: false,
            pod_done: false,
            pod_reset: false,
            host_failed: false,
        }
    }

    /// Takes a packet of the pod. Answers that cannot wait are sent at once.
    pub(crate) fn on_packet(
        &mut self,
        net: &mut Interface,
        outbox: &mut Outbox,
        packet: &[u8],
        now: Instant,
    ) {
        let before = self.socket().state();
        net.poll_ingress_single(
            now,
            &mut Port { packet: Some(packet), outbox },
            &mut self.engine.set,
        );
        let over = matches!(before, State::Closed | State::LastAck | State::TimeWait);
        let gone = matches!(self.socket().state(), State::Closed | State::Listen);
        self.pod_reset |= gone && !over;
    }

    /// Takes an event of the host's socket; tells whether it has just been connected.
    pub(crate) fn on_host(&mut self, events: EventFlags) -> bool {
        let over = EventFlags::ERR | EventFlags::HUP;
        let writable = events.intersects(EventFlags::OUT | over);
        self.readable |= events.intersects(EventFlags::IN | EventFlags::RDHUP | over);
        self.ending |= events.intersects(EventFlags::RDHUP | over);
        self.writable |= writable;
        if self.connect_by.is_some() && writable {
            return self.on_connect();
        }
        if self.host_done && events.contains(EventFlags::ERR) {
            // Nobody reads any more, so the error has to be asked for.
            self.host_failed |= host::connected(&self.host).is_err();
        }
        false
    }

    fn on_connect(&mut self) -> bool {
        self.host_failed = host::connected(&self.host).is_err();
        if !self.host_failed {
            self.connect_by = None;
            self.socket().pause_synack(false);
        }
        !self.host_failed
    }

    /// Moves what can be moved in both directions and sends what is due.
    pub(crate) fn service(
        &mut self,
        net: &mut Interface,
        outbox: &mut Outbox,
        now: Instant,
        share: usize,
    ) -> Verdict {
        if self.pod_reset {
            host::reset_on_close(&self.host);
            return Verdict::Done;
        }
        if let Some(deadline) = self.connect_by {
            if !self.host_failed && now < deadline {
                return Verdict::Open(Some(deadline));
            }
            self.host_failed = true;
        }
        self.host_failed = self.host_failed || self.pump(share).is_err();
        if self.host_failed {
            self.socket().abort();
        }
        self.egress(net, outbox, now);
        self.verdict(net, now)
    }

    fn pump(&mut self, share: usize) -> Result<(), Errno> {
        self.pod_to_host()?;
        self.host_to_pod(share)
    }

    fn pod_to_host(&mut self) -> Result<(), Errno> {
        let socket = self.engine.socket();
        while self.writable && socket.can_recv() {
            let sent = socket.recv(|bytes| counted(host::send(&self.host, bytes)));
            match sent.unwrap_or(Ok(0)) {
                Ok(len) => self.moved = self.moved.saturating_add(len),
                Err(Errno::AGAIN) => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        // Answers "finished" only when FIN has come and the last byte was taken.
        let finished = socket.recv(|_| (0, ())) == Err(RecvError::Finished);
        if finished && !self.pod_done {
            host::finish(&self.host);
            self.pod_done = true;
        }
        Ok(())
    }

    fn host_to_pod(&mut self, share: usize) -> Result<(), Errno> {
        let socket = self.engine.socket();
        while self.readable && !self.host_done && socket.send_queue() < share && socket.can_send() {
            let left = share - socket.send_queue();
            let mut room = 0;
            let read = socket.send(|space| {
                room = space.len().min(left);
                counted(host::receive(&self.host, &mut space[..room]))
            });
            match read.unwrap_or(Err(Errno::AGAIN)) {
                Ok(0) => {
                    self.host_done = true;
                    socket.close();
                }
                // Less than there was room for is all there was: more makes an event (epoll(7)).
                Ok(len) => {
                    self.moved = self.moved.saturating_add(len);
                    self.readable = len == room || self.ending;
                }
                Err(Errno::AGAIN) => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn egress(&mut self, net: &mut Interface, outbox: &mut Outbox, now: Instant) {
        // When its TIME-WAIT is over, smoltcp would drop bytes that the host has not taken yet.
        let waiting = self.socket().state() == State::TimeWait;
        if waiting && net.poll_at(now, &self.engine.set).is_none_or(|at| at > Instant::ZERO) {
            return;
        }
        let mut port = Port { packet: None, outbox };
        while net.poll_egress(now, &mut port, &mut self.engine.set)
            == PollResult::SocketStateChanged
        {}
    }

    fn verdict(&mut self, net: &mut Interface, now: Instant) -> Verdict {
        let pod_done = self.pod_done;
        match self.socket().state() {
            State::Closed if self.host_failed || !self.socket().can_recv() => Verdict::Done,
            State::TimeWait if pod_done => Verdict::Done,
            State::Closed | State::TimeWait => Verdict::Open(None),
            _ => Verdict::Open(net.poll_at(now, &self.engine.set).map(|at| at.max(now + RETRY))),
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.engine.socket()
    }

    /// Closes the host's socket and gives back what the next connection can use.
    pub(crate) fn into_engine(self, engines: &mut Engines) {
        engines.put(self.engine, self.moved);
    }
}

/// Tells smoltcp how many bytes were moved, and the caller how it went.
fn counted(moved: Result<usize, Errno>) -> (usize, Result<usize, Errno>) {
    (moved.unwrap_or(0), moved)
}

#[cfg(test)]
mod tests;
