//! A pod's packets and a host's configuration, as a fuzzer writes them.

use std::net::IpAddr;

use smoltcp::wire::{Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

use crate::packet::{self, Inbound, Own};
use crate::{GATEWAY, POD_IP, pod_ip6, resolv};

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("packet", packet), ("resolv", resolvers)];

/// Any packet is read without looking behind its end, and what answers it is small and whole.
fn packet(bytes: &[u8]) {
    // The fuzzer need not guess the addresses that are listened to.
    let mut own = bytes.to_vec();
    if let Some(from) = own.get_mut(12..16) {
        from.copy_from_slice(&POD_IP.octets());
    }
    let mut own6 = bytes.to_vec();
    if let Some(from) = own6.get_mut(8..24) {
        from.copy_from_slice(&pod_ip6(POD_IP).octets());
    }
    for bytes in [bytes, &own, &own6] {
        let answer = match packet::parse(bytes, Own { four: POD_IP, six: Some(pod_ip6(POD_IP)) }) {
            Inbound::Useless => continue,
            Inbound::Tcp(segment) => packet::reset(&segment),
            Inbound::Ping(ping) => {
                whole(&packet::prohibited(&ping), ping.to);
                packet::pong(&ping)
            }
            Inbound::Udp(pair, data) => {
                assert!(data.len() + packet::overhead(pair.pod.ip()) <= bytes.len());
                whole(&packet::datagram(&pair, data), pair.peer.ip());
                packet::unreachable(&pair, data.len())
            }
        };
        assert!(answer.len() <= bytes.len().max(96), "an answer is no larger than its question");
        whole(&answer, destination(bytes));
    }
}

fn destination(bytes: &[u8]) -> IpAddr {
    if bytes[0] >> 4 == 6 {
        return Ipv6Packet::new_checked(bytes).expect("it was read").dst_addr().into();
    }
    Ipv4Packet::new_checked(bytes).map_or(GATEWAY, |packet| packet.dst_addr()).into()
}

/// A packet that a kernel takes: of its length, with right sums, from where it was asked.
fn whole(bytes: &[u8], from: IpAddr) {
    let (to, kind, payload) = if from.is_ipv4() {
        let ip = Ipv4Packet::new_checked(bytes).expect("what we write is read");
        assert_eq!((IpAddr::V4(ip.src_addr()), usize::from(ip.total_len())), (from, bytes.len()));
        assert!(ip.verify_checksum());
        (IpAddr::V4(POD_IP), ip.next_header(), ip.payload())
    } else {
        let ip = Ipv6Packet::new_checked(bytes).expect("what we write is read");
        assert_eq!((IpAddr::V6(ip.src_addr()), ip.total_len()), (from, bytes.len()));
        (IpAddr::V6(pod_ip6(POD_IP)), ip.next_header(), ip.payload())
    };
    if kind == IpProtocol::Tcp {
        let tcp = TcpPacket::new_checked(payload).expect("what we write is read");
        assert!(tcp.verify_checksum(&from.into(), &to.into()) && tcp.rst());
    }
    if let (IpProtocol::Icmpv6, IpAddr::V6(from), IpAddr::V6(to)) = (kind, from, to) {
        let icmp = Icmpv6Packet::new_checked(payload).expect("what we write is read");
        assert!(icmp.verify_checksum(&from, &to));
    }
}

fn resolvers(bytes: &[u8]) {
    let found = resolv::parse(&String::from_utf8_lossy(bytes));
    assert!((1..=3).contains(&found.len()) && found.iter().all(|server| server.port() == 53));
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
