//! A WebSocket client that knows nothing of Loom (RFC 6455), as small as it can be.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;

// The key and the answer to it in RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Close(u16, String),
}

pub(crate) struct WebSocket(TcpStream);

impl WebSocket {
    /// Connects to a `ws://` URL.
    pub(crate) fn connect(url: &str, token: &str) -> Self {
        let (host, path) = url.strip_prefix("ws://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT), "{head}");
        assert!(!head.to_ascii_lowercase().contains("sec-websocket-protocol"), "{head}");
        Self(stream)
    }

    /// Sends one text frame.
    pub(crate) fn send(&mut self, text: &str) {
        self.frame(1, text.as_bytes());
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        assert!(length < 126, "longer ones need another header");
        // Clients must mask; a mask of zeros leaves the bytes as they are.
        self.0.write_all(&[0x80 | kind, 0x80 | length, 0, 0, 0, 0]).unwrap();
        self.0.write_all(payload).unwrap();
    }

    /// Waits for the next message; pings are answered.
    pub(crate) fn next(&mut self) -> Message {
        loop {
            let (kind, payload) = self.read();
            match kind {
                1 => return Message::Text(String::from_utf8(payload).unwrap()),
                8 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    return Message::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap());
                }
                9 => self.frame(10, &payload),
                other => panic!("a frame of kind {other}: {payload:?}"),
            }
        }
    }

    fn read(&mut self) -> (u8, Vec<u8>) {
        let [first, second] = self.bytes();
        assert_eq!(first & 0xf0, 0x80, "whole frames without extensions");
        let length = match second {
            127 => usize::try_from(u64::from_be_bytes(self.bytes())).unwrap(),
            126 => usize::from(u16::from_be_bytes(self.bytes())),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (first & 0x0f, payload)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }
}
