//! A connection between a pod played by smoltcp and a host socket that is a socket pair's end.
//!
//! Nothing here takes time: it is an argument.

use super::*;
use crate::{TO_HOST, TO_POD};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use smoltcp::iface::{Config, SocketHandle, SocketSet};
use smoltcp::socket::tcp::SocketBuffer;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

const PEER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 1);

fn pair_of(kind: SocketType) -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, kind, flags, None).unwrap()
}

fn interface(outbox: &mut Outbox, any_ip: bool) -> Interface {
    let mut port = Port { packet: None, outbox };
    let mut net = Interface::new(Config::new(HardwareAddress::Ip), &mut port, Instant::ZERO);
    net.set_any_ip(any_ip);
    net.update_ip_addrs(|addresses| {
        if !any_ip {
            addresses.push(IpCidr::new(crate::POD_IP.into(), 24)).unwrap();
        }
    });
    net
}

/// Both ends with the wire between them, and the far end of the host's socket.
struct Rig {
    flow: Flow,
    net: Interface,
    outbox: Outbox,
    pod: SocketSet<'static>,
    pod_socket: SocketHandle,
    pod_net: Interface,
    pod_outbox: Outbox,
    server: OwnedFd,
    now: Instant,
}

impl Rig {
    /// The pod has asked for a connection; the host's connect is under way.
    fn new() -> Self {
        Self::with(&mut Engines::default())
    }

    fn with(engines: &mut Engines) -> Self {
        let (ours, theirs) = pair_of(SocketType::SEQPACKET);
        let mut outbox = Outbox::new(ours, 16000, false, Arc::default()).unwrap();
        let mut pod_outbox = Outbox::new(theirs, 16000, false, Arc::default()).unwrap();
        let (net, mut pod_net) = (interface(&mut outbox, true), interface(&mut pod_outbox, false));
        let buffer = || SocketBuffer::new(vec![0; 1 << 20]);
        let mut socket = Socket::new(buffer(), buffer());
        let peer = (IpAddress::from(PEER), 80);
        socket.connect(pod_net.context(), peer, 40000).unwrap();
        let mut pod = SocketSet::new(Vec::new());
        let pod_socket = pod.add(socket);
        let (host, server) = pair_of(SocketType::STREAM);
        let pair = Pair { pod: (crate::POD_IP, 40000).into(), peer: (PEER, 80).into() };
        let flow = Flow::new(pair, host, engines.listen(pair.peer), Instant::ZERO);
        let now = Instant::ZERO;
        Self { flow, net, outbox, pod, pod_socket, pod_net, pod_outbox, server, now }
    }

    fn connected() -> Self {
        Self::new().connect()
    }

    fn connect(self) -> Self {
        let mut rig = self;
        rig.settle();
        assert!(rig.flow.on_host(EventFlags::OUT), "it tells that it is connected");
        rig.settle();
        assert_eq!(rig.pod().state(), State::Established);
        rig
    }

    fn pod(&mut self) -> &mut Socket<'static> {
        self.pod.get_mut(self.pod_socket)
    }

    /// Carries packets until none are left.
    fn settle(&mut self) -> Verdict {
        let mut buffer = [0; 16000];
        loop {
            let mut port = Port { packet: None, outbox: &mut self.pod_outbox };
            self.pod_net.poll_egress(self.now, &mut port, &mut self.pod);
            let mut quiet = true;
            while let Ok(len) = rustix::io::read(self.outbox.tun(), &mut buffer) {
                self.flow.on_packet(&mut self.net, &mut self.outbox, &buffer[..len], self.now);
                quiet = false;
            }
            let verdict =
                self.flow.service(&mut self.net, &mut self.outbox, self.now, crate::TO_POD);
            while let Ok(len) = rustix::io::read(self.pod_outbox.tun(), &mut buffer) {
                let packet = Some(&buffer[..len]);
                let mut port = Port { packet, outbox: &mut self.pod_outbox };
                self.pod_net.poll_ingress_single(self.now, &mut port, &mut self.pod);
                quiet = false;
            }
            if quiet || verdict == Verdict::Done {
                return verdict;
            }
        }
    }

    fn server_has_read(&mut self) -> Vec<u8> {
        let mut all = vec![0; 4 << 20];
        let mut len = 0;
        while let Ok(more @ 1..) = rustix::io::read(&self.server, &mut all[len..]) {
            len += more;
        }
        all.truncate(len);
        all
    }
}

#[test]
fn the_pod_hears_nothing_before_the_host_is_connected() {
    let mut rig = Rig::new();
    assert_eq!(rig.settle(), Verdict::Open(Some(Instant::ZERO + CONNECT_TIMEOUT)));
    assert_eq!(rig.pod().state(), State::SynSent);
}

#[test]
fn a_host_that_does_not_answer_is_given_up_and_the_pod_is_told() {
    let mut rig = Rig::new();
    rig.settle();
    rig.now = Instant::ZERO + CONNECT_TIMEOUT - Duration::from_micros(1);
    assert!(matches!(rig.settle(), Verdict::Open(_)));
    rig.now = Instant::ZERO + CONNECT_TIMEOUT;
    assert_eq!(rig.settle(), Verdict::Done);
    assert_eq!(rig.pod().state(), State::Closed);
}

#[test]
fn a_pod_that_is_gone_when_the_host_accepts_ends_it() {
    let mut rig = Rig::new();
    rig.settle();
    // Without its socket the pod's stack answers the late SYN-ACK with RST.
    rig.pod = SocketSet::new(Vec::new());
    rig.flow.on_host(EventFlags::OUT);
    assert_eq!(rig.settle(), Verdict::Done);
    assert_eq!(rustix::io::read(&rig.server, &mut [0; 8]), Err(Errno::AGAIN), "not yet closed");
    drop(rig.flow);
    assert_eq!(rustix::io::read(&rig.server, &mut [0; 8]), Ok(0));
}

