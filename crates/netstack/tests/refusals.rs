//! The whole stack on a socket pair in place of a TUN: what it answers to packets that no kernel
//! would send, without any privilege.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use netstack::{Config, Counters, Error, GATEWAY, POD_IP, Reading};
use proptest::prelude::*;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

/// A stack that takes its packets from the other end of `tun`.
struct Stack {
    tun: OwnedFd,
    counters: Arc<Counters>,
    stop: std::io::PipeWriter,
    thread: JoinHandle<Result<(), Error>>,
}

impl Stack {
    fn start() -> Self {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        // An answer that never comes is a failure, not a hang.
        set_socket_timeout(&ours, Timeout::Recv, Some(Duration::from_secs(60))).unwrap();
        let mut config = Config::new(theirs);
        config.resolvers.clear();
        let counters = Arc::clone(&config.counters);
        let (stopped, stop) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || netstack::run(config, stopped.into()));
        Self { tun: ours, counters, stop, thread }
    }

    fn send(&self, packet: &[u8]) {
        assert_eq!(rustix::io::write(&self.tun, packet), Ok(packet.len()));
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65535];
        let len = rustix::io::read(&self.tun, &mut buffer).unwrap();
        assert_ne!(len, 0, "the stack is gone");
        buffer.truncate(len);
        buffer
    }

    /// Pings the gateway and returns what came before the answer. Packets are served in order.
    fn ping(&self) -> Vec<Vec<u8>> {
        let data = b"are you there";
        let request = Icmpv4Repr::EchoRequest { ident: 1, seq_no: 2, data };
        self.send(&ipv4(GATEWAY, IpProtocol::Icmp, request.buffer_len(), |bytes| {
            request.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
        }));
        let mut before = Vec::new();
        loop {
            let answer = self.receive();
            if is_pong(&answer, data) {
                return before;
            }
            before.push(answer);
        }
    }

    fn stop(self) -> Reading {
        drop(self.stop);
        self.thread.join().unwrap().unwrap();
        self.counters.read()
    }
}

fn is_pong(packet: &[u8], data: &[u8]) -> bool {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    let pong = Icmpv4Repr::EchoReply { ident: 1, seq_no: 2, data };
    ip.next_header() == IpProtocol::Icmp
        && Icmpv4Repr::parse(
            &Icmpv4Packet::new_checked(ip.payload()).unwrap(),
            &ChecksumCapabilities::default(),
        ) == Ok(pong)
}

fn ipv4(to: Ipv4Addr, protocol: IpProtocol, len: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: POD_IP,
        dst_addr: to,
        next_header: protocol,
        payload_len: len,
        hop_limit: 64,
    };
    let mut bytes = vec![0; header.buffer_len() + len];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    header.emit(&mut packet, &ChecksumCapabilities::default());
    fill(packet.payload_mut());
    bytes
}

fn syn(to: Ipv4Addr, port: u16) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 40000,
        dst_port: port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(5000),
        ack_number: None,
        window_len: 65535,
        window_scale: Some(7),
        max_seg_size: Some(1460),
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    ipv4(to, IpProtocol::Tcp, repr.buffer_len(), |bytes| {
        let (from, to) = (POD_IP.into(), to.into());
        let mut packet = TcpPacket::new_unchecked(bytes);
        repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::default());
    })
}

fn datagram(to: Ipv4Addr, port: u16) -> Vec<u8> {
    let repr = UdpRepr { src_port: 40000, dst_port: port };
    ipv4(to, IpProtocol::Udp, 8 + 4, |bytes| {
        let (from, to) = (POD_IP.into(), to.into());
        let mut packet = UdpPacket::new_unchecked(bytes);
        let caps = ChecksumCapabilities::default();
        repr.emit(&mut packet, &from, &to, 4, |data| data.copy_from_slice(b"data"), &caps);
    })
}

fn is_reset(packet: &[u8], from: Ipv4Addr) -> bool {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    assert_eq!((ip.src_addr(), ip.next_header()), (from, IpProtocol::Tcp));
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    tcp.rst() && tcp.ack() && tcp.ack_number() == TcpSeqNumber(5001)
}

fn is_unreachable(packet: &[u8], from: Ipv4Addr) -> bool {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    assert_eq!((ip.src_addr(), ip.next_header()), (from, IpProtocol::Icmp));
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    icmp.msg_type() == Icmpv4Message::DstUnreachable && icmp.msg_code() == 3
}

