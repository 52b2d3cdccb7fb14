//! What must hold between a pod and its host.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::time::Duration;

use crate::Case;
use crate::host::{HOST, Stack, answer, echo_datagrams, serve};
use crate::pod::{drain, pour};
use crate::rig::{Neighbour, allow_ping, in_pod, run_in_pod};
use netstack::{Config, POD_IP, PREFIX, Policy};

pub(crate) const ALL: &[Case] = &[
    ("tcp_reaches_a_server_of_the_host", tcp_reaches_a_server_of_the_host),
    ("a_refused_port_is_refused", a_refused_port_is_refused),
    ("refused_ranges_are_refused_without_a_socket", refused_ranges_are_refused_without_a_socket),
    ("addresses_of_the_host_itself_are_refused", addresses_of_the_host_itself_are_refused),
    ("a_neighbour_of_the_host_is_reached", a_neighbour_of_the_host_is_reached),
    ("a_neighbour_answers_ping", a_neighbour_answers_ping),
    ("a_ping_the_host_may_not_send_is_reported", a_ping_the_host_may_not_send_is_reported),
    ("a_ping_to_the_host_itself_is_refused", a_ping_to_the_host_itself_is_refused),
    ("the_pod_may_finish_first", the_pod_may_finish_first),
    ("the_host_may_finish_first", the_host_may_finish_first),
    ("much_from_the_pod_arrives_whole", much_from_the_pod_arrives_whole),
    ("much_from_the_host_arrives_whole", much_from_the_host_arrives_whole),
    ("much_both_ways_at_once_arrives_whole", much_both_ways_at_once_arrives_whole),
    ("a_reset_of_the_host_reaches_the_pod", a_reset_of_the_host_reaches_the_pod),
    ("a_reset_of_the_pod_reaches_the_host", a_reset_of_the_pod_reaches_the_host),
    ("connections_beyond_the_limit_are_refused", connections_beyond_the_limit_are_refused),
    ("idle_connections_cost_little_memory", idle_connections_cost_little_memory),
    ("datagrams_go_there_and_back", datagrams_go_there_and_back),
    ("a_refused_datagram_is_reported", a_refused_datagram_is_reported),
    ("names_are_asked_of_the_hosts_resolver", names_are_asked_of_the_hosts_resolver),
    ("a_dead_resolver_is_passed_over", a_dead_resolver_is_passed_over),
    ("many_short_connections_leave_nothing_behind", many_short_connections_leave_nothing_behind),
];

fn tcp_reaches_a_server_of_the_host() {
    let stack = Stack::start(&[]);
    let (address, server) = serve(|stream| answer(stream, b"you said "));
    assert_eq!(in_pod(&["ask", &address, "hello"]), "you said hello");
    server.join().unwrap();
    stack.wait(|counters| counters.tcp_closed == 1);
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.tcp_opened, counters.refused), (1, 1, 0));
}

fn a_refused_port_is_refused() {
    let stack = Stack::start(&[]);
    let free = TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().to_string();
    assert_eq!(in_pod(&["ask", &free, "hello"]), "ConnectionRefused");
    assert_eq!(stack.stop().tcp_opened, 0);
}

fn refused_ranges_are_refused_without_a_socket() {
    let stack = Stack::start(&[]);
    // These would answer if anybody asked them.
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let refused = ["169.254.169.254", "169.254.1.1", "10.117.0.77", "10.117.0.1", "240.0.0.1"];
    for address in refused {
        let there = format!("{address}:{tcp_port}");
        assert_eq!(in_pod(&["ask", &there, "hello"]), "ConnectionRefused", "{there}");
        let there = format!("{address}:{udp_port}");
        assert_eq!(in_pod(&["datagram", &there, "hello"]), "ConnectionRefused", "{there}");
    }
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.refused), (0, 2 * refused.len() as u64));
    assert!(tcp.accept().is_err(), "nobody has connected");
    assert!(udp.recv_from(&mut [0; 64]).is_err(), "nothing has arrived");
}

/// As a pod has it in use: nothing of the machine's own is reached, on whatever interface.
fn strict(config: &mut Config) {
    config.policy = Policy::for_subnet(POD_IP, PREFIX);
}

fn addresses_of_the_host_itself_are_refused() {
    let stack = Stack::start_with(strict);
    let _neighbour = Neighbour::new();
    // A service on all addresses, as a development server or a database often is.
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    // The last two are a broadcast address, and of a range that a route alone makes local.
    let own = [HOST, Neighbour::HOST_SIDE, Neighbour::BROADCAST, Neighbour::LOCAL_RANGE];
    for address in own {
        let there = format!("{address}:{tcp_port}");
        assert_eq!(in_pod(&["ask", &there, "hello"]), "ConnectionRefused", "{there}");
        let there = format!("{address}:{udp_port}");
        assert_eq!(in_pod(&["datagram", &there, "hello"]), "ConnectionRefused", "{there}");
    }
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.refused), (0, 2 * own.len() as u64));
    assert!(tcp.accept().is_err(), "nobody has connected");
    assert!(udp.recv_from(&mut [0; 64]).is_err(), "nothing has arrived");
}

