//! Much of everything at once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::Case;
use crate::host::{HOST, Stack, echo_datagrams};
use crate::pod::{drain, pour_bytes};
use crate::rig::{in_pod, more_files};

pub(crate) const ALL: &[Case] = &[
    ("a_thousand_connections_at_once_are_all_answered", a_thousand_connections_at_once),
    ("a_thousand_that_the_host_ends_first_are_heard_out", a_thousand_the_host_ends_first),
    ("ten_large_transfers_each_way_at_once_arrive_whole", ten_large_transfers_each_way),
    ("many_sockets_get_their_own_datagrams", many_sockets_get_their_own_datagrams),
];

const MANY: usize = 1000;
const LARGE: usize = 10;

/// Accepts all connections before it serves any, and then serves each in turn.
fn accept_all(listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| listener.accept().unwrap().0).collect()
}

/// The pod ends each of its halves first; the answers come after that, all connections open.
fn a_thousand_connections_at_once() {
    more_files();
    let stack = Stack::start(&[]);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let mut streams = accept_all(&listener, MANY);
        for stream in &mut streams {
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            stream.write_all(format!("to {said}").as_bytes()).unwrap();
        }
    });
    assert_eq!(in_pod(&["ask-at-once", &address, &MANY.to_string()]), MANY.to_string());
    server.join().unwrap();
    stack.wait(|counters| counters.tcp_closed == MANY as u64);
    let counters = stack.stop();
    assert_eq!((counters.tcp_opened, counters.exhausted), (MANY as u64, 0));
}

/// The host ends each of its halves first, and hears what the pod says after that.
fn a_thousand_the_host_ends_first() {
    more_files();
    let stack = Stack::start(&[]);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let mut streams = accept_all(&listener, MANY);
        for (n, stream) in streams.iter_mut().enumerate() {
            stream.write_all(n.to_string().as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert_eq!(said, format!("heard {n}"));
        }
    });
    assert_eq!(in_pod(&["hear-at-once", &address, &MANY.to_string()]), MANY.to_string());
    server.join().unwrap();
    stack.wait(|counters| counters.tcp_closed == MANY as u64);
    stack.stop();
}

/// Bytes of one transfer: few in CI, `NETSTACK_MIB=1024` for the whole size.
fn large() -> usize {
    let mib = std::env::var("NETSTACK_MIB").map_or(16, |text| text.parse().unwrap());
    mib << 20
}

/// Each connection carries both directions at once; either end sends FIN when it has sent all.
fn ten_large_transfers_each_way() {
    let stack = Stack::start(&[]);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = |mut stream: TcpStream| {
        let mut out = stream.try_clone().unwrap();
        let sent = std::thread::spawn(move || {
            let hash = pour_bytes(&mut out, large()).unwrap();
            out.shutdown(std::net::Shutdown::Write).unwrap();
            hash
        });
        (drain(&mut stream).unwrap(), sent.join().unwrap())
    };
    let server = std::thread::spawn(move || {
        let streams = accept_all(&listener, LARGE);
        let threads: Vec<_> =
            streams.into_iter().map(|stream| std::thread::spawn(move || serve(stream))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let said = in_pod(&["exchange", &address, &LARGE.to_string(), &large().to_string()]);
    let mut theirs: Vec<_> = said.lines().map(str::to_owned).collect();
    let mut ours: Vec<_> =
        server.join().unwrap().iter().map(|(got, sent)| format!("{got} {sent}")).collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), LARGE);
    stack.wait(|counters| counters.tcp_closed == LARGE as u64);
    stack.stop();
}

fn many_sockets_get_their_own_datagrams() {
    more_files();
    let stack = Stack::start(&[]);
    let address = echo_datagrams(&format!("{HOST}:0"), b"to ").to_string();
    assert_eq!(in_pod(&["datagrams", &address, "500"]), "500");
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.packets_lost), (500, 0));
}
