//! A WebSocket client that may do everything wrong.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
/// The bit of a frame's last part.
pub(super) const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const LONG: Duration = Duration::from_secs(60);

pub(super) struct Socket {
    pub(super) stream: TcpStream,
}

impl Socket {
    pub(super) async fn open(address: SocketAddr, path: &str, token: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert!(
            answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "RFC 6455's own example: {answer}"
        );
        Self { stream }
    }

    /// Sends bytes as they are; the other side may have closed already.
    pub(super) async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends a whole frame.
    pub(super) async fn send(&mut self, kind: u8, payload: &[u8]) {
        self.raw(&frame(FIN | kind, payload)).await;
    }

    pub(super) async fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    /// Receives a frame.
    pub(super) async fn receive(&mut self) -> (u8, Vec<u8>) {
        tokio::time::timeout(LONG, self.frame()).await.expect("no frame comes").expect("cut off")
    }

    async fn frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await? & 0x0f;
        let length = match self.stream.read_u8().await? {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await?;
        Ok((kind, payload))
    }

    /// Receives text until it ends with `end`.
    pub(super) async fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let (kind, payload) = self.receive().await;
            assert_eq!(kind, TEXT, "{text:?} then {payload:?}");
            text.push_str(&String::from_utf8(payload).unwrap());
        }
        text
    }

    /// Receives whatever comes until the close, and returns its code and reason.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        loop {
            let (kind, payload) = self.receive().await;
            if kind == CLOSE {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                return (code, String::from_utf8(payload[2..].to_vec()).unwrap());
            }
        }
    }
}

/// Makes a frame with a mask of zeros.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// Makes a frame's head, which may lie.
pub(super) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(MASKED | u8::try_from(length).unwrap()),
        126..65536 => {
            bytes.push(MASKED | 126);
            bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(MASKED | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}