fn a_neighbour_of_the_host_is_reached() {
    let stack = Stack::start_with(strict);
    let neighbour = Neighbour::new();
    let server = neighbour.serve(Neighbour::SERVER);
    assert_eq!(in_pod(&["ask", Neighbour::SERVER, "hello"]), "you said hello");
    server.end();
    stack.wait(|counters| counters.tcp_closed == 1);
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.refused), (1, 0));
}

fn a_neighbour_answers_ping() {
    allow_ping();
    let stack = Stack::start_with(strict);
    let _neighbour = Neighbour::new();
    // As its user meets it; larger ones are fragments on the neighbour's network.
    for size in ["56", "1472", "20000"] {
        let words = ["busybox", "ping", "-c", "2", "-i", "0.2", "-W", "20", "-s", size];
        let said = run_in_pod(&[&words[..], &[Neighbour::ADDRESS]].concat());
        assert!(said.contains("2 packets received, 0% packet loss"), "{size}: {said}");
    }
    assert_eq!(in_pod(&["ping", Neighbour::ADDRESS, "hello"]), "hello");
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.refused, counters.packets_lost), (4, 0, 0));
}

fn a_ping_the_host_may_not_send_is_reported() {
    let stack = Stack::start_with(strict);
    let _neighbour = Neighbour::new();
    assert_eq!(in_pod(&["ping", Neighbour::ADDRESS, "hello"]), "HostUnreachable");
    assert_eq!(stack.stop().host_sockets, 0);
}

fn a_ping_to_the_host_itself_is_refused() {
    allow_ping();
    let stack = Stack::start_with(strict);
    let _neighbour = Neighbour::new();
    let refused = [HOST, Neighbour::HOST_SIDE, Neighbour::LOCAL_RANGE, "169.254.169.254"];
    for address in refused {
        assert_eq!(in_pod(&["ping", address, "hello"]), "HostUnreachable", "{address}");
    }
    assert_eq!(in_pod(&["ping", "10.117.0.1", "hello"]), "hello", "the gateway answers");
    assert_eq!(in_pod(&["ping", "10.117.0.53", "hello"]), "hello", "the name server answers");
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.refused), (0, refused.len() as u64));
}

fn the_pod_may_finish_first() {
    let stack = Stack::start(&[]);
    let (address, server) = serve(|mut stream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        stream.write_all(format!("{all} to the end").as_bytes()).unwrap();
    });
    assert_eq!(in_pod(&["ask", &address, "heard"]), "heard to the end");
    server.join().unwrap();
    stack.wait(|counters| counters.tcp_closed == 1);
    stack.stop();
}

fn the_host_may_finish_first() {
    let stack = Stack::start(&[]);
    let (address, server) = serve(|mut stream| {
        stream.write_all(b"that is all").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    });
    assert_eq!(in_pod(&["listen-first", &address, "thanks"]), "that is all");
    assert_eq!(server.join().unwrap(), "thanks");
    stack.wait(|counters| counters.tcp_closed == 1);
    stack.stop();
}

fn much_from_the_pod_arrives_whole() {
    let stack = Stack::start(&[]);
    let (address, server) = serve(|mut stream| {
        let hash = drain(&mut stream).unwrap();
        stream.write_all(hash.as_bytes()).unwrap();
        hash
    });
    let answer = in_pod(&["send-much", &address]);
    assert_eq!(answer, server.join().unwrap());
    stack.stop();
}

fn much_from_the_host_arrives_whole() {
    let stack = Stack::start(&[]);
    let (address, server) = serve(|mut stream| pour(&mut stream).unwrap());
    let answer = in_pod(&["receive-much", &address]);
    assert_eq!(answer, server.join().unwrap());
    stack.stop();
}

fn much_both_ways_at_once_arrives_whole() {
    let stack = Stack::start(&[]);
    let (up, sink) = serve(|mut stream| {
        let hash = drain(&mut stream).unwrap();
        stream.write_all(hash.as_bytes()).unwrap();
        hash
    });
    let (down, source) = serve(|mut stream| pour(&mut stream).unwrap());
    let sender = std::thread::spawn(move || in_pod(&["send-much", &up]));
    assert_eq!(in_pod(&["receive-much", &down]), source.join().unwrap());
    assert_eq!(sender.join().unwrap(), sink.join().unwrap());
    stack.stop();
}

