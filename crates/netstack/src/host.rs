//! Sockets of the host: never blocking, never inherited.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, connect, ipproto,
    socket_with,
};

/// The first of all global addresses (RFC 4291), which nobody has: only a default route leads there.
const FAR_AWAY: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);

/// Tells whether this machine reaches the world by IPv6 at this moment: its kernel has a route to
/// any global address, and an address of its own to send from that is not only of a link. Sends
/// nothing.
pub fn reaches_ipv6() -> bool {
    let asked = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((FAR_AWAY, 9))?;
        socket.local_addr()
    });
    matches!(asked.map(|own| own.ip()), Ok(IpAddr::V6(own))
        if !own.is_loopback() && !own.is_unspecified() && !own.is_unicast_link_local())
}

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

/// Opens a ping socket for `peer`; EACCES where the host's `ping_group_range` leaves us out.
pub(crate) fn echo(peer: IpAddr) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (family, protocol) = match peer {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(protocol))?;
    connect(&socket, &SocketAddr::new(peer, 0))?;
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

/// As [`receive`], with the sender of what was received.
pub(crate) fn receive_from(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Option<IpAddr>), Errno> {
    let (len, _, from) = rustix::net::recvfrom(socket, buffer, RecvFlags::empty())?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
    Ok((len, from.map(|from| from.ip())))
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
