//! The pod's TCP connections by their two addresses.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use smoltcp::iface::{Config as InterfaceConfig, Interface};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

use crate::TO_POD;
use crate::core::Core;
use crate::counters::count;
use crate::flow::{Engines, Flow, Verdict};
use crate::nat::Pair;
use crate::outbox::Port;
use crate::packet::{self, Segment};
use crate::route::Route;
use crate::timers::Timers;

/// Bytes on their way to the pod at which the connections of one round share the space, so that
/// what is read from the host is still in the processor's cache when it is sent on.
const BUSY_BYTES: usize = 4 << 20;
/// Less would not fill two packets.
const LEAST_SHARE: usize = 128 * 1024;

/// All connections. Each has a socket set of its own, because smoltcp searches a set from its
/// beginning for every packet.
pub(crate) struct Table {
    net: Interface,
    flows: HashMap<u64, Flow>,
    ids: HashMap<Pair, u64>,
    engines: Engines,
    timers: Timers,
    /// Connections that something has happened to since the last [`Table::settle`].
    touched: Vec<u64>,
    limit: usize,
}

impl Table {
    /// `seed` makes the first sequence numbers unpredictable.
    pub(crate) fn new(core: &mut Core, limit: usize, seed: u64, now: Instant) -> Self {
        let mut config = InterfaceConfig::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut port = Port { packet: None, outbox: &mut core.outbox };
        let mut net = Interface::new(config, &mut port, now);
        net.set_any_ip(true);
        Self {
            net,
            flows: HashMap::new(),
            ids: HashMap::new(),
            engines: Engines::default(),
            timers: Timers::default(),
            touched: Vec::new(),
            limit,
        }
    }

    /// Takes a segment of the pod, both read and as the packet it came in.
    pub(crate) fn on_segment(
        &mut self,
        core: &mut Core,
        segment: &Segment,
        packet: &[u8],
        now: Instant,
    ) {
        let known = self.ids.get(&segment.pair).copied();
        let id = known.or_else(|| self.admit(core, segment, now));
        let Some((id, flow)) = id.and_then(|id| Some((id, self.flows.get_mut(&id)?))) else {
            return;
        };
        flow.on_packet(&mut self.net, &mut core.outbox, packet, now);
        self.touched.push(id);
    }

    /// Makes a connection of a SYN, or answers RST.
    fn admit(&mut self, core: &mut Core, segment: &Segment, now: Instant) -> Option<u64> {
        if segment.resets {
            return None;
        }
        let opened = if segment.opens { self.open(core, segment.pair, now) } else { None };
        if opened.is_none() {
            core.outbox.send(&packet::reset(segment));
        }
        opened
    }

    fn open(&mut self, core: &mut Core, pair: Pair, now: Instant) -> Option<u64> {
        let (Route::Host(address) | Route::Resolver(address)) = core.router.route(pair.peer) else {
            return refuse(&core.counters.refused);
        };
        if self.flows.len() >= self.limit {
            return refuse(&core.counters.exhausted);
        }
        match core.open_tcp(address) {
            Ok((id, socket)) => {
                self.flows.insert(id, Flow::new(pair, socket, self.engines.listen(pair.peer), now));
                self.ids.insert(pair, id);
                Some(id)
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                refuse(&core.counters.exhausted)
            }
            Err(_) => None,
        }
    }

    /// Takes an event of a host's socket; one that was closed in the same round is unknown.
    pub(crate) fn on_host(&mut self, core: &Core, id: u64, events: EventFlags) {
        if let Some(flow) = self.flows.get_mut(&id) {
            if flow.on_host(events) {
                count(&core.counters.tcp_opened);
            }
            self.touched.push(id);
        }
    }

    /// Lets every connection act that is due or that something has happened to.
    pub(crate) fn settle(&mut self, core: &mut Core, now: Instant) {
        while let Some(id) = self.timers.pop_due(now) {
            self.touched.push(id);
        }
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let share = (BUSY_BYTES / touched.len().max(1)).clamp(LEAST_SHARE, TO_POD);
        for id in touched.drain(..) {
            self.service(core, id, now, share);
        }
        self.touched = touched;
    }

    fn service(&mut self, core: &mut Core, id: u64, now: Instant, share: usize) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        match flow.service(&mut self.net, &mut core.outbox, now, share) {
            Verdict::Open(Some(at)) => self.timers.set(id, at),
            Verdict::Open(None) => {}
            Verdict::Done => self.forget(core, id),
        }
    }

    fn forget(&mut self, core: &Core, id: u64) {
        self.timers.clear(id);
        if let Some(flow) = self.flows.remove(&id) {
            self.ids.remove(&flow.pair);
            flow.into_engine(&mut self.engines);
            tracing::trace!(id, "connection over");
            count(&core.counters.tcp_closed);
        }
    }

    /// Returns when [`Table::settle`] is due without any event.
    pub(crate) fn next_wake(&mut self) -> Option<Instant> {
        self.timers.next()
    }
}

fn refuse(counter: &AtomicU64) -> Option<u64> {
    count(counter);
    None
}