fn a_reset_of_the_host_reaches_the_pod() {
    let stack = Stack::start(&[]);
    let (address, server) = serve(|mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(in_pod(&["speak-and-read", &address]), "ConnectionReset");
    server.join().unwrap();
    stack.wait(|counters| counters.tcp_closed == 1);
    stack.stop();
}

fn a_reset_of_the_pod_reaches_the_host() {
    let stack = Stack::start(&[]);
    let (address, server) = serve(|mut stream| {
        stream.write_all(b"x").unwrap();
        stream.read(&mut [0]).map_err(|error| error.kind())
    });
    assert_eq!(in_pod(&["reset", &address]), "reset");
    assert_eq!(server.join().unwrap(), Err(std::io::ErrorKind::ConnectionReset));
    stack.wait(|counters| counters.tcp_closed == 1);
    stack.stop();
}

/// Echoes single bytes on any number of connections until `y` has come.
fn echo_bytes(listener: &TcpListener, count: usize, before_y: impl FnOnce()) {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(listener.accept().unwrap().0);
    }
    for stream in &mut streams {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
    }
    let mut byte = [0];
    streams[0].read_exact(&mut byte).unwrap();
    before_y();
    streams[0].write_all(&byte).unwrap();
}

fn connections_beyond_the_limit_are_refused() {
    let stack = Stack::start_with(|config| config.max_flows = 3);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let full = address.clone();
    let server = std::thread::spawn(move || {
        echo_bytes(&listener, 3, || {
            assert_eq!(in_pod(&["ask", &full, "hello"]), "ConnectionRefused");
        });
    });
    assert_eq!(in_pod(&["idle", &address, "3"]), "3");
    server.join().unwrap();
    stack.wait(|counters| counters.tcp_closed == 3);
    assert_eq!(stack.stop().exhausted, 1);
}

fn idle_connections_cost_little_memory() {
    const COUNT: usize = 300;
    let stack = Stack::start(&[]);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let before = resident();
    let server = std::thread::spawn(move || {
        let mut during = 0;
        echo_bytes(&listener, COUNT, || during = resident());
        during
    });
    assert_eq!(in_pod(&["idle", &address, &COUNT.to_string()]), COUNT.to_string());
    let each = server.join().unwrap().saturating_sub(before) / COUNT;
    eprintln!("{each} bytes a connection");
    assert!(each < 32 * 1024, "{each} bytes a connection");
    stack.stop();
}

/// Bytes of memory that this process really has.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn datagrams_go_there_and_back() {
    let stack = Stack::start(&[]);
    let address = echo_datagrams(&format!("{HOST}:0"), b"you said ").to_string();
    assert_eq!(in_pod(&["datagram", &address, "hello"]), "you said hello");
    assert_eq!(in_pod(&["datagram", &address, ""]), "you said");
    let large = "x".repeat(60_000);
    assert_eq!(in_pod(&["datagram", &address, &large]), format!("you said {large}"));
    assert_eq!(stack.stop().packets_lost, 0);
}

fn a_refused_datagram_is_reported() {
    let stack = Stack::start(&[]);
    let free = UdpSocket::bind((HOST, 0)).unwrap().local_addr().unwrap().to_string();
    assert_eq!(in_pod(&["datagram", &free, "hello"]), "ConnectionRefused");
    stack.stop();
}

fn names_are_asked_of_the_hosts_resolver() {
    let resolver = echo_datagrams("127.0.0.1:0", b"udp answer to ");
    let listener = TcpListener::bind(resolver).unwrap();
    let server =
        std::thread::spawn(move || answer(listener.accept().unwrap().0, b"tcp answer to "));
    let stack = Stack::start(&[resolver]);
    assert_eq!(in_pod(&["datagram", "10.117.0.53:53", "question"]), "udp answer to question");
    assert_eq!(in_pod(&["ask", "10.117.0.53:53", "question"]), "tcp answer to question");
    assert_eq!(in_pod(&["ask", "10.117.0.53:54", "question"]), "ConnectionRefused");
    server.join().unwrap();
    stack.stop();
}

fn a_dead_resolver_is_passed_over() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stack = Stack::start(&[dead, echo_datagrams("127.0.0.1:0", b"second: ")]);
    assert_eq!(in_pod(&["datagram", "10.117.0.53:53", "question"]), "ConnectionRefused");
    assert_eq!(in_pod(&["datagram", "10.117.0.53:53", "question"]), "second: question");
    stack.stop();
}

fn many_short_connections_leave_nothing_behind() {
    const COUNT: usize = 2000;
    let stack = Stack::start(&[]);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let before = open_files();
    let server = std::thread::spawn(move || {
        for _ in 0..COUNT {
            answer(listener.accept().unwrap().0, b"to ");
        }
    });
    assert_eq!(in_pod(&["ask-often", &address, &COUNT.to_string()]), COUNT.to_string());
    server.join().unwrap();
    stack.wait(|counters| counters.tcp_closed == COUNT as u64);
    assert!(open_files() <= before, "the listener is closed, and so is everything else");
    assert_eq!(stack.stop().tcp_opened, COUNT as u64);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
