//! SPDY/3.1 inside a WebSocket: how `kubectl port-forward` carries many connections (KEP-4006).
//!
//! Each connection is two streams of one `requestid`: `data`, and `error`, which ends without a
//! word or says what went wrong. There are no windows, as Kubernetes has none: a connection whose
//! program reads nothing holds up the others when what is kept for it is full.

mod dictionary;
mod frame;
mod headers;

use std::collections::HashMap;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Dialer;
use super::carry::{Ends, Way, carry};
use crate::api::streams::socket::{Inbox, Outgoing, Sender, close};
use frame::{Decoder, Encoder, FIN, Said};
use headers::Headers;

pub(super) const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// More streams are refused: 250 connections.
const MAX_STREAMS: usize = 500;
/// How many pieces are kept for a program that does not read.
const PIECES: usize = 16;
/// Of RST_STREAM.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("a frame is of another version than SPDY/3")]
    Version,
    #[error("a frame or its headers are too large")]
    TooLarge,
    #[error("a frame is malformed")]
    Frame,
    #[error("headers are malformed")]
    Headers,
    #[error("headers are not compressed as they should be")]
    Compression,
}

/// Frames as a fuzzer writes them: they say the same in whatever pieces they come, and no more is
/// kept than one of them.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut decoder, mut all) = (Decoder::new(), Vec::new());
        for piece in bytes.chunks(size) {
            match decoder.feed(piece) {
                Ok(said) => all.extend(said),
                Err(error) => return (all, Some(error)),
            }
        }
        (joined(all), None)
    };
    let (whole, pieces) = (read(bytes.len().max(1)), read(1));
    assert_eq!(whole.1, pieces.1);
    if whole.1.is_none() {
        assert_eq!(whole.0, pieces.0);
    }
}

/// Puts together what follows on one stream.
#[cfg(any(test, feature = "fuzz"))]
fn joined(all: Vec<Said>) -> Vec<Said> {
    let mut joined: Vec<Said> = Vec::new();
    for said in all {
        match (joined.last_mut(), said) {
            (Some(Said::Data { id, bytes }), Said::Data { id: other, bytes: more })
                if *id == other =>
            {
                bytes.extend(more);
            }
            (_, said) => joined.push(said),
        }
    }
    joined
}

/// Serves until the client leaves.
pub(super) async fn serve(dialer: Dialer, mut inbox: Inbox, sender: Sender) {
    let (pass, mut messages) = mpsc::channel(1);
    let reading = async move {
        while let Some(message) = inbox.next().await {
            if pass.send(message).await.is_err() {
                return inbox;
            }
        }
        inbox
    };
    let mut session = Session::new(dialer, sender.clone());
    let working = async {
        let mut decoder = Decoder::new();
        loop {
            tokio::select! {
                Some(ended) = session.tasks.join_next() => session.forget(ended.ok()),
                message = messages.recv() => {
                    let Some(message) = message else { return Ok(()) };
                    for said in decoder.feed(&message)? {
                        session.take(said).await;
                    }
                }
            }
        }
    };
    let broken: Result<(), Broken> = tokio::select! {
        result = working => result,
        _ = reading => Ok(()),
    };
    if let Err(error) = broken {
        tracing::debug!(%error, "a port-forward is broken");
        sender.send(Outgoing::Message(frame::goaway(PROTOCOL_ERROR))).await.ok();
        close(&sender, 1002).await;
    }
}

/// What is known of the streams of one client.
struct Session {
    dialer: Dialer,
    sender: Sender,
    encoder: Encoder,
    streams: HashMap<u32, Stream>,
    /// Streams whose other half has not come yet, by request.
    halves: HashMap<String, u32>,
    /// Give the streams that have come to their end.
    tasks: JoinSet<[u32; 2]>,
}

struct Stream {
    is_data: bool,
    port: u16,
    /// What goes to the program; its end is the client's.
    to_pod: Option<mpsc::Sender<Vec<u8>>>,
    from_client: Option<mpsc::Receiver<Vec<u8>>>,
    reset: CancellationToken,
}

impl Session {
    fn new(dialer: Dialer, sender: Sender) -> Self {
        let (streams, halves, tasks) = (HashMap::new(), HashMap::new(), JoinSet::new());
        Self { dialer, sender, encoder: Encoder::default(), streams, halves, tasks }
    }

    async fn say(&self, frame: Vec<u8>) {
        // When nobody hears it the end is near.
        self.sender.send(Outgoing::Message(frame)).await.ok();
    }

