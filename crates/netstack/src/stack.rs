//! The event loop: sleeps until something is due and hands it to TCP or UDP.

use std::hash::{BuildHasher, Hasher};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use smoltcp::time::Instant;

use crate::clock::Clock;
use crate::core::{Core, Token};
use crate::counters::count;
use crate::packet::{self, Inbound};
use crate::tcp::Table;
use crate::udp::Relay;
use crate::{Config, Error};

/// What every IPv4 host must take (RFC 791); smoltcp counts on room for its headers.
const MIN_MTU: u16 = 576;
/// Packets taken from the TUN before the host's sockets have their turn.
const BUDGET: usize = 64;
/// Events taken at a time.
const EVENTS: usize = 256;

/// Runs a stack until `stop` is readable.
pub(crate) fn run(config: Config, stop: &OwnedFd) -> Result<(), Error> {
    if config.mtu < MIN_MTU {
        return Err(Error::Mtu(config.mtu));
    }
    let clock = Clock::start();
    let mut stack = Stack::new(config, stop, clock.now())?;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let timeout = stack.next_wake().map(|at| timeout(clock.now(), at));
        match epoll::wait(&stack.core.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::Events(error)),
        }
        let now = clock.now();
        for event in events.drain(..) {
            match Token::decode(event.data) {
                Token::Stop => return Ok(()),
                Token::Tun => stack.read_tun(now).map_err(Error::Tun)?,
                Token::Tcp(id) => stack.tcp.on_host(&stack.core, id, event.flags),
                Token::Udp(id) => stack.udp.on_host(&mut stack.core, id, now),
            }
        }
        stack.tcp.settle(&mut stack.core, now);
        stack.udp.sweep(now);
    }
}

/// Everything that lives as long as the loop.
struct Stack {
    core: Core,
    tcp: Table,
    udp: Relay,
    pod_ip: Ipv4Addr,
    inbox: Vec<u8>,
}

impl Stack {
    fn new(config: Config, stop: &OwnedFd, now: Instant) -> Result<Self, Error> {
        let (pod_ip, mtu, limit) = (config.pod_ip, config.mtu, config.max_flows);
        let mut core = Core::new(config, stop)?;
        let tcp = Table::new(&mut core, limit, random(), now);
        Ok(Self { core, tcp, udp: Relay::new(), pod_ip, inbox: vec![0; usize::from(mtu)] })
    }

    fn next_wake(&mut self) -> Option<Instant> {
        self.tcp.next_wake().into_iter().chain(self.udp.next_wake()).min()
    }

    fn read_tun(&mut self, now: Instant) -> Result<(), Errno> {
        for _ in 0..BUDGET {
            match rustix::io::read(self.core.outbox.tun(), &mut self.inbox) {
                // Never of a TUN, but of a socket in its place whose other end is closed.
                Ok(0) => return Err(Errno::PIPE),
                Ok(len) => self.on_packet(len, now),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn on_packet(&mut self, len: usize, now: Instant) {
        let Self { core, tcp, udp, pod_ip, inbox } = self;
        let bytes = &inbox[..len];
        match packet::parse(bytes, *pod_ip) {
            Inbound::Tcp(segment) => tcp.on_segment(core, &segment, bytes, now),
            Inbound::Udp(pair, data) => udp.on_datagram(core, pair, data, now),
            Inbound::Ping(ping) if core.router.answers_ping(ping.to) => {
                core.outbox.send(&packet::pong(&ping));
            }
            Inbound::Ping(_) | Inbound::Useless => count(&core.counters.ignored),
        }
    }
}

/// Returns the time to sleep, rounded up to what epoll counts in: a moment too early would only
/// mean to sleep again.
fn timeout(now: Instant, at: Instant) -> Timespec {
    let micros = (at.total_micros() - now.total_micros()).max(0);
    let millis = (micros + 999) / 1000;
    Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
}

/// The standard library's hash keys come from the system's random source.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
