//! A viewer's WebSocket: whole messages within limits, faults as close codes.

use bytes::{Bytes, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocketError, WebSocketRead, WebSocketWrite};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::close::{self, Close};
use crate::limits::{Pace, Verdict};

/// Most bytes of a message.
pub(crate) const MAX_MESSAGE: usize = 1024 * 1024;
/// Most bytes of a ping, a pong or a close (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    Close,
}

/// Puts a socket's halves on a stream's halves.
pub(crate) fn halves<R, W>(read: R, write: W) -> (Reader<R>, Writer<W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut read, write) = fastwebsockets::after_handshake_split(read, write, Role::Server);
    // The limit itself is refused by the library, and the limit is allowed.
    read.set_max_message_size(MAX_MESSAGE + 1);
    read.set_auto_close(false);
    read.set_auto_pong(false);
    (Reader { socket: read, part: None, pace: Pace::new(Instant::now()) }, Writer { socket: write })
}

/// The half that reads.
pub(crate) struct Reader<R> {
    socket: WebSocketRead<R>,
    part: Option<(OpCode, BytesMut)>,
    pace: Pace,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads the next message. It must not be dropped before it is done.
    ///
    /// # Errors
    /// Says with which close the connection is to end.
    pub(crate) async fn next(&mut self) -> Result<Message, Close> {
        loop {
            let (kind, whole, payload) = self.frame().await?;
            match self.pace.judge(carries(kind, &payload), Instant::now()) {
                Verdict::Pass => {}
                Verdict::Wait(time) => tokio::time::sleep(time).await,
                Verdict::TooMany => return Err(Close::new(close::POLICY, "too many empty frames")),
            }
            if let Some(message) = self.take(kind, whole, payload)? {
                return Ok(message);
            }
        }
    }

    async fn frame(&mut self) -> Result<(OpCode, bool, Bytes), Close> {
        let mut nothing = |_: Frame<'_>| async { Ok::<(), std::io::Error>(()) };
        let mut frame =
            self.socket.read_frame(&mut nothing).await.map_err(|error| fault(&error))?;
        if !is_masked(&mut frame) {
            return Err(Close::new(close::PROTOCOL, "a frame without a mask"));
        }
        let (kind, whole) = (frame.opcode, frame.fin);
        let payload = match frame.payload {
            Payload::Bytes(bytes) => bytes.freeze(),
            other => Bytes::copy_from_slice(&other),
        };
        Ok((kind, whole, payload))
    }

    /// Adds a frame to what has come of its message.
    fn take(&mut self, kind: OpCode, whole: bool, bytes: Bytes) -> Result<Option<Message>, Close> {
        let control = matches!(kind, OpCode::Ping | OpCode::Pong | OpCode::Close);
        if control && bytes.len() > MAX_CONTROL {
            return Err(Close::new(close::PROTOCOL, "a control frame over 125 bytes"));
        }
        match (kind, self.part.take()) {
            (OpCode::Ping, part) => Ok(self.put_back(part, Message::Ping(bytes))),
            (OpCode::Pong, part) => Ok(self.put_back(part, Message::Pong)),
            (OpCode::Close, _) => Ok(Some(Message::Close)),
            (OpCode::Text | OpCode::Binary, None) if whole => message(kind, bytes).map(Some),
            (OpCode::Text | OpCode::Binary, None) => self.hold(kind, BytesMut::from(&bytes[..])),
            (OpCode::Continuation, Some((kind, mut part))) => {
                part.extend_from_slice(&bytes);
                if whole && part.len() <= MAX_MESSAGE {
                    return message(kind, part.freeze()).map(Some);
                }
                self.hold(kind, part)
            }
            (OpCode::Text | OpCode::Binary, Some(_)) | (OpCode::Continuation, None) => {
                Err(Close::new(close::PROTOCOL, "a message inside a message"))
            }
        }
    }

    fn put_back(&mut self, part: Option<(OpCode, BytesMut)>, message: Message) -> Option<Message> {
        self.part = part;
        Some(message)
    }

    fn hold(&mut self, kind: OpCode, part: BytesMut) -> Result<Option<Message>, Close> {
        if part.len() > MAX_MESSAGE {
            return Err(too_big());
        }
        self.part = Some((kind, part));
        Ok(None)
    }
}

fn carries(kind: OpCode, payload: &Bytes) -> bool {
    matches!(kind, OpCode::Text | OpCode::Binary | OpCode::Continuation) && !payload.is_empty()
}

fn message(kind: OpCode, bytes: Bytes) -> Result<Message, Close> {
    if kind != OpCode::Text {
        return Ok(Message::Binary(bytes));
    }
    let text = String::from_utf8(bytes.into());
    text.map(Message::Text).map_err(|_| Close::new(close::NOT_UTF8, "text that is not UTF-8"))
}

/// The library keeps the mask to itself, but writes it into a frame's head.
fn is_masked(frame: &mut Frame<'_>) -> bool {
    let mut head = [0; 16];
    frame.fmt_head(&mut head);
    head[1] & 0x80 != 0
}

fn too_big() -> Close {
    Close::new(close::TOO_BIG, "a message over 1 MiB")
}

fn fault(error: &WebSocketError) -> Close {
    match error {
        WebSocketError::FrameTooLarge => too_big(),
        WebSocketError::InvalidUTF8 => Close::new(close::NOT_UTF8, "text that is not UTF-8"),
        WebSocketError::UnexpectedEOF | WebSocketError::IoError(_) => {
            Close::new(close::PROTOCOL, "the connection ended without a close")
        }
        _ => Close::new(close::PROTOCOL, "a frame that breaks the protocol"),
    }
}

/// The half that writes.
pub(crate) struct Writer<W> {
    socket: WebSocketWrite<W>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes a binary message.
    pub(crate) async fn binary(&mut self, bytes: &[u8]) -> Result<(), WebSocketError> {
        self.socket.write_frame(Frame::binary(Payload::Borrowed(bytes))).await
    }

    /// Writes a text message.
    pub(crate) async fn text(&mut self, text: &str) -> Result<(), WebSocketError> {
        self.socket.write_frame(Frame::text(Payload::Borrowed(text.as_bytes()))).await
    }

    /// Writes a ping without payload.
    pub(crate) async fn ping(&mut self) -> Result<(), WebSocketError> {
        let ping = Frame::new(true, OpCode::Ping, None, Payload::Borrowed(&[]));
        self.socket.write_frame(ping).await
    }

    /// Answers a ping.
    pub(crate) async fn pong(&mut self, bytes: &[u8]) -> Result<(), WebSocketError> {
        self.socket.write_frame(Frame::pong(Payload::Borrowed(bytes))).await
    }

    /// Writes the last frame.
    pub(crate) async fn close(&mut self, close: &Close) -> Result<(), WebSocketError> {
        self.socket.write_frame(Frame::close(close.code, close.reason.as_bytes())).await?;
        self.socket.flush().await
    }

    /// Sends what waits in a buffer.
    pub(crate) async fn flush(&mut self) -> Result<(), WebSocketError> {
        self.socket.flush().await
    }
}
