//! From the host to a viewer's socket, and everything else that is written there.

use std::time::Duration;

use fastwebsockets::WebSocketError;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wire::frame::Frame;

use super::inbound::Protocol;
use super::outbound::{self, V1};
use super::{Control, Pulse};
use crate::close::{self, Close, End};
use crate::link::{Ears, Mouth, Seat};
use crate::socket::Writer;

/// How often a viewer is asked whether it lives.
const PING: Duration = Duration::from_secs(20);
/// How many questions it may leave unanswered.
const UNANSWERED: u32 = 3;
/// How long one write may take.
const WRITE: Duration = Duration::from_secs(60);

/// Writes a viewer's socket.
pub(super) struct Speaker<'a, W> {
    socket: Writer<W>,
    protocol: Protocol,
    v1: V1,
    controls: mpsc::Receiver<Control>,
    /// Where the listener waits for the mouth.
    to_listener: Option<oneshot::Sender<Mouth>>,
    acked: watch::Sender<u64>,
    pulse: &'a Pulse,
    unanswered: u32,
    seat: Option<Seat>,
    /// Output that is written and not yet acknowledged on behalf of a v1 viewer.
    owed: Option<u64>,
}

/// What happens next.
enum Next {
    Seated(Result<Box<Seat>, End>),
    Frame(Option<Frame>),
    Control(Option<Control>),
    Tick,
    Drain,
}

/// Why the speaker stops.
enum Stop {
    /// The viewer is told.
    Close(Close),
    /// The viewer cannot be told anything.
    Gone,
}

impl From<WebSocketError> for Stop {
    fn from(_: WebSocketError) -> Self {
        Self::Gone
    }
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::Close(end.into())
    }
}

impl<'a, W: AsyncWrite + Unpin> Speaker<'a, W> {
    pub(super) fn new(
        socket: Writer<W>,
        protocol: Protocol,
        controls: mpsc::Receiver<Control>,
        (to_listener, acked): (oneshot::Sender<Mouth>, watch::Sender<u64>),
        pulse: &'a Pulse,
    ) -> Self {
        Self {
            socket,
            protocol,
            v1: V1::default(),
            controls,
            to_listener: Some(to_listener),
            acked,
            pulse,
            unanswered: 0,
            seat: None,
            owed: None,
        }
    }

    /// Writes until the end and returns the close that was sent.
    pub(super) async fn run<F>(mut self, seat: F, drain: CancellationToken) -> Option<Close>
    where
        F: Future<Output = Result<Seat, End>>,
    {
        match self.speak(seat, drain).await {
            Stop::Gone => None,
            Stop::Close(close) => within(self.socket.close(&close)).await.ok().map(|()| close),
        }
    }

    async fn speak<F>(&mut self, seat: F, drain: CancellationToken) -> Stop
    where
        F: Future<Output = Result<Seat, End>>,
    {
        tokio::pin!(seat);
        let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                next = self.next(&mut ping) => next,
                seated = &mut seat, if self.to_listener.is_some() => {
                    Next::Seated(seated.map(Box::new))
                }
                () = drain.cancelled() => Next::Drain,
            };
            if let Err(stop) = self.take(next).await {
                return stop;
            }
        }
    }

    /// Waits for what comes by itself. It may be dropped and called again.
    async fn next(&mut self, ping: &mut Interval) -> Next {
        let frame = async {
            match &mut self.seat {
                Some(seat) => seat.ears.frames.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            frame = frame => Next::Frame(frame),
            control = self.controls.recv() => Next::Control(control),
            _ = ping.tick() => Next::Tick,
        }
    }

    async fn take(&mut self, next: Next) -> Result<(), Stop> {
        match next {
            Next::Seated(seat) => self.sit(*seat?),
            Next::Frame(Some(frame)) => return self.frame(frame).await,
            Next::Frame(None) => return Err(self.ended().await),
            Next::Control(Some(control)) => return self.control(control).await,
            Next::Control(None) => return Err(Stop::Gone),
            Next::Tick => return self.tick().await,
            Next::Drain => return Err(End::Drain.into()),
        }
        Ok(())
    }

    fn sit(&mut self, seat: Seat) {
        if let Some(to_listener) = self.to_listener.take() {
            // A listener that is gone needs no mouth.
            let _ = to_listener.send(seat.mouth.clone());
        }
        self.seat = Some(seat);
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), Stop> {
        if let Frame::InputAck { offset } = &frame {
            self.acked.send_replace(*offset);
        }
        let close = match self.protocol {
            Protocol::V2 => {
                within(self.socket.binary(&frame.encode())).await?;
                outbound::last(&frame)
            }
            Protocol::V1 => self.text(&frame).await?,
        };
        if let Some(close) = close {
            return Err(Stop::Close(close));
        }
        if self.seat.as_ref().is_some_and(|seat| seat.ears.frames.is_empty()) {
            within(self.socket.flush()).await?;
            self.acknowledge().await;
        }
        Ok(())
    }

    async fn text(&mut self, frame: &Frame) -> Result<Option<Close>, Stop> {
        let said = self.v1.frame(frame);
        if !said.text.is_empty() {
            within(self.socket.text(&said.text)).await?;
        }
        self.owed = said.ack.or(self.owed);
        Ok(said.close)
    }

    /// Tells the host what a v1 viewer has got: its socket has taken it.
    async fn acknowledge(&mut self) {
        let (Some(offset), Some(seat)) = (self.owed.take(), &self.seat) else { return };
        // Without a link there is nobody to tell; the queue's end follows.
        let _ = seat.mouth.say(Frame::Ack { offset }).await;
    }

    /// The link is over.
    async fn ended(&mut self) -> Stop {
        let end = match &mut self.seat {
            Some(Seat { ears, .. }) => Ears::end(ears).await,
            None => End::Broken,
        };
        if let (End::Exited(code), Protocol::V2) = (&end, self.protocol) {
            let exit = Frame::Exit { code: *code };
            if within(self.socket.binary(&exit.encode())).await.is_err() {
                return Stop::Gone;
            }
        }
        end.into()
    }

    async fn control(&mut self, control: Control) -> Result<(), Stop> {
        match control {
            Control::Close(close) => return Err(Stop::Close(close)),
            Control::Pong(bytes) => within(self.socket.pong(&bytes)).await?,
            Control::Notice(why) => {
                within(self.socket.text(&outbound::notice(why))).await?;
            }
        }
        Ok(within(self.socket.flush()).await?)
    }

    async fn tick(&mut self) -> Result<(), Stop> {
        self.unanswered = if self.pulse.check() { 0 } else { self.unanswered + 1 };
        if self.unanswered > UNANSWERED {
            return Err(Stop::Close(Close::new(close::POLICY, "no answer to pings")));
        }
        within(self.socket.ping()).await?;
        Ok(within(self.socket.flush()).await?)
    }
}

/// A viewer that takes nothing for so long is gone.
async fn within(
    write: impl Future<Output = Result<(), WebSocketError>>,
) -> Result<(), WebSocketError> {
    let written = tokio::time::timeout(WRITE, write).await;
    written.unwrap_or(Err(WebSocketError::ConnectionClosed))
}
