//! IPv6, which a pod has where its host has it.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};

use netstack::{Config, POD_IP, PREFIX, Policy, pod_ip6, reaches_ipv6};

use crate::Case;
use crate::host::{Stack, answer, echo_datagrams, serve_at};
use crate::pod::{drain, pour};
use crate::rig::{HOST_ADDRESSES_6, Neighbour, allow_ping, in_pod, run_in_pod};

pub(crate) const ALL: &[Case] = &[
    ("ipv6_tcp_reaches_a_server", tcp_reaches_a_server),
    ("ipv6_refused_ports_are_refused", refused_ports_are_refused),
    ("ipv6_refused_ranges_are_refused_without_a_socket", refused_ranges_are_refused),
    ("ipv6_addresses_of_the_host_itself_are_refused", the_host_itself_is_refused),
    ("ipv6_neighbour_is_reached_and_answers_ping", a_neighbour_is_reached),
    ("ipv6_much_both_ways_arrives_whole", much_both_ways_arrives_whole),
    ("ipv6_datagrams_go_there_and_back", datagrams_go_there_and_back),
    ("ipv6_is_there_when_the_host_has_a_way_to_the_world", it_is_there_with_a_route),
    ("ipv6_destinations_without_a_route_are_refused_at_once", no_route_is_refused_at_once),
];

/// An address that a pod may talk to where this machine's own are allowed.
const HOST: &str = HOST_ADDRESSES_6[0];

fn six(config: &mut Config) {
    config.pod_ip6 = Some(pod_ip6(POD_IP));
}

/// As a pod has it in use.
fn strict(config: &mut Config) {
    six(config);
    config.policy = Policy::for_subnet(POD_IP, PREFIX);
}

fn tcp_reaches_a_server() {
    let stack = Stack::start_with(six);
    let (address, server) = serve_at(HOST, |stream| answer(stream, b"you said "));
    assert_eq!(in_pod(&["ask", &address, "hello"]), "you said hello");
    server.join().unwrap();
    stack.wait(|counters| counters.tcp_closed == 1);
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.tcp_opened, counters.refused), (1, 1, 0));
}

fn refused_ports_are_refused() {
    let stack = Stack::start_with(six);
    let free = TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().to_string();
    assert_eq!(in_pod(&["ask", &free, "hello"]), "ConnectionRefused");
    let free = UdpSocket::bind((HOST, 0)).unwrap().local_addr().unwrap().to_string();
    assert_eq!(in_pod(&["datagram", &free, "hello"]), "ConnectionRefused");
    stack.stop();
}

/// Asks addresses that would all answer if anybody asked them; nobody may.
fn are_refused(stack: Stack, addresses: &[&str]) {
    let tcp = TcpListener::bind("[::]:0").unwrap();
    let udp = UdpSocket::bind("[::]:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    for address in addresses {
        let there = format!("[{address}]:{tcp_port}");
        assert_eq!(in_pod(&["ask", &there, "hello"]), "ConnectionRefused", "{there}");
        let there = format!("[{address}]:{udp_port}");
        assert_eq!(in_pod(&["datagram", &there, "hello"]), "ConnectionRefused", "{there}");
    }
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.refused), (0, 2 * addresses.len() as u64));
    assert!(tcp.accept().is_err(), "nobody has connected");
    assert!(udp.recv_from(&mut [0; 64]).is_err(), "nothing has arrived");
}

fn refused_ranges_are_refused() {
    are_refused(Stack::start_with(six), &HOST_ADDRESSES_6[1..]);
}

fn the_host_itself_is_refused() {
    let stack = Stack::start_with(strict);
    let neighbour = Neighbour::new();
    neighbour.routes_ipv6();
    // The last ones stand for 192.0.2.1, the host's own, by NAT64 and 6to4.
    let own = [HOST, Neighbour::HOST_SIDE_6, "64:ff9b::192.0.2.1", "2002:c000:201::1"];
    are_refused(stack, &own);
}

fn a_neighbour_is_reached() {
    allow_ping();
    let stack = Stack::start_with(strict);
    let neighbour = Neighbour::new();
    let server = neighbour.serve(Neighbour::SERVER_6);
    assert_eq!(in_pod(&["ask", Neighbour::SERVER_6, "hello"]), "you said hello");
    server.end();
    assert_eq!(in_pod(&["ping", Neighbour::ADDRESS_6, "hello"]), "hello");
    for size in ["56", "1452"] {
        let words = ["busybox", "ping", "-6", "-c", "2", "-i", "0.2", "-W", "20", "-s", size];
        let said = run_in_pod(&[&words[..], &[Neighbour::ADDRESS_6]].concat());
        assert!(said.contains("2 packets received, 0% packet loss"), "{size}: {said}");
    }
    assert_eq!(in_pod(&["ping", "fd00:10:117::1", "hello"]), "hello", "the gateway answers");
    assert_eq!(in_pod(&["ping", HOST, "hello"]), "PermissionDenied", "the host is prohibited");
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.refused, counters.packets_lost), (4, 1, 0));
}

fn much_both_ways_arrives_whole() {
    let stack = Stack::start_with(six);
    let (up, sink) = serve_at(HOST, |mut stream| {
        let hash = drain(&mut stream).unwrap();
        stream.write_all(hash.as_bytes()).unwrap();
        hash
    });
    let (down, source) = serve_at(HOST, |mut stream| pour(&mut stream).unwrap());
    let sender = std::thread::spawn(move || in_pod(&["send-much", &up]));
    assert_eq!(in_pod(&["receive-much", &down]), source.join().unwrap());
    assert_eq!(sender.join().unwrap(), sink.join().unwrap());
    stack.stop();
}

fn datagrams_go_there_and_back() {
    let stack = Stack::start_with(six);
    let address = echo_datagrams(&format!("[{HOST}]:0"), b"you said ").to_string();
    assert_eq!(in_pod(&["datagram", &address, "hello"]), "you said hello");
    let large = "x".repeat(60_000);
    assert_eq!(in_pod(&["datagram", &address, &large]), format!("you said {large}"));
    assert_eq!(stack.stop().packets_lost, 0);
}

fn it_is_there_with_a_route() {
    assert!(!reaches_ipv6(), "addresses alone lead nowhere");
    let neighbour = Neighbour::new();
    assert!(!reaches_ipv6(), "a neighbour is not the world");
    neighbour.routes_ipv6();
    assert!(reaches_ipv6());
}

fn no_route_is_refused_at_once() {
    let stack = Stack::start_with(strict);
    assert_eq!(in_pod(&["ask", "[2001:2:0:9::1]:80", "hello"]), "ConnectionRefused");
    assert_eq!(in_pod(&["datagram", "[2001:2:0:9::1]:80", "hello"]), "ConnectionRefused");
    assert_eq!(stack.stop().host_sockets, 0);
}
