//! From a viewer's socket to the host.

use std::sync::atomic::Ordering;

use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot, watch};
use wire::frame::Frame;

use super::inbound::{Inbound, Meaning, Protocol, end_of_input};
use super::{Control, Pulse};
use crate::close::{self, Close};
use crate::link::Mouth;
use crate::socket::{Message, Reader};

/// Input of a v1 viewer that may wait for the program; v2's keep to it themselves.
const WINDOW: u64 = 256 * 1024;

/// Reads a viewer's socket.
pub(super) struct Listener<'a, R> {
    pub(super) reader: Reader<R>,
    pub(super) protocol: Protocol,
    pub(super) controls: mpsc::Sender<Control>,
    /// Brings the mouth as soon as the viewer has a seat.
    pub(super) seated: Option<oneshot::Receiver<Mouth>>,
    /// The input that has reached the program.
    pub(super) credit: watch::Receiver<u64>,
    pub(super) pulse: &'a Pulse,
}

impl<R: AsyncRead + Unpin> Listener<'_, R> {
    /// Reads until the viewer closes or breaks a rule, tells the speaker, and waits to be dropped.
    pub(super) async fn run(mut self) {
        let close = match self.hear().await {
            Ok(()) => Close::new(close::NORMAL, ""),
            Err(close) => close,
        };
        if self.controls.send(Control::Close(close)).await.is_ok() {
            std::future::pending().await
        }
    }

    async fn hear(&mut self) -> Result<(), Close> {
        let mut inbound = Inbound::new(self.protocol);
        let mut mouth = None;
        loop {
            let message = self.reader.next().await?;
            self.pulse.beat();
            match message {
                Message::Close => return Ok(()),
                Message::Pong => {}
                Message::Ping(bytes) => self.tell(Control::Pong(bytes)).await,
                Message::Text(_) | Message::Binary(_) => match inbound.read(message)? {
                    Meaning::Ignored(why) => self.tell(Control::Notice(why)).await,
                    Meaning::Frames(frames) => {
                        self.pulse.busy.store(true, Ordering::Relaxed);
                        self.pass(&mut mouth, frames).await;
                        self.pulse.busy.store(false, Ordering::Relaxed);
                    }
                },
            }
        }
    }

    async fn tell(&mut self, control: Control) {
        // Without a speaker this listener is about to be dropped.
        let _ = self.controls.send(control).await;
    }

    /// Passes frames on; without a link they are of no use to anybody.
    async fn pass(&mut self, mouth: &mut Option<Mouth>, frames: Vec<Frame>) {
        if let Some(seated) = self.seated.take() {
            *mouth = seated.await.ok();
        }
        let Some(mouth) = mouth else { return };
        for frame in frames {
            if let (Protocol::V1, Some(end)) = (self.protocol, end_of_input(&frame)) {
                let room = |acked: &u64| acked.saturating_add(WINDOW) >= end;
                if self.credit.wait_for(room).await.is_err() {
                    return;
                }
            }
            if !mouth.say(frame).await {
                return;
            }
        }
    }
}
