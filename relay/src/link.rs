//! The stream to one host: many viewers on one pair of pipes.
//!
//! It is generic over the pipes: a Kubernetes exec in life, an in-process host in tests.

use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use wire::frame::Frame;
use wire::link::{LinkError, Open, Record, ViewerId};

use crate::close::End;
use crate::queue::{Filler, Queue, queue};

/// Records that wait for the host before a viewer waits.
const RECORDS: usize = 64;
/// Most viewers of one weaver and relay: a host takes 1,024 on a stream and ends it for one more.
const VIEWERS: usize = 1000;
/// Bytes that are read or written at once.
const CHUNK: usize = 64 * 1024;

/// A viewer that wants to join.
#[derive(Debug)]
pub(crate) struct Join {
    /// How it comes.
    pub(crate) open: Open,
    /// Where its seat, or the reason for none, is sent.
    pub(crate) seat: oneshot::Sender<Result<Seat, End>>,
}

/// A viewer's place on a link. Dropping its ears leaves the link.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) mouth: Mouth,
    pub(crate) ears: Ears,
}

/// Where a viewer's frames go.
#[derive(Debug, Clone)]
pub(crate) struct Mouth {
    viewer: ViewerId,
    to_host: mpsc::Sender<Record>,
}

/// Where a viewer's frames come from.
#[derive(Debug)]
pub(crate) struct Ears {
    pub(crate) frames: Queue,
    end: oneshot::Receiver<End>,
    /// Dropping it tells the link that the viewer has left.
    _here: oneshot::Sender<()>,
}

impl Mouth {
    /// Makes a mouth that nobody listens to.
    pub(crate) fn deaf() -> Self {
        let (to_host, _) = mpsc::channel(1);
        Self { viewer: 0, to_host }
    }

    /// Sends a frame to the host; `false` means that the link is gone.
    pub(crate) async fn say(&self, frame: Frame) -> bool {
        self.to_host.send(Record::Frame(self.viewer, frame)).await.is_ok()
    }
}

impl Ears {
    /// Makes ears that hear these frames and then an end, without a host.
    pub(crate) fn of(frames: Vec<Frame>, last: End) -> Self {
        let (Seat { ears, .. }, far) = seat();
        for frame in frames {
            if !far.frames.push(frame) {
                break;
            }
        }
        // The receiver is in our hands.
        let _ = far.end.send(last);
        ears
    }

    /// Returns why no more frames come.
    pub(crate) async fn end(&mut self) -> End {
        (&mut self.end).await.unwrap_or(End::Broken)
    }
}

/// The other side of a seat.
#[derive(Debug)]
pub(crate) struct Far {
    /// What the viewer says.
    pub(crate) said: mpsc::Receiver<Record>,
    /// What the viewer hears.
    pub(crate) frames: Filler,
    /// Why it hears no more.
    pub(crate) end: oneshot::Sender<End>,
    /// Is ready as soon as the viewer has left.
    pub(crate) left: oneshot::Receiver<()>,
}

/// Makes a seat that somebody else than a host sits opposite of.
pub(crate) fn seat() -> (Seat, Far) {
    let (to_host, said) = mpsc::channel(RECORDS);
    let ((filler, queue), (ended, end)) = (queue(), oneshot::channel());
    let (here, left) = oneshot::channel();
    let ears = Ears { frames: queue, end, _here: here };
    let far = Far { said, frames: filler, end: ended, left };
    (Seat { mouth: Mouth { viewer: 0, to_host }, ears }, far)
}

/// Why a link is over.
#[derive(Debug)]
pub(crate) enum Over {
    /// Nobody looked for a while.
    Idle,
    /// The stream ended, or cannot be read on.
    Broken(Option<LinkError>),
    /// Somebody outside says so.
    Told(End),
}

/// Carries records until the link is over; the viewers are still seated then.
pub(crate) struct Pump<R> {
    read: R,
    buffer: BytesMut,
    to_host: mpsc::Sender<Record>,
    viewers: HashMap<ViewerId, Viewer>,
    escorts: FuturesUnordered<BoxFuture<'static, ViewerId>>,
    next: ViewerId,
}

#[derive(Debug)]
struct Viewer {
    frames: Filler,
    end: oneshot::Sender<End>,
    /// The host has said something to it.
    greeted: bool,
}

/// Starts a link over a stream's halves; the second part writes until the pump is dropped.
pub(crate) fn start<R, W>(read: R, write: W) -> (Pump<R>, impl Future<Output = ()> + Send)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send,
{
    let (to_host, records) = mpsc::channel(RECORDS);
    let pump = Pump {
        read,
        buffer: BytesMut::with_capacity(CHUNK),
        to_host,
        viewers: HashMap::new(),
        escorts: FuturesUnordered::new(),
        next: 1,
    };
    (pump, write_all(write, records))
}

