//! The two tasks of an attached terminal: one reads the WebSocket, one writes it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollectorRead, Frame as WsFrame, OpCode, Payload, Role, WebSocket, WebSocketError,
    WebSocketWrite,
};
use reqwest::Upgraded;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wire::frame::Frame;

use super::{Close, Event};
use crate::Error;

/// After that long without a byte the connection is dead; the server pings every 20 s.
const SILENCE: Duration = Duration::from_secs(60);
/// Frames that wait for the socket before a sender waits.
const FRAMES: usize = 64;
/// Most bytes of a message that the server sends.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Input that may be on its way to the program; the host takes no more than four times as much.
const WINDOW: u64 = 256 * 1024;

/// Sends frames of one attached terminal.
#[derive(Debug, Clone)]
pub struct FrameSender {
    out: mpsc::Sender<Out>,
    /// The input that has reached the program.
    acked: watch::Receiver<u64>,
}

#[derive(Debug)]
enum Out {
    Frame(Frame),
    Control(OpCode, Bytes),
}

impl FrameSender {
    /// Sends a frame; waits while the connection is full, and input waits while the program has
    /// not read what came before. Events have to be read meanwhile, or it may wait for ever: poll
    /// it beside [`super::Attach::next`]. It may be dropped; then the frame was not sent.
    ///
    /// # Errors
    /// The connection is gone; [`super::Attach::next`] says why.
    pub async fn send(&self, frame: Frame) -> Result<(), Error> {
        if let Frame::Input { offset, data } = &frame {
            let end = offset.saturating_add(data.len() as u64);
            let room = |acked: &u64| acked.saturating_add(WINDOW) >= end || acked >= offset;
            let mut acked = self.acked.clone();
            acked.wait_for(room).await.map_err(|_| Error::Broken(None))?;
        }
        self.put(Out::Frame(frame)).await
    }

    /// Sends a frame that overtakes input which waits for the program: its own input goes too.
    ///
    /// # Errors
    /// See [`Self::send`].
    pub async fn send_ahead(&self, frame: Frame) -> Result<(), Error> {
        self.put(Out::Frame(frame)).await
    }

    /// Closes the connection after what was sent before; the server's answer ends the events.
    ///
    /// # Errors
    /// The connection is gone already.
    pub async fn close(&self) -> Result<(), Error> {
        let code = Bytes::copy_from_slice(&1000_u16.to_be_bytes());
        self.put(Out::Control(OpCode::Close, code)).await
    }

    /// Nobody writes any more once the reader has ended, even where the socket takes nothing.
    async fn put(&self, out: Out) -> Result<(), Error> {
        let mut reader = self.acked.clone();
        tokio::select! {
            biased;
            sent = self.out.send(out) => sent.map_err(|_| Error::Broken(None)),
            _ = reader.wait_for(|_| false) => Err(Error::Broken(None)),
        }
    }
}

/// Starts both tasks.
pub(super) fn start(
    stream: Upgraded,
    events: mpsc::Sender<Result<Event, Error>>,
    tasks: &mut JoinSet<()>,
) -> FrameSender {
    let mut socket = WebSocket::after_handshake(stream, Role::Client);
    socket.set_max_message_size(MAX_MESSAGE);
    let (read, write) = socket.split(tokio::io::split);
    let (out, from_all) = mpsc::channel(FRAMES);
    let (reached, acked) = watch::channel(0);
    tasks.spawn(write_all(write, from_all));
    tasks.spawn(read_all(FragmentCollectorRead::new(read), out.clone(), events, reached));
    FrameSender { out, acked }
}

async fn write_all(mut socket: WebSocketWrite<WriteHalf<Upgraded>>, mut from: mpsc::Receiver<Out>) {
    while let Some(out) = from.recv().await {
        let frame = match &out {
            Out::Frame(frame) => WsFrame::binary(Payload::Owned(frame.encode().to_vec())),
            Out::Control(kind, bytes) => {
                WsFrame::new(true, *kind, None, Payload::Owned(bytes.to_vec()))
            }
        };
        // The reader sees the end of a broken connection and tells why.
        if socket.write_frame(frame).await.is_err() || socket.flush().await.is_err() {
            return;
        }
    }
}

async fn read_all(
    mut socket: FragmentCollectorRead<ReadHalf<Upgraded>>,
    to_writer: mpsc::Sender<Out>,
    events: mpsc::Sender<Result<Event, Error>>,
    reached: watch::Sender<u64>,
) {
    // Pings are answered inside a read and do not end it.
    let heard = AtomicBool::new(false);
    loop {
        let mut reading = pin!(read_one(&mut socket, &to_writer, &heard));
        let read = loop {
            match tokio::time::timeout(SILENCE, &mut reading).await {
                Err(_) if heard.swap(false, Ordering::Relaxed) => {}
                read => break read,
            }
        };
        let event = match read {
            Ok(Ok(None)) => continue,
            Ok(Ok(Some(event))) => Ok(event),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::broken("nothing was heard of the server for a minute")),
        };
        match &event {
            Ok(Event::Frame(Frame::Hello { hello, .. })) => drop(reached.send_replace(hello.input)),
            Ok(Event::Frame(Frame::InputAck { offset })) => drop(reached.send_replace(*offset)),
            _ => {}
        }
        let last = !matches!(event, Ok(Event::Frame(_)));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

async fn read_one(
    socket: &mut FragmentCollectorRead<ReadHalf<Upgraded>>,
    to_writer: &mpsc::Sender<Out>,
    heard: &AtomicBool,
) -> Result<Option<Event>, Error> {
    let mut owed = |frame: WsFrame<'_>| {
        heard.store(true, Ordering::Relaxed);
        let out = Out::Control(frame.opcode, Bytes::copy_from_slice(&frame.payload));
        let to_writer = to_writer.clone();
        async move { to_writer.send(out).await }
    };
    let frame = socket.read_frame(&mut owed).await.map_err(broken)?;
    match frame.opcode {
        OpCode::Binary => {
            let bytes = Bytes::from(Vec::from(frame.payload));
            let frame = Frame::decode(&bytes);
            let frame = frame.map_err(|_| Error::Protocol("a frame that cannot be read"))?;
            Ok(frame.map(Event::Frame))
        }
        OpCode::Close => Ok(Some(Event::Close(read_close(&frame.payload)))),
        OpCode::Text => Err(Error::Protocol("text where frames were agreed")),
        OpCode::Ping | OpCode::Pong | OpCode::Continuation => Ok(None),
    }
}

fn read_close(payload: &[u8]) -> Close {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => Close {
            code: u16::from_be_bytes(*code),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
        None => Close { code: 1005, reason: String::new() },
    }
}

fn broken(error: WebSocketError) -> Error {
    match error {
        WebSocketError::UnexpectedEOF | WebSocketError::ConnectionClosed => Error::Broken(None),
        other => Error::broken(other),
    }
}
