//! Packets written by one half of the module are read by the other, or by smoltcp.

use super::*;
use proptest::prelude::*;

const POD: Ipv4Addr = crate::POD_IP;
const OWN: Own = Own { four: POD, six: None };
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn pair() -> Pair {
    Pair { pod: (POD, 40000).into(), peer: (PEER, 80).into() }
}

/// A segment of the pod as its kernel would write it.
fn tcp(control: TcpControl, ack: Option<i32>, payload: &[u8]) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 40000,
        dst_port: 80,
        control,
        seq_number: TcpSeqNumber(1000),
        ack_number: ack.map(TcpSeqNumber),
        window_len: 100,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    ip(POD.into(), PEER.into(), IpProtocol::Tcp, repr.buffer_len(), |bytes| {
        let mut packet = TcpPacket::new_unchecked(bytes);
        repr.emit(&mut packet, &POD.into(), &PEER.into(), &ChecksumCapabilities::default());
    })
}

fn reset_for(bytes: &[u8]) -> (Option<i32>, i32) {
    let Inbound::Tcp(segment) = parse(bytes, OWN) else { panic!("no segment") };
    let answer = reset(&segment);
    let ip = Ipv4Packet::new_checked(&answer[..]).unwrap();
    assert!(ip.verify_checksum());
    assert_eq!((ip.src_addr(), ip.dst_addr()), (PEER, POD));
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    assert!(tcp.verify_checksum(&PEER.into(), &POD.into()));
    assert!(tcp.rst());
    assert_eq!((tcp.src_port(), tcp.dst_port()), (80, 40000));
    (tcp.ack().then(|| tcp.ack_number().0), tcp.seq_number().0)
}

#[test]
fn a_syn_is_recognised_and_its_reset_acknowledges_it() {
    let syn = tcp(TcpControl::Syn, None, &[]);
    let Inbound::Tcp(segment) = parse(&syn, OWN) else { panic!("no segment") };
    assert_eq!((segment.pair, segment.opens, segment.resets), (pair(), true, false));
    assert_eq!(reset_for(&syn), (Some(1001), 0));
}

#[test]
fn resets_follow_the_rfc() {
    assert_eq!(reset_for(&tcp(TcpControl::None, Some(77), b"abc")), (None, 77));
    assert_eq!(reset_for(&tcp(TcpControl::None, None, b"abc")), (Some(1003), 0));
    assert_eq!(reset_for(&tcp(TcpControl::Fin, None, b"abc")), (Some(1004), 0));
}

#[test]
fn only_a_bare_syn_opens() {
    for (control, ack, opens) in [
        (TcpControl::Syn, None, true),
        (TcpControl::Syn, Some(1), false),
        (TcpControl::None, Some(1), false),
        (TcpControl::Rst, None, false),
        (TcpControl::Fin, Some(1), false),
    ] {
        let bytes = tcp(control, ack, &[]);
        let Inbound::Tcp(segment) = parse(&bytes, OWN) else { panic!("no segment") };
        assert_eq!(segment.opens, opens, "{control:?}");
        assert_eq!(segment.resets, control == TcpControl::Rst);
    }
}

#[test]
fn a_datagram_survives_the_way_there() {
    let swapped = Pair { pod: pair().peer, peer: pair().pod };
    let bytes = datagram(&swapped, b"hello");
    assert_eq!(parse(&bytes, OWN), Inbound::Udp(pair(), b"hello"));
    let ip = Ipv4Packet::new_checked(&bytes[..]).unwrap();
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert!(udp.verify_checksum(&POD.into(), &PEER.into()));
    assert_eq!(bytes.len(), overhead(POD.into()) + 5);
}

#[test]
fn unreachable_quotes_the_datagram_it_answers() {
    let bytes = unreachable(&pair(), 5);
    let ip = Ipv4Packet::new_checked(&bytes[..]).unwrap();
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    let Icmpv4Repr::DstUnreachable { reason, header, data } =
        Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap()
    else {
        panic!("not an unreachable message")
    };
    assert_eq!(reason, Icmpv4DstUnreachable::PortUnreachable);
    assert_eq!((header.src_addr, header.dst_addr), (POD, PEER));
    assert_eq!(data[..6], [0x9c, 0x40, 0, 80, 0, 13]);
}