async fn write_all<W: AsyncWrite + Unpin>(mut write: W, mut records: mpsc::Receiver<Record>) {
    let mut bytes = BytesMut::new();
    while let Some(record) = records.recv().await {
        record.put(&mut bytes);
        while bytes.len() < CHUNK {
            let Ok(record) = records.try_recv() else { break };
            record.put(&mut bytes);
        }
        // The reading side sees the end of a broken stream.
        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
            return;
        }
        bytes.clear();
    }
}

impl<R: AsyncRead + Unpin> Pump<R> {
    /// Carries records until `told`, the stream's end, or `idle` without a viewer.
    pub(crate) async fn run(
        &mut self,
        joins: &mut mpsc::Receiver<Join>,
        told: impl Future<Output = End>,
        idle: Duration,
    ) -> Over {
        tokio::pin!(told);
        loop {
            let alone = self.escorts.is_empty();
            tokio::select! {
                end = &mut told => return Over::Told(end),
                Some(join) = joins.recv() => self.seat(join),
                Some(viewer) = self.escorts.next(), if !alone => {
                    self.viewers.remove(&viewer);
                }
                () = tokio::time::sleep(idle), if alone => return Over::Idle,
                read = self.read.read_buf(&mut self.buffer) => {
                    if !matches!(read, Ok(1..)) {
                        return Over::Broken(None);
                    }
                    if let Err(error) = self.hand_out() {
                        return Over::Broken(Some(error));
                    }
                }
            }
        }
    }

    /// Tells whether nobody is seated.
    pub(crate) fn is_empty(&self) -> bool {
        self.viewers.is_empty()
    }

    /// Tells whether the host has not said a word to somebody.
    pub(crate) fn owes_greetings(&self) -> bool {
        self.viewers.values().any(|viewer| !viewer.greeted)
    }

    /// Tells every viewer that it is over, and why; `log` first to those that have heard nothing.
    pub(crate) fn end(self, end: &End, log: &[Frame]) {
        for viewer in self.viewers.into_values() {
            if !viewer.greeted {
                // A log that does not fit, or a viewer that has left, changes nothing.
                let _ = log.iter().all(|frame| viewer.frames.push(frame.clone()));
            }
            // A viewer that has left needs no reason.
            let _ = viewer.end.send(end.clone());
        }
    }

    /// Seats a viewer: its escort opens it at the host, waits until it leaves, and closes it there.
    fn seat(&mut self, join: Join) {
        if self.escorts.len() >= VIEWERS {
            // A viewer that has left needs no answer.
            let _ = join.seat.send(Err(End::Unavailable("too many viewers".to_owned())));
            return;
        }
        let viewer = self.next;
        self.next = self.next.wrapping_add(1);
        let (filler, frames) = queue();
        let ((end, ended), (here, left)) = (oneshot::channel(), oneshot::channel());
        self.viewers.insert(viewer, Viewer { frames: filler, end, greeted: false });
        let to_host = self.to_host.clone();
        self.escorts.push(Box::pin(async move {
            let mouth = Mouth { viewer, to_host: to_host.clone() };
            let seat = Seat { mouth, ears: Ears { frames, end: ended, _here: here } };
            // Errors mean that the link is over: then the pump ends every viewer.
            let _ = to_host.send(Record::Open(viewer, join.open)).await;
            let _ = join.seat.send(Ok(seat));
            let _ = left.await;
            let _ = to_host.send(Record::Close(viewer)).await;
            viewer
        }));
    }

    fn hand_out(&mut self) -> Result<(), LinkError> {
        while let Some(record) = Record::take(&mut self.buffer)? {
            match record {
                Record::Frame(viewer, frame) => self.give(viewer, frame),
                Record::Close(viewer) => {
                    self.viewers.remove(&viewer);
                }
                Record::Open(..) => return Err(LinkError::Kind(0x01)),
            }
        }
        Ok(())
    }

    /// A viewer whose queue is full is let go: it may attach again, and the others go on.
    fn give(&mut self, viewer: ViewerId, frame: Frame) {
        let Some(seated) = self.viewers.get_mut(&viewer) else { return };
        if !seated.greeted {
            tracing::debug!(viewer, "host greets");
            seated.greeted = true;
        }
        if seated.frames.push(frame) {
            return;
        }
        if let Some(seated) = self.viewers.remove(&viewer) {
            let _ = seated.end.send(End::Slow);
        }
    }
}