/// Addresses of which each stands for a range; the pod's kernel would not even send to some.
const REFUSED: [Ipv4Addr; 12] = [
    Ipv4Addr::UNSPECIFIED,
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(127, 200, 0, 9),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 7, 7),
    Ipv4Addr::new(224, 0, 0, 251),
    Ipv4Addr::BROADCAST,
    Ipv4Addr::new(240, 1, 1, 1),
    Ipv4Addr::new(100, 100, 100, 200),
    GATEWAY,
    POD_IP,
    Ipv4Addr::new(10, 117, 0, 255),
];

#[test]
fn refused_addresses_get_a_reset_and_no_socket_of_the_host() {
    let stack = Stack::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in REFUSED {
        stack.send(&syn(address, port));
        assert!(is_reset(&stack.receive(), address), "{address}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.refused), (0, REFUSED.len() as u64));
}

#[test]
fn refused_datagrams_are_reported_and_open_no_socket_of_the_host() {
    let stack = Stack::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    for address in REFUSED {
        stack.send(&datagram(address, port));
        assert!(is_unreachable(&stack.receive(), address), "{address}");
    }
    assert_eq!(socket.recv(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(stack.stop().host_sockets, 0);
}

#[test]
fn names_are_refused_without_a_resolver() {
    let stack = Stack::start();
    stack.send(&syn(netstack::DNS, 53));
    assert!(is_reset(&stack.receive(), netstack::DNS));
    stack.send(&datagram(netstack::DNS, 53));
    assert!(is_unreachable(&stack.receive(), netstack::DNS));
    assert_eq!(stack.stop().host_sockets, 0);
}

#[test]
fn ipv6_and_fragments_are_dropped_in_silence() {
    let stack = Stack::start();
    let mut six = vec![0; 60];
    six[0] = 0x60;
    let mut fragment = syn(Ipv4Addr::new(192, 0, 2, 1), 80);
    fragment[6] |= 0x20;
    stack.send(&six);
    stack.send(&fragment);
    assert_eq!(stack.ping(), Vec::<Vec<u8>>::new());
    let counters = stack.stop();
    assert_eq!((counters.ignored, counters.host_sockets), (2, 0));
}

#[test]
fn a_link_too_small_for_ipv4_is_an_error() {
    let (tun, _) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (stopped, _stop) = std::io::pipe().unwrap();
    let mut config = Config::new(tun);
    config.mtu = 100;
    assert!(matches!(netstack::run(config, stopped.into()), Err(Error::Mtu(100))));
}

#[test]
fn something_that_is_not_a_tun_is_an_error() {
    let (stopped, _stop) = std::io::pipe().unwrap();
    let folder = std::fs::File::open("/").unwrap();
    assert!(matches!(
        netstack::run(Config::new(folder.into()), stopped.into()),
        Err(Error::Tun(_))
    ));
}

/// Takes the destination's socket away from packets that chance made valid: only what is refused
/// may be sent here, because nothing else is ours.
fn harmless(mut packet: Vec<u8>) -> Vec<u8> {
    for (at, byte) in packet.iter_mut().skip(16).take(4).enumerate() {
        *byte = GATEWAY.octets()[at];
    }
    packet
}

#[test]
fn a_closed_packet_source_is_an_error() {
    let stack = Stack::start();
    drop(stack.tun);
    assert!(matches!(stack.thread.join().unwrap(), Err(Error::Tun(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_comes_the_stack_goes_on(
        packets in prop::collection::vec(
            (0..4, prop::collection::vec(any::<u8>(), 1..100), 0..60usize),
            1..40,
        ),
    ) {
        let stack = Stack::start();
        for (kind, noise, at) in packets {
            let mut packet = match kind {
                0 => syn(GATEWAY, 80),
                1 => datagram(GATEWAY, 80),
                _ => vec![0x45; noise.len()],
            };
            for (byte, noise) in packet.iter_mut().skip(at).zip(noise) {
                *byte = noise;
            }
            stack.send(&harmless(packet));
        }
        stack.ping();
        prop_assert_eq!(stack.stop().host_sockets, 0);
    }
}

#[test]
fn the_default_policy_is_that_of_the_default_network() {
    let config = Config::new(std::fs::File::open("/").unwrap().into());
    assert!(config.policy.refused(IpAddr::V4(GATEWAY)));
    assert!(!config.policy.refused("192.0.2.1".parse().unwrap()));
}
