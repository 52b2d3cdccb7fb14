//! smoltcp's side of a connection, and those that wait for the next one.

use std::net::SocketAddr;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::wire::{IpAddress, IpListenEndpoint};

use crate::{TO_HOST, TO_POD};

/// Bytes that a connection may have moved so that its buffers are kept: few of their pages were
/// touched.
const SMALL: usize = 16 * 1024;
/// So many are kept: 256 KiB at most.
const KEPT: usize = 8;

/// One socket, in a set of its own.
pub(crate) struct Engine {
    pub(super) set: SocketSet<'static>,
    pub(super) handle: SocketHandle,
}

impl Engine {
    fn new() -> Self {
        let buffer = |len| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(TO_HOST), buffer(TO_POD));
        // A relay adds no delays of its own to those of its two ends.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self { set, handle }
    }

    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Waits for a SYN to `peer`, which is not answered yet. Everything of an earlier connection
    /// is forgotten.
    fn listen(&mut self, peer: SocketAddr) {
        let socket = self.socket();
        socket.abort();
        socket.pause_synack(true);
        let addr = Some(IpAddress::from(peer.ip()));
        // It fails only for port 0, which the router refuses; then the SYN finds no listener.
        let _ = socket.listen(IpListenEndpoint { addr, port: peer.port() });
    }
}

/// Engines of short connections that are over. To map and to clear new buffers for each takes
/// longer than such a connection.
#[derive(Default)]
pub(crate) struct Engines(pub(super) Vec<Engine>);

impl Engines {
    pub(crate) fn listen(&mut self, peer: SocketAddr) -> Engine {
        let mut engine = self.0.pop().unwrap_or_else(Engine::new);
        engine.listen(peer);
        engine
    }

    /// Takes one back that has moved so many bytes.
    pub(crate) fn put(&mut self, engine: Engine, moved: usize) {
        if moved <= SMALL && self.0.len() < KEPT {
            self.0.push(engine);
        }
    }
}
