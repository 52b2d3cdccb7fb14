//! Sockets of the host: never blocking, never inherited.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, connect, socket_with,
};

/// Starts a connection; whether it succeeds is told by the event queue and [`connected`].
pub(crate) fn tcp(peer: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = open(peer, SocketType::STREAM)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    match connect(&socket, &peer) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Opens a datagram socket that hears only `peer`, and its refusals.
pub(crate) fn udp(peer: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = open(peer, SocketType::DGRAM)?;
    connect(&socket, &peer)?;
    Ok(socket)
}

fn open(peer: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

/// Returns how the connection attempt went, or the error the connection has since met.
/// The question clears the error: after it, a read sees a clean end.
pub(crate) fn connected(socket: impl AsFd) -> Result<(), Errno> {
    sockopt::socket_error(socket).and_then(|outcome| outcome)
}

pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| {
        rustix::net::recv(&socket, &mut *buffer, RecvFlags::empty()).map(|(n, _)| n)
    })
}

pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL))
}

/// Sends FIN. A peer that is gone already is found by the next read.
pub(crate) fn finish(socket: impl AsFd) {
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

/// Makes the coming close send RST instead of FIN.
pub(crate) fn reset_on_close(socket: impl AsFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
