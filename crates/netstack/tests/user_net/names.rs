//! Names, as `dig` in a pod asks for them: answers that fit a datagram, and one that does not.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use crate::Case;
use crate::host::Stack;
use crate::rig::run_in_pod;

pub(crate) const ALL: &[Case] = &[
    ("names_of_one_address_come_in_a_datagram", one_address),
    ("names_of_many_addresses_come_over_tcp", many_addresses),
];

/// What every client takes in a datagram (RFC 1035, 4.2.1).
const DATAGRAM: usize = 512;
/// AAAA (RFC 3596).
const KIND: [u8; 2] = [0, 28];

/// What a name's first letter asks for.
fn addresses(question: &[u8]) -> u8 {
    if question.get(13) == Some(&b'm') { 200 } else { 1 }
}

fn address(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, last.into())
}

/// Answers a question (RFC 1035, 4.1); what is longer than `room` is left out, and that is said.
fn reply(question: &[u8], room: usize) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0).unwrap();
    let asked = &question[12..12 + name + 5];
    assert_eq!(asked[name + 1..name + 3], KIND);
    let count = addresses(question);
    let head = |flags: u8, count: u8| {
        [&question[..2], &[flags, 0x80, 0, 1, 0, count, 0, 0, 0, 0], asked].concat()
    };
    let mut all = head(0x81, count);
    for last in 1..=count {
        all.extend([&[0xc0, 12], &KIND[..], &[0, 1, 0, 0, 0, 9, 0, 16]].concat());
        all.extend(address(last).octets());
    }
    if all.len() <= room { all } else { head(0x83, 0) }
}

/// A name server on one port of UDP and TCP.
fn serve() -> SocketAddr {
    let connections = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = connections.local_addr().unwrap();
    let datagrams = UdpSocket::bind(there).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; DATAGRAM];
        while let Ok((len, from)) = datagrams.recv_from(&mut question) {
            datagrams.send_to(&reply(&question[..len], DATAGRAM), from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in connections.incoming() {
            let (mut stream, mut len) = (stream.unwrap(), [0; 2]);
            while stream.read_exact(&mut len).is_ok() {
                let mut question = vec![0; u16::from_be_bytes(len).into()];
                stream.read_exact(&mut question).unwrap();
                let reply = reply(&question, usize::from(u16::MAX));
                let len = u16::try_from(reply.len()).unwrap().to_be_bytes();
                stream.write_all(&[&len[..], &reply].concat()).unwrap();
            }
        }
    });
    there
}

fn dig(options: &[&str], name: &str) -> String {
    let words = ["dig", "-r", "@10.117.0.53", "+tries=3", "+time=20"];
    run_in_pod(&[&words[..], options, &["AAAA", name]].concat())
}

fn one_address() {
    let stack = Stack::start(&[serve()]);
    assert_eq!(dig(&["+short"], "one.example"), "2001:2::1\n");
    let counters = stack.stop();
    assert_eq!((counters.host_sockets, counters.tcp_opened), (1, 0));
}

fn many_addresses() {
    let stack = Stack::start(&[serve()]);
    let cut = dig(&["+ignore"], "many.example");
    assert!(cut.contains("flags: qr tc rd ra;") && cut.contains("ANSWER: 0,"), "{cut}");
    assert_eq!(stack.counters().tcp_opened, 0);
    // Without being told to, it asks again over TCP; and so it does at once when told to.
    let every: String = (1..=200).map(|last| format!("{}\n", address(last))).collect();
    for options in [&["+short"][..], &["+short", "+tcp"]] {
        let said = dig(options, "many.example");
        let found: String = said
            .lines()
            .filter(|line| !line.starts_with(';'))
            .map(|it| format!("{it}\n"))
            .collect();
        assert_eq!(found, every, "{said}");
    }
    stack.wait(|counters| counters.tcp_closed == 2);
    assert_eq!(stack.stop().tcp_opened, 2);
}
