//! The pod role: an ordinary client that prints what it got.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

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
        ["datagram", address, text] => datagram(address, text),
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
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(text.as_bytes())?;
    let mut buffer = [0; 65535];
    let len = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

/// Sends [`MUCH`] bytes, each block numbered and of a length that is out of step with every
/// buffer; returns their hash.
pub(crate) fn pour(stream: &mut impl Write) -> Result<String> {
    let mut hash = Sha256::new();
    let mut block: Vec<u8> = (0..100_003_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let mut left = MUCH;
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
