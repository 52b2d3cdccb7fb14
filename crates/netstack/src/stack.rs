//! The event loop: sleeps until something is due and hands it to TCP or UDP.

use std::hash::{BuildHasher, Hasher};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use smoltcp::time::Instant;

use crate::clock::Clock;
use crate::core::{Core, Token};
use crate::counters::count;
use crate::echo::Echo;
use crate::packet::{self, Inbound, Own};
use crate::tcp::Table;
use crate::udp::Relay;
use crate::{Config, Error, SwitchPort};

/// What every IPv4 host must take (RFC 791); smoltcp counts on room for its headers.
const MIN_MTU: u16 = 576;
/// Packets taken from the TUN before the host's sockets have their turn.
const BUDGET: usize = 64;
/// Events taken at a time.
const EVENTS: usize = 256;

/// Runs a stack until `stop` is readable.
pub(crate) fn run(mut config: Config, stop: &OwnedFd) -> Result<(), Error> {
    if config.mtu < MIN_MTU {
        return Err(Error::Mtu(config.mtu));
    }
    let clock = Clock::start();
    let port = config.switch.take();
    let stack = Stack::new(config, port.as_deref(), stop, clock.now())?;
    let Some(port) = &port else { return stack.run(&clock) };
    let tun = stack.core.outbox.tun().try_clone_to_owned().map_err(Error::Thread)?;
    let (before, counters) = (stack.core.outbox.before(), Arc::clone(&stack.core.counters));
    let mut inbox = vec![0; stack.inbox.len()];
    thread::scope(|scope| {
        let deliver = move || port.deliver(tun, before, &mut inbox, &counters);
        let name = "switch".to_owned();
        thread::Builder::new().name(name).spawn_scoped(scope, deliver).map_err(Error::Thread)?;
        let result = stack.run(&clock);
        port.close();
        result
    })
}

/// Everything that lives as long as the loop.
struct Stack<'a> {
    core: Core,
    switch: Option<&'a SwitchPort>,
    tcp: Table,
    udp: Relay,
    echo: Echo,
    own: Own,
    inbox: Vec<u8>,
}

impl<'a> Stack<'a> {
    fn new(
        config: Config,
        switch: Option<&'a SwitchPort>,
        stop: &OwnedFd,
        now: Instant,
    ) -> Result<Self, Error> {
        let own = Own { four: config.pod_ip, six: config.pod_ip6 };
        let (mtu, limit) = (config.mtu, config.max_flows);
        let mut core = Core::new(config, stop)?;
        let inbox = vec![0; core.outbox.before() + usize::from(mtu)];
        let tcp = Table::new(&mut core, limit, random(), now);
        Ok(Self { core, switch, tcp, udp: Relay::new(), echo: Echo::new(), own, inbox })
    }

    fn run(mut self, clock: &Clock) -> Result<(), Error> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let timeout = self.next_wake().map(|at| timeout(clock.now(), at));
            match epoll::wait(&self.core.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Error::Events(error)),
            }
            let now = clock.now();
            for event in events.drain(..) {
                match Token::decode(event.data) {
                    Token::Stop => return Ok(()),
                    Token::Tun => self.read_tun(now).map_err(Error::Tun)?,
                    Token::Tcp(id) => self.tcp.on_host(&self.core, id, event.flags),
                    Token::Udp(id) => self.udp.on_host(&mut self.core, id, now),
                    Token::Echo(id) => self.echo.on_host(&self.core, id, now),
                }
            }
            self.tcp.settle(&mut self.core, now);
            self.udp.sweep(now);
            self.echo.sweep(now);
        }
    }

    fn next_wake(&mut self) -> Option<Instant> {
        [self.tcp.next_wake(), self.udp.next_wake(), self.echo.next_wake()]
            .into_iter()
            .flatten()
            .min()
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
        let Self { core, switch, tcp, udp, echo, own, inbox } = self;
        let Some(bytes) = inbox[..len].get(core.outbox.before()..) else { return };
        if let Some(port) = switch
            && let Some(to) = port.neighbour(bytes)
            && port.send(to, &inbox[..len], &core.counters)
        {
            return;
        }
        match packet::parse(bytes, *own) {
            Inbound::Tcp(segment) => tcp.on_segment(core, &segment, bytes, now),
            Inbound::Udp(pair, data) => udp.on_datagram(core, pair, data, now),
            Inbound::Ping(ping) => echo.on_ping(core, &ping, now),
            Inbound::Useless => count(&core.counters.ignored),
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
pub(crate) fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
