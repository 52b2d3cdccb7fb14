//! Reads the pod's packets and writes the ones no TCP engine writes: RST, UDP and ICMP.
//!
//! Checksums of what comes in are not verified: the pod's kernel on the other side of the TUN has
//! just computed them, and nothing can have damaged the bytes since.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable,
    Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet,
    Ipv6Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use crate::nat::Pair;

const HOP_LIMIT: u8 = 64;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ECHO_HEADER: usize = 8;

/// The addresses that the pod's packets come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) four: Ipv4Addr,
    pub(crate) six: Option<Ipv6Addr>,
}

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
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) ident: u16,
    pub(crate) seq_no: u16,
    pub(crate) data: &'a [u8],
}

/// Reads one packet; only those from the pod's own addresses are of use.
pub(crate) fn parse(bytes: &[u8], own: Own) -> Inbound<'_> {
    let read = match bytes.first().map(|first| first >> 4) {
        Some(4) => parse_ipv4(bytes, own.four),
        Some(6) => own.six.and_then(|own| parse_ipv6(bytes, own)),
        _ => None,
    };
    read.unwrap_or(Inbound::Useless)
}

fn parse_ipv4(bytes: &[u8], own: Ipv4Addr) -> Option<Inbound<'_>> {
    let ip = Ipv4Packet::new_checked(bytes).ok()?;
    let fragment = ip.more_frags() || ip.frag_offset() != 0;
    if fragment || ip.src_addr() != own {
        return None;
    }
    parse_payload(ip.next_header(), own.into(), ip.dst_addr().into(), ip.payload())
}

/// Packets with extension headers, fragments among them, are of no use.
fn parse_ipv6(bytes: &[u8], own: Ipv6Addr) -> Option<Inbound<'_>> {
    let ip = Ipv6Packet::new_checked(bytes).ok()?;
    if ip.src_addr() != own {
        return None;
    }
    parse_payload(ip.next_header(), own.into(), ip.dst_addr().into(), ip.payload())
}

fn parse_payload(
    kind: IpProtocol,
    from: IpAddr,
    to: IpAddr,
    payload: &[u8],
) -> Option<Inbound<'_>> {
    let pair = |pod, peer| Pair { pod: (from, pod).into(), peer: (to, peer).into() };
    match (kind, from) {
        (IpProtocol::Tcp, _) => {
            let tcp = TcpPacket::new_checked(payload).ok()?;
            Some(Inbound::Tcp(segment(&tcp, pair(tcp.src_port(), tcp.dst_port()))))
        }
        (IpProtocol::Udp, _) => {
            let udp = UdpPacket::new_checked(payload).ok()?;
            let data = payload.get(UDP_HEADER..usize::from(udp.len()))?;
            Some(Inbound::Udp(pair(udp.src_port(), udp.dst_port()), data))
        }
        (IpProtocol::Icmp, IpAddr::V4(_)) => ping4(payload, from, to).map(Inbound::Ping),
        (IpProtocol::Icmpv6, IpAddr::V6(_)) => ping6(payload, from, to).map(Inbound::Ping),
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

fn ping4(payload: &[u8], from: IpAddr, to: IpAddr) -> Option<Ping<'_>> {
    let icmp = Icmpv4Packet::new_checked(payload).ok()?;
    if icmp.msg_type() != Icmpv4Message::EchoRequest || icmp.msg_code() != 0 {
        return None;
    }
    let (ident, seq_no) = (icmp.echo_ident(), icmp.echo_seq_no());
    Some(Ping { from, to, ident, seq_no, data: payload.get(ECHO_HEADER..)? })
}

fn ping6(payload: &[u8], from: IpAddr, to: IpAddr) -> Option<Ping<'_>> {
    let icmp = Icmpv6Packet::new_checked(payload).ok()?;
    if icmp.msg_type() != Icmpv6Message::EchoRequest || icmp.msg_code() != 0 {
        return None;
    }
    let (ident, seq_no) = (icmp.echo_ident(), icmp.echo_seq_no());
    Some(Ping { from, to, ident, seq_no, data: payload.get(ECHO_HEADER..)? })
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
    ip(peer.ip(), pod.ip(), IpProtocol::Tcp, TCP_HEADER, |payload| {
        let mut packet = TcpPacket::new_unchecked(payload);
        let (from, to) = (peer.ip().into(), pod.ip().into());
        repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::default());
    })
}

/// Writes a datagram from the peer to the pod. The caller has checked that it fits the MTU.
pub(crate) fn datagram(pair: &Pair, data: &[u8]) -> Vec<u8> {
    let Pair { pod, peer } = *pair;
    let repr = UdpRepr { src_port: peer.port(), dst_port: pod.port() };
    ip(peer.ip(), pod.ip(), IpProtocol::Udp, UDP_HEADER + data.len(), |payload| {
        let mut packet = UdpPacket::new_unchecked(payload);
        let (from, to) = (peer.ip().into(), pod.ip().into());
        let copy = |to: &mut [u8]| to.copy_from_slice(data);
        repr.emit(&mut packet, &from, &to, data.len(), copy, &ChecksumCapabilities::default());
    })
}

