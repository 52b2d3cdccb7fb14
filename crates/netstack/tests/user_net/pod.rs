//! The pod role: an ordinary client that prints what it got.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use crate::rig::allow_ping;
use sha2::{Digest, Sha256};

/// Bytes sent each way by the cases about much data.
pub(crate) const MUCH: usize = 50 << 20;
/// After this time a silent partner is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn play() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["ask", address, text] => ask(address, text),
        ["ask-often", address, count] => ask_often(address, count),
        ["listen-first", address, text] => listen_first(address, text),
        ["send-much", address] => send_much(address),
        ["receive-much", address] => receive_much(address),
        ["speak-and-read", address] => speak_and_read(address),
        ["reset", address] => reset(address),
        ["idle", address, count] => idle(address, count),
        ["answer-once", address] => answer_once(address),
        ["ask-at-once", address, count] => ask_at_once(address, count),
        ["hear-at-once", address, count] => hear_at_once(address, count),
        ["exchange", address, count, len] => exchange(address, count, len),
        ["datagrams", address, count] => datagrams(address, count),
        ["datagram", address, text] => datagram(address, text),
        ["ping", address, text] => ping(address, text),
        _ => panic!("unknown: {words:?}"),
    };
    println!("{}", outcome.unwrap_or_else(|error| format!("{:?}", error.kind())));
    ExitCode::SUCCESS
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends, ends its half, and returns the answer.
fn ask(address: &str, text: &str) -> Result<String> {
    let mut stream = connect(address)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Answers one connection as a server of another machine; the first line says that it listens.
fn answer_once(address: &str) -> Result<String> {
    let listener = std::net::TcpListener::bind(address)?;
    println!("listening");
    crate::host::answer(listener.accept()?.0, b"you said ");
    Ok("answered".to_owned())
}

/// Asks on many connections, one after the other.
fn ask_often(address: &str, count: &str) -> Result<String> {
    let count: usize = count.parse().expect("a number");
    for n in 0..count {
        let text = n.to_string();
        assert_eq!(ask(address, &text)?, format!("to {text}"));
    }
    Ok(count.to_string())
}

/// Opens all connections, speaks and ends its half on each, and only then reads the answers.
fn ask_at_once(address: &str, count: &str) -> Result<String> {
    let mut streams = open(address, count)?;
    for (n, stream) in streams.iter_mut().enumerate() {
        stream.write_all(n.to_string().as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(heard(stream)?, format!("to {n}"));
    }
    Ok(streams.len().to_string())
}

/// Opens all connections, hears each out, and speaks only then.
fn hear_at_once(address: &str, count: &str) -> Result<String> {
    let mut streams = open(address, count)?;
    let said = streams.iter_mut().map(heard).collect::<Result<Vec<_>>>()?;
    for (n, (stream, said)) in streams.iter_mut().zip(said).enumerate() {
        assert_eq!(said, n.to_string());
        stream.write_all(format!("heard {said}").as_bytes())?;
    }
    Ok(streams.len().to_string())
}

fn open(address: &str, count: &str) -> Result<Vec<TcpStream>> {
    crate::rig::more_files();
    (0..count.parse().expect("a number")).map(|_| connect(address)).collect()
}

fn heard(stream: &mut TcpStream) -> Result<String> {
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Sends and receives on each connection at once; a line for each has both hashes.
fn exchange(address: &str, count: &str, len: &str) -> Result<String> {
    let len: usize = len.parse().expect("a number");
    let threads = open(address, count)?.into_iter().map(|mut stream| {
        std::thread::spawn(move || -> Result<String> {
            let mut out = stream.try_clone()?;
            let sent = std::thread::spawn(move || {
                let hash = pour_bytes(&mut out, len)?;
                out.shutdown(Shutdown::Write)?;
                Result::Ok(hash)
            });
            let got = drain(&mut stream)?;
            Ok(format!("{} {got}", sent.join().expect("no panic")?))
        })
    });
    let threads: Vec<_> = threads.collect();
    let lines = threads.into_iter().map(|thread| thread.join().expect("no panic"));
    Ok(lines.collect::<Result<Vec<_>>>()?.join("\n"))
}

/// Asks from many sockets, all open, and reads each one's own answer. So many at a time that no
/// receive buffer overflows, however busy the machine.
fn datagrams(address: &str, count: &str) -> Result<String> {
    crate::rig::more_files();
    let count: usize = count.parse().expect("a number");
    let sockets = (0..count).map(|_| UdpSocket::bind("0.0.0.0:0")).collect::<Result<Vec<_>>>()?;
    for (batch, sockets) in sockets.chunks(50).enumerate() {
        for (n, socket) in sockets.iter().enumerate() {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(address)?;
            socket.send(format!("{batch} {n}").as_bytes())?;
        }
        for (n, socket) in sockets.iter().enumerate() {
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer)?;
            assert_eq!(buffer[..len], *format!("to {batch} {n}").as_bytes());
        }
    }
    Ok(sockets.len().to_string())
}

/// Hears the other side out to its FIN, and only then speaks.
fn listen_first(address: &str, text: &str) -> Result<String> {
    let mut stream = connect(address)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    stream.write_all(text.as_bytes())?;
    Ok(answer)
}

fn send_much(address: &str) -> Result<String> {
    let mut stream = connect(address)?;
    let hash = pour(&mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    let mut theirs = String::new();
    stream.read_to_string(&mut theirs)?;
    Ok(if theirs == hash { theirs } else { format!("{theirs} is not {hash}") })
}

fn receive_much(address: &str) -> Result<String> {
    drain(&mut connect(address)?)
}

fn speak_and_read(address: &str) -> Result<String> {
    let mut stream = connect(address)?;
    stream.write_all(b"x")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Connects, waits for a byte and resets.
fn reset(address: &str) -> Result<String> {
    let mut stream = connect(address)?;
    stream.read_exact(&mut [0])?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok("reset".to_owned())
}

/// Opens many connections, exchanges a byte on each, and holds them until a byte comes on the
/// first one.
fn idle(address: &str, count: &str) -> Result<String> {
    let count: usize = count.parse().expect("a number");
    let mut streams = (0..count).map(|_| connect(address)).collect::<Result<Vec<_>>>()?;
    for stream in &mut streams {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
    }
    streams[0].write_all(b"y")?;
    streams[0].read_exact(&mut [0])?;
    Ok(count.to_string())
}

fn datagram(address: &str, text: &str) -> Result<String> {
    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(text.as_bytes())?;
    let mut buffer = [0; 65535];
    let len = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

/// Sends one echo request; returns what came back with its number.
fn ping(address: &str, text: &str) -> Result<String> {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    allow_ping();
    let (family, protocol, request, reply) = if address.contains(':') {
        (AddressFamily::INET6, ipproto::ICMPV6, 128, 129)
    } else {
        (AddressFamily::INET, ipproto::ICMP, 8, 0)
    };
    let socket = socket(family, SocketType::DGRAM, Some(protocol))?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((address, 0))?;
    socket.send(&[&[request, 0, 0, 0, 0, 0, 3, 7], text.as_bytes()].concat())?;
    let mut buffer = [0; 65535];
    let len = socket.recv(&mut buffer)?;
    assert_eq!((buffer[0], &buffer[6..8]), (reply, &[3, 7][..]), "an answer to this request");
    Ok(String::from_utf8_lossy(&buffer[8..len]).into_owned())
}

/// Sends [`MUCH`] bytes, each block numbered and of a length that is out of step with every
/// buffer; returns their hash.
pub(crate) fn pour(stream: &mut impl Write) -> Result<String> {
    pour_bytes(stream, MUCH)
}

/// As [`pour`], with so many bytes.
pub(crate) fn pour_bytes(stream: &mut impl Write, len: usize) -> Result<String> {
    let mut hash = Sha256::new();
    let mut block: Vec<u8> = (0..100_003_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let mut left = len;
    while left > 0 {
        block[..8].copy_from_slice(&left.to_le_bytes());
        let part = &block[..left.min(block.len())];
        hash.update(part);
        stream.write_all(part)?;
        left -= part.len();
    }
    Ok(hex(hash))
}

/// Receives to the end; returns the hash.
pub(crate) fn drain(stream: &mut impl Read) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 70_001];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(hex(hash)),
            len => hash.update(&buffer[..len]),
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