    async fn take(&mut self, said: Said) {
        match said {
            Said::Open { id, headers } => self.open(id, &headers).await,
            Said::Data { id, bytes } => {
                let stream = self.streams.get(&id).and_then(|stream| stream.to_pod.as_ref());
                if let Some(to_pod) = stream {
                    // A program that has gone takes nothing.
                    to_pod.send(bytes).await.ok();
                }
            }
            Said::Fin { id } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.to_pod = None;
                }
            }
            Said::Reset { id } => self.reset(id),
            Said::Ping { id } if id % 2 == 1 => self.say(frame::ping(id)).await,
            // An answer to what we never asked.
            Said::Ping { .. } => {}
        }
    }

    async fn open(&mut self, id: u32, headers: &Headers) {
        if self.streams.len() >= MAX_STREAMS {
            return self.say(frame::reset(id, REFUSED_STREAM)).await;
        }
        let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
        let port = header("port").parse().ok().filter(|port| *port > 0);
        let is_data = match header("streamtype") {
            "data" => Some(true),
            "error" => Some(false),
            _ => None,
        };
        let (Some(port), Some(is_data)) = (port, is_data) else {
            return self.say(frame::reset(id, PROTOCOL_ERROR)).await;
        };
        let reply = self.encoder.reply(id);
        self.say(reply).await;
        let (to_pod, from_client) = mpsc::channel(PIECES);
        let (to_pod, from_client) = (is_data.then_some(to_pod), is_data.then_some(from_client));
        let stream = Stream { is_data, port, to_pod, from_client, reset: CancellationToken::new() };
        self.streams.insert(id, stream);
        // Requests of old clients have no name: a stream's other half is its neighbour.
        let neighbour = if is_data { id.wrapping_sub(2) } else { id };
        let request = header("requestid");
        let request = if request.is_empty() { format!("#{neighbour}") } else { request.to_owned() };
        let Some(other) = self.halves.remove(&request) else {
            self.halves.insert(request, id);
            return;
        };
        self.pair(id, other, is_data).await;
    }

    /// Connects, once both streams of a connection are there.
    async fn pair(&mut self, id: u32, other: u32, is_data: bool) {
        let (data, error) = if is_data { (id, other) } else { (other, id) };
        let sound = self.streams.get(&data).is_some_and(|stream| stream.is_data)
            && self.streams.get(&error).is_some_and(|stream| !stream.is_data);
        let stream = self.streams.get_mut(&data).filter(|_| sound);
        let taken = stream.and_then(|s| Some((s.port, s.from_client.take()?, s.reset.clone())));
        let Some((port, from_client, reset)) = taken else {
            self.say(frame::reset(id, PROTOCOL_ERROR)).await;
            self.streams.remove(&id);
            return;
        };
        let (dialer, sender) = (self.dialer.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            let done = Connection { data, error, sender }.run(&dialer, port, from_client);
            reset.run_until_cancelled(done).await;
            [data, error]
        });
    }

    fn reset(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.halves.retain(|_, half| *half != id);
        // The error stream of a connection says only that nobody wants to hear of errors.
        if stream.is_data {
            stream.reset.cancel();
        }
    }

    fn forget(&mut self, ended: Option<[u32; 2]>) {
        for id in ended.into_iter().flatten() {
            self.streams.remove(&id);
        }
    }
}

/// One connection to a program.
struct Connection {
    data: u32,
    error: u32,
    sender: Sender,
}

impl Connection {
    async fn run(self, dialer: &Dialer, port: u16, from_client: mpsc::Receiver<Vec<u8>>) {
        let connected = dialer.dial(port).await;
        let message = match connected {
            Ok(stream) => {
                carry(stream, from_client, &self, Ends::Apart).await;
                return;
            }
            Err(message) => message,
        };
        self.say(self.error, 0, message.as_bytes()).await;
        self.end().await;
    }

    async fn say(&self, id: u32, flags: u8, bytes: &[u8]) {
        self.sender.send(Outgoing::Message(frame::data(id, flags, bytes))).await.ok();
    }
}

impl Way for Connection {
    async fn pass(&self, bytes: &[u8]) {
        self.say(self.data, 0, bytes).await;
    }

    /// Ends both streams: kubectl waits for the end of `error` before it lets a connection go.
    async fn end(&self) {
        self.say(self.data, FIN, b"").await;
        self.say(self.error, FIN, b"").await;
    }
}
