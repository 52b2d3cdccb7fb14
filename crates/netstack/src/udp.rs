//! The pod's datagrams: one host socket for each conversation, name service included.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use smoltcp::time::{Duration, Instant};

use crate::core::Core;
use crate::counters::count;
use crate::host;
use crate::nat::{Conversations, MAX_CONVERSATIONS, Pair};
use crate::packet;
use crate::route::Route;

/// A question asked again after this time without any answer goes to the next resolver.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(2);
/// Datagrams taken from one socket before the others have their turn.
const BUDGET: usize = 32;

/// One conversation. Its socket is connected, so the host's kernel lets in only the peer.
#[derive(Debug)]
struct Conversation {
    socket: OwnedFd,
    /// The resolver asked, in conversations with the name server.
    resolver: Option<SocketAddr>,
    /// When the first datagram went out that nothing has come back for.
    unanswered: Option<Instant>,
}

impl Conversation {
    fn overdue(&self, now: Instant) -> Option<SocketAddr> {
        let since = self.unanswered?;
        self.resolver.filter(|_| since + RESOLVER_PATIENCE <= now)
    }
}

/// All conversations.
#[derive(Debug)]
pub(crate) struct Relay {
    open: Conversations<Conversation>,
    buffer: Vec<u8>,
}

impl Relay {
    pub(crate) fn new() -> Self {
        let buffer = vec![0; usize::from(u16::MAX)];
        Self { open: Conversations::new(MAX_CONVERSATIONS), buffer }
    }

    /// Takes a datagram of the pod.
    pub(crate) fn on_datagram(&mut self, core: &mut Core, pair: Pair, data: &[u8], now: Instant) {
        self.change_resolver(core, &pair, now);
        if self.open.touch(&pair, now).is_none() && !self.open(core, pair, now) {
            core.unreachable(&pair, data.len());
            return;
        }
        let Some(conversation) = self.open.touch(&pair, now) else { return };
        conversation.unanswered.get_or_insert(now);
        let socket = &conversation.socket;
        // The first call may only report that an earlier datagram was refused.
        let sent = host::send(socket, data).or_else(|_| host::send(socket, data));
        if sent.is_err() {
            count(&core.counters.packets_lost);
        }
    }

    fn change_resolver(&mut self, core: &mut Core, pair: &Pair, now: Instant) {
        if let Some(resolver) = self.open.touch(pair, now).and_then(|c| c.overdue(now)) {
            core.router.give_up_on(resolver);
            self.open.remove(pair);
        }
    }

    fn open(&mut self, core: &mut Core, pair: Pair, now: Instant) -> bool {
        let (address, resolver) = match core.router.route(pair.peer) {
            Route::Host(address) => (address, None),
            Route::Resolver(address) => (address, Some(address)),
            Route::Refused => {
                count(&core.counters.refused);
                return false;
            }
        };
        let Ok((id, socket)) = core.open_udp(address) else { return false };
        let conversation = Conversation { socket, resolver, unanswered: None };
        self.open.insert(pair, id, conversation, now);
        true
    }

    /// Takes what a host socket has for the pod; what is left over is reported again.
    pub(crate) fn on_host(&mut self, core: &mut Core, id: u64, now: Instant) {
        let Some(pair) = self.open.pair(id) else { return };
        for _ in 0..BUDGET {
            let Some(conversation) = self.open.touch(&pair, now) else { return };
            match host::receive(&conversation.socket, &mut self.buffer) {
                Ok(len) => {
                    conversation.unanswered = None;
                    deliver(core, &pair, &self.buffer[..len]);
                }
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    let resolver = conversation.resolver;
                    resolver.into_iter().for_each(|r| core.router.give_up_on(r));
                    core.unreachable(&pair, 0);
                    return self.open.remove(&pair);
                }
            }
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.open.sweep(now);
    }

    /// Returns when [`Relay::sweep`] is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.open.next_wake()
    }
}

fn deliver(core: &Core, pair: &Pair, data: &[u8]) {
    if data.len() + packet::overhead(pair.pod.ip()) > core.outbox.mtu() {
        count(&core.counters.packets_lost);
    } else {
        core.outbox.send(&packet::datagram(pair, data));
    }
}