#[test]
fn an_error_of_the_host_resets_the_pod() {
    let mut rig = Rig::connected();
    // A socket pair whose end closes with bytes unread reports a reset, as TCP does.
    rig.pod().send_slice(b"unread").unwrap();
    rig.settle();
    let (other, _) = pair_of(SocketType::STREAM);
    drop(std::mem::replace(&mut rig.server, other));
    rig.flow.on_host(EventFlags::IN | EventFlags::HUP);
    assert_eq!(rig.settle(), Verdict::Done);
    assert_eq!(rig.pod().state(), State::Closed);
}

#[test]
fn bytes_go_both_ways() {
    let mut rig = Rig::connected();
    rig.pod().send_slice(b"ping").unwrap();
    rig.settle();
    assert_eq!(rig.server_has_read(), b"ping");
    rustix::io::write(&rig.server, b"pong").unwrap();
    rig.flow.on_host(EventFlags::IN);
    rig.settle();
    assert_eq!(rig.pod().recv(|bytes| (4, bytes.to_vec())).unwrap(), b"pong");
}

#[test]
fn a_host_that_does_not_read_stops_the_pod() {
    let mut rig = Rig::connected();
    let block = vec![7; 1 << 20];
    let mut sent = 0;
    loop {
        let more = rig.pod().send_slice(&block).unwrap();
        sent += more;
        rig.settle();
        if more == 0 {
            break;
        }
    }
    let queue = rig.flow.socket().recv_queue();
    assert_eq!(queue, TO_HOST, "what is held is bounded, and the rest is the pod's");
    assert_eq!(rig.pod().send_queue(), 1 << 20);
    let mut received = 0;
    while received < sent {
        received += rig.server_has_read().len();
        rig.flow.on_host(EventFlags::OUT);
        // The pod probes a closed window by and by.
        rig.now += Duration::from_secs(1);
        rig.settle();
    }
    assert_eq!(received, sent);
}

#[test]
fn a_pod_that_does_not_read_stops_the_host() {
    let mut rig = Rig::connected();
    let block = vec![7; 64 << 10];
    loop {
        let written = rustix::io::write(&rig.server, &block);
        rig.flow.on_host(EventFlags::IN);
        rig.settle();
        if written == Err(Errno::AGAIN) {
            break;
        }
    }
    assert_eq!(rig.flow.socket().send_queue(), TO_POD);
}

/// Both have said all they want, but the host takes its time to read it: whoever sent FIN first.
fn nothing_is_lost_behind(pod_first: bool) {
    let mut rig = Rig::connected();
    let block = vec![7; 100_000];
    let mut sent = 0;
    while rig.flow.socket().recv_queue() < TO_HOST / 2 {
        sent += rig.pod().send_slice(&block).unwrap();
        rig.settle();
    }
    if pod_first {
        rig.pod().close();
        rig.settle();
    }
    rustix::net::shutdown(&rig.server, rustix::net::Shutdown::Write).unwrap();
    rig.flow.on_host(EventFlags::RDHUP);
    rig.settle();
    rig.pod().close();
    rig.settle();
    // Longer than any TIME-WAIT.
    rig.now += Duration::from_secs(120);
    assert_eq!(rig.settle(), Verdict::Open(None));
    assert_ne!(rig.flow.socket().recv_queue(), 0, "the case is what it claims to be");
    let mut received = 0;
    let verdict = loop {
        let verdict = rig.settle();
        received += rig.server_has_read().len();
        rig.flow.on_host(EventFlags::OUT);
        if verdict == Verdict::Done {
            break verdict;
        }
    };
    assert_eq!((verdict, received), (Verdict::Done, sent));
}

#[test]
fn bytes_before_the_pods_fin_wait_for_a_slow_host() {
    nothing_is_lost_behind(true);
}

#[test]
fn bytes_after_the_hosts_fin_wait_for_a_slow_host() {
    nothing_is_lost_behind(false);
}

#[test]
fn what_a_short_connection_had_serves_the_next() {
    let mut engines = Engines::default();
    for word in ["one", "two", "three"] {
        let mut rig = Rig::with(&mut engines);
        assert_eq!(engines.0.len(), 0);
        rig.settle();
        assert_eq!(rig.pod().state(), State::SynSent, "nothing is answered too early");
        let mut rig = rig.connect();
        rig.pod().send_slice(word.as_bytes()).unwrap();
        rig.settle();
        assert_eq!(rig.server_has_read(), word.as_bytes());
        // It is over in the middle: one side has sent more, the other is gone.
        rustix::io::write(&rig.server, b"unread").unwrap();
        rig.flow.on_host(EventFlags::IN);
        rig.settle();
        rig.pod().abort();
        assert_eq!(rig.settle(), Verdict::Done);
        rig.flow.into_engine(&mut engines);
        assert_eq!(engines.0.len(), 1);
    }
}

#[test]
fn what_much_has_gone_through_is_not_kept() {
    let (mut engines, mut rig) = (Engines::default(), Rig::connected());
    rig.pod().send_slice(&[1; 17 * 1024]).unwrap();
    rig.settle();
    assert_eq!(rig.server_has_read().len(), 17 * 1024);
    rig.flow.into_engine(&mut engines);
    assert_eq!(engines.0.len(), 0);
}
