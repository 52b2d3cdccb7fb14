//! Names, as programs in a weaver look them up.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use crate::support::{Case, World, show, text};

pub(crate) const CASES: &[Case] =
    &[("names::an_answer_too_long_for_a_datagram_comes_over_tcp", over_tcp)];

/// More than fit into 512 bytes.
const ADDRESSES: u8 = 60;
/// Nobody else has this address of loopback; a name server is always asked on port 53.
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 66, 117, 53), 53);

/// Answers a question (RFC 1035, 4.1) with all addresses, or that they do not fit.
fn answer(question: &[u8], fits: bool) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0).unwrap();
    let asked = &question[12..12 + name + 5];
    let wanted = asked[name + 1..name + 3] == [0, 1];
    let count = if fits && wanted { ADDRESSES } else { 0 };
    // An answer, as the server can look further; truncated where it does not fit.
    let flags = if fits { [0x81, 0x80] } else { [0x83, 0x80] };
    let mut all = [&question[..2], &flags, &[0, 1, 0, count, 0, 0, 0, 0], asked].concat();
    for last in 1..=count {
        all.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 198, 51, 100, last]);
    }
    all
}

fn serve() -> std::io::Result<()> {
    let (datagrams, connections) = (UdpSocket::bind(SERVER)?, TcpListener::bind(SERVER)?);
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((len, from)) = datagrams.recv_from(&mut question) {
            datagrams.send_to(&answer(&question[..len], false), from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in connections.incoming() {
            let (mut stream, mut len) = (stream.unwrap(), [0; 2]);
            // One connection may ask for addresses of both kinds.
            while stream.read_exact(&mut len).is_ok() {
                let mut question = vec![0; u16::from_be_bytes(len).into()];
                stream.read_exact(&mut question).unwrap();
                let answer = answer(&question, true);
                let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&[&len[..], &answer].concat()).unwrap();
            }
        }
    });
    Ok(())
}

fn over_tcp() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may be a name server on port 53");
        return;
    }
    serve().unwrap();
    let world = World::new();
    let resolv = world.path("resolv.conf").display().to_string();
    std::fs::write(&resolv, format!("nameserver {}\n", SERVER.0)).unwrap();
    // The daemon lives on a machine whose name server that is.
    let dev = world.command("dev --detach", &[]);
    let mut machine = std::process::Command::new("unshare");
    let script = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
    machine.args(["-m", "sh", "-c", script, &resolv]).arg(dev.get_program()).args(dev.get_args());
    let started = machine.env_clear().envs(world.variables()).output().unwrap();
    assert!(started.status.success(), "{}", show(&started));
    let output = world.run("new --local --rm -- getent ahostsv4 many.example");
    let said = text(&output.stdout);
    for last in [1, ADDRESSES / 2, ADDRESSES] {
        assert!(said.contains(&format!("198.51.100.{last} ")), "{}", show(&output));
    }
}
