//! The pod's pings to other machines: one ping socket of the host for each program that asks.
//!
//! A ping socket (`SOCK_DGRAM` with `IPPROTO_ICMP` or `IPPROTO_ICMPV6`) needs no privilege where
//! the host's `net.ipv4.ping_group_range` names a group of this process; it can send echo requests
//! and nothing else. Where it is not to be had the pod is told that ping is prohibited.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use smoltcp::time::Instant;

use crate::core::Core;
use crate::counters::count;
use crate::host;
use crate::nat::{Conversations, Pair};
use crate::packet::{self, Ping};

/// Conversations at a time; the one silent for longest makes room.
const MAX_PINGS: usize = 64;
/// Answers taken from one socket before the others have their turn.
const BUDGET: usize = 32;
/// Type, code, checksum, identifier and number.
const HEADER: usize = 8;
/// The types of requests and replies, ICMP's and ICMPv6's.
const REQUESTS: (u8, u8) = (8, 128);
const REPLIES: (u8, u8) = (0, 129);

/// All conversations: the identifier of the pod's stands where UDP has a port.
#[derive(Debug)]
pub(crate) struct Echo {
    open: Conversations<OwnedFd>,
    buffer: Vec<u8>,
}

impl Echo {
    pub(crate) fn new() -> Self {
        let buffer = vec![0; usize::from(u16::MAX)];
        Self { open: Conversations::new(MAX_PINGS), buffer }
    }

    /// Takes an echo request of the pod.
    pub(crate) fn on_ping(&mut self, core: &mut Core, ping: &Ping<'_>, now: Instant) {
        if core.router.answers_ping(ping.to) {
            core.outbox.send(&packet::pong(ping));
            return;
        }
        let pair =
            Pair { pod: SocketAddr::new(ping.from, ping.ident), peer: SocketAddr::new(ping.to, 0) };
        if self.open.touch(&pair, now).is_none() && !self.open(core, pair, now) {
            core.outbox.send(&packet::prohibited(ping));
            return;
        }
        let Some(socket) = self.open.touch(&pair, now) else { return };
        // The host's kernel writes the checksum and an identifier of its own.
        let [high, low] = ping.seq_no.to_be_bytes();
        let request = [&[of(REQUESTS, &pair), 0, 0, 0, 0, 0, high, low], ping.data].concat();
        // The first call may only report that an earlier request met an error.
        let sent = host::send(&*socket, &request).or_else(|_| host::send(&*socket, &request));
        if sent.is_err() {
            count(&core.counters.packets_lost);
        }
    }

    fn open(&mut self, core: &mut Core, pair: Pair, now: Instant) -> bool {
        if !core.router.allows(pair.peer.ip()) {
            count(&core.counters.refused);
            return false;
        }
        let Ok((id, socket)) = core.open_echo(pair.peer.ip()) else { return false };
        self.open.insert(pair, id, socket, now);
        true
    }

    /// Takes what a host socket has for the pod; what is left over is reported again.
    pub(crate) fn on_host(&mut self, core: &Core, id: u64, now: Instant) {
        let Some(pair) = self.open.pair(id) else { return };
        for _ in 0..BUDGET {
            let Some(socket) = self.open.touch(&pair, now) else { return };
            match host::receive_from(&*socket, &mut self.buffer) {
                // The kernel hands over whatever carries the identifier, whoever sent it.
                Ok((len, from)) if from == Some(pair.peer.ip()) => {
                    deliver(core, &pair, &self.buffer[..len]);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => count(&core.counters.packets_lost),
            }
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.open.sweep(now);
    }

    /// Returns when [`Echo::sweep`] is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.open.next_wake()
    }
}

fn of((four, six): (u8, u8), pair: &Pair) -> u8 {
    if pair.peer.is_ipv4() { four } else { six }
}

fn deliver(core: &Core, pair: &Pair, message: &[u8]) {
    let (Some([kind, 0, _, _, _, _, high, low]), Some(data)) =
        (message.first_chunk::<HEADER>(), message.get(HEADER..))
    else {
        return;
    };
    if *kind != of(REPLIES, pair) {
        return;
    }
    if data.len() + packet::overhead(pair.pod.ip()) > core.outbox.mtu() {
        count(&core.counters.packets_lost);
        return;
    }
    let (from, to, ident) = (pair.pod.ip(), pair.peer.ip(), pair.pod.port());
    let seq_no = u16::from_be_bytes([*high, *low]);
    core.outbox.send(&packet::pong(&Ping { from, to, ident, seq_no, data }));
}