#[test]
fn a_ping_is_answered_with_its_own_data() {
    let request = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data: b"payload" };
    let bytes = icmp4(POD, crate::GATEWAY, &request);
    let Inbound::Ping(ping) = parse(&bytes, OWN) else { panic!("no ping") };
    assert_eq!((ping.from, ping.to), (POD.into(), crate::GATEWAY.into()));
    let answer = pong(&ping);
    let ip = Ipv4Packet::new_checked(&answer[..]).unwrap();
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    let repr = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap();
    assert_eq!(repr, Icmpv4Repr::EchoReply { ident: 7, seq_no: 9, data: b"payload" });
}

#[test]
fn fragments_strangers_and_ipv6_are_of_no_use() {
    let mut fragment = tcp(TcpControl::Syn, None, &[]);
    fragment[6] |= 0x20;
    assert_eq!(parse(&fragment, OWN), Inbound::Useless);
    assert_eq!(
        parse(&tcp(TcpControl::Syn, None, &[]), Own { four: PEER, six: None }),
        Inbound::Useless
    );
    let mut six = tcp(TcpControl::Syn, None, &[]);
    six[0] = 0x65;
    assert_eq!(parse(&six, OWN), Inbound::Useless);
    assert_eq!(parse(&[], OWN), Inbound::Useless);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        answer(&bytes);
    }

    #[test]
    fn a_damaged_packet_never_panics(
        which in 0..3,
        damage in prop::collection::vec((0..60usize, any::<u8>()), 1..6),
        cut in 0..80usize,
    ) {
        let mut bytes = match which {
            0 => tcp(TcpControl::Syn, None, b"data"),
            1 => datagram(&Pair { pod: pair().peer, peer: pair().pod }, b"data"),
            _ => icmp4(POD, PEER, &Icmpv4Repr::EchoRequest { ident: 1, seq_no: 2, data: b"data" }),
        };
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut);
        answer(&bytes);
    }
}

/// Does with a packet whatever the stack could do with it.
fn answer(bytes: &[u8]) {
    let source = bytes.get(12..16).map_or(POD, |b| Ipv4Addr::new(b[0], b[1], b[2], b[3]));
    let six = bytes.get(8..24).map(|six| Ipv6Addr::from(<[u8; 16]>::try_from(six).unwrap()));
    match parse(bytes, Own { four: source, six }) {
        Inbound::Tcp(segment) => drop(reset(&segment)),
        Inbound::Udp(pair, data) => drop(unreachable(&pair, data.len())),
        Inbound::Ping(ping) => drop((pong(&ping), prohibited(&ping))),
        Inbound::Useless => {}
    }
}

const OWN6: Own = Own { four: POD, six: Some(crate::pod_ip6(POD)) };
const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);

fn pair6() -> Pair {
    Pair { pod: (crate::pod_ip6(POD), 40000).into(), peer: (PEER6, 80).into() }
}

#[test]
fn ipv6_is_read_and_written_as_well() {
    let swapped = Pair { pod: pair6().peer, peer: pair6().pod };
    let bytes = datagram(&swapped, b"hello");
    assert_eq!(parse(&bytes, OWN6), Inbound::Udp(pair6(), b"hello"));
    assert_eq!(parse(&bytes, OWN), Inbound::Useless, "a pod without IPv6 has no such address");
    assert_eq!(bytes.len(), overhead(PEER6.into()) + 5);
    let mut fragment = bytes;
    fragment[6] = 44;
    assert_eq!(parse(&fragment, OWN6), Inbound::Useless);
}

#[test]
fn ipv6_refusals_quote_what_they_answer() {
    let ping = Ping {
        from: pair6().pod.ip(),
        to: PEER6.into(),
        ident: 0x0102,
        seq_no: 0x0304,
        data: b"x",
    };
    let policy = (Icmpv6DstUnreachable::AdminProhibit, [128, 0, 0, 0, 1, 2, 3, 4]);
    let port = (Icmpv6DstUnreachable::PortUnreachable, [0x9c, 0x40, 0, 80, 0, 13, 0, 0]);
    for (bytes, expected) in [(prohibited(&ping), policy), (unreachable(&pair6(), 5), port)] {
        let ip = Ipv6Packet::new_checked(&bytes[..]).unwrap();
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        let repr = Icmpv6Repr::parse(
            &ip.src_addr(),
            &ip.dst_addr(),
            &icmp,
            &ChecksumCapabilities::default(),
        );
        let Ok(Icmpv6Repr::DstUnreachable { reason, header, data }) = repr else {
            panic!("not an unreachable message: {repr:?}")
        };
        assert_eq!((reason, data), (expected.0, &expected.1[..]));
        assert_eq!((IpAddr::V6(header.src_addr), header.dst_addr), (pair6().pod.ip(), PEER6));
    }
}