/// Bytes that [`datagram`] and [`pong`] put before the data.
pub(crate) fn overhead(pod: IpAddr) -> usize {
    UDP_HEADER + if pod.is_ipv4() { 20 } else { 40 }
}

/// Writes "port unreachable" for a datagram of the pod, of which it quotes the two headers: that
/// is what its kernel finds the socket by.
pub(crate) fn unreachable(pair: &Pair, data_len: usize) -> Vec<u8> {
    let Pair { pod, peer } = *pair;
    let mut quoted = [0; UDP_HEADER];
    let mut udp = UdpPacket::new_unchecked(&mut quoted[..]);
    udp.set_src_port(pod.port());
    udp.set_dst_port(peer.port());
    udp.set_len(u16::try_from(UDP_HEADER + data_len).unwrap_or(u16::MAX));
    let (from, to) = (pod.ip(), peer.ip());
    let (next_header, reason) = (IpProtocol::Udp, Reason::Port);
    refusal(from, to, next_header, UDP_HEADER, &quoted, reason)
}

/// Writes the answer to a ping.
pub(crate) fn pong(ping: &Ping<'_>) -> Vec<u8> {
    let Ping { from, to, ident, seq_no, data } = *ping;
    let (four, six) = (
        Icmpv4Repr::EchoReply { ident, seq_no, data },
        Icmpv6Repr::EchoReply { ident, seq_no, data },
    );
    match both(to, from) {
        Both::Four(from, to) => icmp4(from, to, &four),
        Both::Six(from, to) => icmp6(from, to, &six),
    }
}

/// Writes "administratively prohibited" for a ping, of which it quotes the header: that is what
/// the asking program knows its own by.
pub(crate) fn prohibited(ping: &Ping<'_>) -> Vec<u8> {
    let Ping { from, to, ident, seq_no, data } = *ping;
    let len = ECHO_HEADER + data.len();
    // The checksum of a quotation is not looked at.
    let (kind, number) =
        if from.is_ipv4() { (8, IpProtocol::Icmp) } else { (128, IpProtocol::Icmpv6) };
    let ([a, b], [c, d]) = (ident.to_be_bytes(), seq_no.to_be_bytes());
    refusal(from, to, number, len, &[kind, 0, 0, 0, a, b, c, d], Reason::Policy)
}

/// Why a packet of the pod goes nowhere.
enum Reason {
    Port,
    Policy,
}

/// Writes "unreachable" for a packet between two addresses with so much behind its header, of
/// which it quotes the first bytes.
fn refusal(
    from: IpAddr,
    to: IpAddr,
    next_header: IpProtocol,
    payload_len: usize,
    data: &[u8],
    reason: Reason,
) -> Vec<u8> {
    let hop_limit = HOP_LIMIT;
    match both(from, to) {
        Both::Four(src_addr, dst_addr) => {
            let header = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let reason = match reason {
                Reason::Port => Icmpv4DstUnreachable::PortUnreachable,
                Reason::Policy => Icmpv4DstUnreachable::CommProhibited,
            };
            icmp4(dst_addr, src_addr, &Icmpv4Repr::DstUnreachable { reason, header, data })
        }
        Both::Six(src_addr, dst_addr) => {
            let header = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let reason = match reason {
                Reason::Port => Icmpv6DstUnreachable::PortUnreachable,
                Reason::Policy => Icmpv6DstUnreachable::AdminProhibit,
            };
            icmp6(dst_addr, src_addr, &Icmpv6Repr::DstUnreachable { reason, header, data })
        }
    }
}

/// Two addresses of one family, as those of a packet are.
enum Both {
    Four(Ipv4Addr, Ipv4Addr),
    Six(Ipv6Addr, Ipv6Addr),
}

fn both(one: IpAddr, other: IpAddr) -> Both {
    let six = |address| match address {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    };
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => Both::Four(one, other),
        _ => Both::Six(six(one), six(other)),
    }
}

fn icmp4(from: Ipv4Addr, to: Ipv4Addr, repr: &Icmpv4Repr<'_>) -> Vec<u8> {
    ip(from.into(), to.into(), IpProtocol::Icmp, repr.buffer_len(), |payload| {
        repr.emit(&mut Icmpv4Packet::new_unchecked(payload), &ChecksumCapabilities::default());
    })
}

fn icmp6(from: Ipv6Addr, to: Ipv6Addr, repr: &Icmpv6Repr<'_>) -> Vec<u8> {
    ip(from.into(), to.into(), IpProtocol::Icmpv6, repr.buffer_len(), |payload| {
        let mut packet = Icmpv6Packet::new_unchecked(payload);
        repr.emit(&from, &to, &mut packet, &ChecksumCapabilities::default());
    })
}

/// Writes a packet between two addresses of one family.
fn ip(
    from: IpAddr,
    to: IpAddr,
    next_header: IpProtocol,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let header = IpRepr::new(from.into(), to.into(), next_header, payload_len, HOP_LIMIT);
    let mut bytes = vec![0; header.buffer_len()];
    header.emit(&mut bytes[..], &ChecksumCapabilities::default());
    fill(&mut bytes[header.header_len()..]);
    bytes
}

#[cfg(test)]
mod tests;
