//! What a pod's program sees, as JSON.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;

use serde_json::json;

/// Says it, or waits to be killed.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.into_string().unwrap()).collect();
    if args == ["wait"] {
        loop {
            std::thread::park();
        }
    }
    if let [verb, port] = args.as_slice()
        && verb == "serve"
    {
        return serve(port.parse().unwrap());
    }
    let saw = json!({
        "args": args,
        "env": std::env::vars().collect::<BTreeMap<_, _>>(),
        "uid": rustix::process::getuid().as_raw(),
        "gid": rustix::process::getgid().as_raw(),
        "cwd": std::env::current_dir().unwrap(),
        "marker": std::fs::read_to_string("/marker").unwrap_or_default(),
    });
    println!("{saw}");
    ExitCode::SUCCESS
}

/// `GET /N` gives N bytes of [`bytes`], `POST /` gives back what follows once it has ended.
fn serve(port: u16) -> ExitCode {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    println!("listening");
    for stream in listener.incoming() {
        std::thread::spawn(move || answer(stream.unwrap()));
    }
    ExitCode::SUCCESS
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut line) = (String::new(), "-".to_owned());
    reader.read_line(&mut first)?;
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let path = first.split(' ').nth(1).unwrap();
    let mut body = Vec::new();
    match path[1..].parse() {
        Ok(count) => body = bytes(count),
        Err(_) => drop(reader.read_to_end(&mut body)?),
    }
    stream.write_all(
        format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
    )?;
    stream.write_all(&body)?;
    stream.shutdown(Shutdown::Write)
}

/// Bytes that come nowhere twice in the same order.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(count);
    bytes
}
