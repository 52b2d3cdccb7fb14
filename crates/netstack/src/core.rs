//! What TCP and UDP share: the event queue, the way to the pod, the routes and the counters.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::counters::{Counters, count};
use crate::host;
use crate::nat::Pair;
use crate::outbox::Outbox;
use crate::packet;
use crate::route::Router;
use crate::{Config, Error};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Stop,
    Tun,
    Tcp(u64),
    Udp(u64),
    Echo(u64),
}

impl Token {
    fn encode(self) -> EventData {
        EventData::new_u64(match self {
            Self::Stop => 0,
            Self::Tun => 1,
            Self::Tcp(id) => id << 3 | 2,
            Self::Udp(id) => id << 3 | 3,
            Self::Echo(id) => id << 3 | 4,
        })
    }

    pub(crate) fn decode(data: EventData) -> Self {
        let number = data.u64();
        match number & 7 {
            0 => Self::Stop,
            1 => Self::Tun,
            2 => Self::Tcp(number >> 3),
            3 => Self::Udp(number >> 3),
            _ => Self::Echo(number >> 3),
        }
    }
}

/// Host sockets enter the event queue here and leave it by being closed.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) epoll: OwnedFd,
    pub(crate) outbox: Outbox,
    pub(crate) router: Router,
    pub(crate) counters: Arc<Counters>,
    last_id: u64,
}

impl Core {
    pub(crate) fn new(config: Config, stop: &OwnedFd) -> Result<Self, Error> {
        let router = Router::new(&config)?;
        let counters = Arc::clone(&config.counters);
        let outbox = Outbox::new(config.tun, config.mtu, config.offload, Arc::clone(&counters))
            .map_err(Error::Tun)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::Events)?;
        let core = Self { epoll, outbox, router, counters, last_id: 0 };
        core.watch(stop, Token::Stop, EventFlags::IN).map_err(Error::Events)?;
        core.watch(core.outbox.tun(), Token::Tun, EventFlags::IN).map_err(Error::Tun)?;
        Ok(core)
    }

    /// Starts a connection of the host to `address`, under a new id.
    pub(crate) fn open_tcp(&mut self, address: SocketAddr) -> Result<(u64, OwnedFd), Errno> {
        let socket = host::tcp(address)?;
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        self.adopt(socket, Token::Tcp, all)
    }

    /// Opens a datagram socket of the host for `address`, under a new id.
    pub(crate) fn open_udp(&mut self, address: SocketAddr) -> Result<(u64, OwnedFd), Errno> {
        let socket = host::udp(address)?;
        self.adopt(socket, Token::Udp, EventFlags::IN)
    }

    /// Opens a ping socket of the host for `address`, under a new id.
    pub(crate) fn open_echo(&mut self, address: IpAddr) -> Result<(u64, OwnedFd), Errno> {
        let socket = host::echo(address)?;
        self.adopt(socket, Token::Echo, EventFlags::IN)
    }

    /// Tells the pod that nobody takes its datagrams.
    pub(crate) fn unreachable(&self, pair: &Pair, data_len: usize) {
        self.outbox.send(&packet::unreachable(pair, data_len));
    }

    fn adopt(
        &mut self,
        socket: OwnedFd,
        token: fn(u64) -> Token,
        events: EventFlags,
    ) -> Result<(u64, OwnedFd), Errno> {
        count(&self.counters.host_sockets);
        self.last_id += 1;
        self.watch(&socket, token(self.last_id), events)?;
        Ok((self.last_id, socket))
    }

    fn watch(&self, fd: impl AsFd, token: Token, events: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, token.encode(), events)
    }
}
