//! Reads the pod's packets and writes the ones no TCP engine writes: RST, UDP and ICMP.
//!
//! Checksums of what comes in are not verified: the pod's kernel on the other side of the TUN has
//! just computed them, and nothing can have damaged the bytes since.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet,
    Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use crate::nat::Pair;

const HOP_LIMIT: u8 = 64;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// A packet of the pod, as far as this crate has a use for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inbound<'a> {
    Tcp(Segment),
    Udp(Pair, &'a [u8]),
    Ping(Ping<'a>),
    /// Malformed, a fragment, another protocol, or not from the pod.
    Useless,
}

/// What decides about a TCP segment before the connection is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) pair: Pair,
    pub(crate) opens: bool,
    pub(crate) resets: bool,
    seq: TcpSeqNumber,
    ack: Option<TcpSeqNumber>,
    len: usize,
}

/// An ICMP echo request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ping<'a> {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    ident: u16,
    seq_no: u16,
    data: &'a [u8],
}

/// Reads one packet; only those of `pod_ip` are of use.
pub(crate) fn parse(bytes: &[u8], pod_ip: Ipv4Addr) -> Inbound<'_> {
    parse_ipv4(bytes, pod_ip).unwrap_or(Inbound::Useless)
}

fn parse_ipv4(bytes: &[u8], pod_ip: Ipv4Addr) -> Option<Inbound<'_>> {
    let ip = Ipv4Packet::new_checked(bytes).ok()?;
    let fragment = ip.more_frags() || ip.frag_offset() != 0;
    if ip.version() != 4 || fragment || ip.src_addr() != pod_ip {
        return None;
    }
    let pair = |from, to| Pair {
        pod: SocketAddrV4::new(ip.src_addr(), from),
        peer: SocketAddrV4::new(ip.dst_addr(), to),
    };
    match ip.next_header() {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
            Some(Inbound::Tcp(segment(&tcp, pair(tcp.src_port(), tcp.dst_port()))))
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(ip.payload()).ok()?;
            Some(Inbound::Udp(pair(udp.src_port(), udp.dst_port()), udp.payload()))
        }
        IpProtocol::Icmp => ping(ip.payload(), ip.src_addr(), ip.dst_addr()).map(Inbound::Ping),
        _ => None,
    }
}

fn segment(tcp: &TcpPacket<&[u8]>, pair: Pair) -> Segment {
    Segment {
        pair,
        opens: tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin(),
        resets: tcp.rst(),
        seq: tcp.seq_number(),
        ack: tcp.ack().then(|| tcp.ack_number()),
        len: tcp.payload().len() + usize::from(tcp.syn()) + usize::from(tcp.fin()),
    }
}

fn ping(payload: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> Option<Ping<'_>> {
    let icmp = Icmpv4Packet::new_checked(payload).ok()?;
    if icmp.msg_type() != Icmpv4Message::EchoRequest || icmp.msg_code() != 0 {
        return None;
    }
    let (ident, seq_no) = (icmp.echo_ident(), icmp.echo_seq_no());
    Some(Ping { from, to, ident, seq_no, data: payload.get(8..)? })
}

/// Writes the answer to a segment of no connection (RFC 9293, 3.10.7.1).
pub(crate) fn reset(segment: &Segment) -> Vec<u8> {
    let Pair { pod, peer } = segment.pair;
    let repr = TcpRepr {
        src_port: peer.port(),
        dst_port: pod.port(),
        control: TcpControl::Rst,
        seq_number: segment.ack.unwrap_or_default(),
        ack_number: segment.ack.is_none().then(|| segment.seq + segment.len),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    ipv4(*peer.ip(), *pod.ip(), IpProtocol::Tcp, TCP_HEADER, |payload| {
        let mut packet = TcpPacket::new_unchecked(payload);
        let (from, to) = ((*peer.ip()).into(), (*pod.ip()).into());
        repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::default());
    })
}

/// Writes a datagram from the peer to the pod. The caller has checked that it fits the MTU.
pub(crate) fn datagram(pair: &Pair, data: &[u8]) -> Vec<u8> {
    let Pair { pod, peer } = *pair;
    let repr = UdpRepr { src_port: peer.port(), dst_port: pod.port() };
    ipv4(*peer.ip(), *pod.ip(), IpProtocol::Udp, UDP_HEADER + data.len(), |payload| {
        let mut packet = UdpPacket::new_unchecked(payload);
        let (from, to) = ((*peer.ip()).into(), (*pod.ip()).into());
        let copy = |to: &mut [u8]| to.copy_from_slice(data);
        repr.emit(&mut packet, &from, &to, data.len(), copy, &ChecksumCapabilities::default());
    })
}

/// Bytes that [`datagram`] puts before the data.
pub(crate) const DATAGRAM_OVERHEAD: usize = 20 + UDP_HEADER;

/// Writes "port unreachable" for a datagram of the pod, of which it quotes the two headers: that
/// is what its kernel finds the socket by.
pub(crate) fn unreachable(pair: &Pair, data_len: usize) -> Vec<u8> {
    let Pair { pod, peer } = *pair;
    let mut quoted = [0; UDP_HEADER];
    let mut udp = UdpPacket::new_unchecked(&mut quoted[..]);
    udp.set_src_port(pod.port());
    udp.set_dst_port(peer.port());
    udp.set_len(u16::try_from(UDP_HEADER + data_len).unwrap_or(u16::MAX));
    let header = Ipv4Repr {
        src_addr: *pod.ip(),
        dst_addr: *peer.ip(),
        next_header: IpProtocol::Udp,
        payload_len: UDP_HEADER,
        hop_limit: HOP_LIMIT,
    };
    let reason = Icmpv4DstUnreachable::PortUnreachable;
    icmp(*peer.ip(), *pod.ip(), &Icmpv4Repr::DstUnreachable { reason, header, data: &quoted })
}

/// Writes the answer to a ping.
pub(crate) fn pong(ping: &Ping<'_>) -> Vec<u8> {
    let Ping { from, to, ident, seq_no, data } = *ping;
    icmp(to, from, &Icmpv4Repr::EchoReply { ident, seq_no, data })
}

fn icmp(from: Ipv4Addr, to: Ipv4Addr, repr: &Icmpv4Repr<'_>) -> Vec<u8> {
    ipv4(from, to, IpProtocol::Icmp, repr.buffer_len(), |payload| {
        repr.emit(&mut Icmpv4Packet::new_unchecked(payload), &ChecksumCapabilities::default());
    })
}

fn ipv4(
    src_addr: Ipv4Addr,
    dst_addr: Ipv4Addr,
    next_header: IpProtocol,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let header = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOP_LIMIT };
    let mut bytes = vec![0; header.buffer_len() + payload_len];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    header.emit(&mut packet, &ChecksumCapabilities::default());
    fill(packet.payload_mut());
    bytes
}

#[cfg(test)]
mod tests;
