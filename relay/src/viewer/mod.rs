//! One viewer: a WebSocket on one side, a seat on a link on the other.

mod inbound;
mod listen;
mod outbound;
mod speak;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::close::{Close, End};
use crate::link::Seat;
use crate::socket;

pub(crate) use inbound::Protocol;

/// How long a closed connection is read on, so that the close frame arrives before a reset.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of small frames that are sent together.
const BUFFER: usize = 16 * 1024;
/// Answers to the viewer's own frames that wait for its socket.
const CONTROLS: usize = 16;

/// What the listener asks the speaker to send.
#[derive(Debug)]
enum Control {
    Pong(bytes::Bytes),
    Notice(&'static str),
    Close(Close),
}

/// Whether the viewer shows life.
#[derive(Debug, Default)]
struct Pulse {
    heard: AtomicBool,
    /// The listener waits for the host, so it cannot hear.
    busy: AtomicBool,
}

impl Pulse {
    fn beat(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Tells whether something was heard since the last time, or could not be.
    fn check(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed) || self.busy.load(Ordering::Relaxed)
    }
}

/// Serves a viewer until its connection is closed; returns why.
pub(crate) async fn run<S, F>(
    stream: S,
    protocol: Protocol,
    seat: F,
    drain: CancellationToken,
) -> Option<Close>
where
    S: AsyncRead + AsyncWrite,
    F: Future<Output = Result<Seat, End>>,
{
    let (mut read, write) = tokio::io::split(stream);
    let mut write = BufWriter::with_capacity(BUFFER, write);
    let close = {
        let (reader, writer) = socket::halves(&mut read, &mut write);
        let (controls, from_listener) = mpsc::channel(CONTROLS);
        let (mouth, seated) = oneshot::channel();
        let (acked, credit) = watch::channel(0);
        let pulse = Pulse::default();
        let listener = listen::Listener {
            reader,
            protocol,
            controls,
            seated: Some(seated),
            credit,
            pulse: &pulse,
        };
        let speaker = speak::Speaker::new(writer, protocol, from_listener, (mouth, acked), &pulse);
        tokio::select! {
            close = speaker.run(seat, drain) => close,
            () = listener.run() => None,
        }
    };
    let farewell = async {
        // The other side may be gone already; there is nobody to tell.
        let _ = write.shutdown().await;
        discard(&mut read).await;
    };
    let _ = tokio::time::timeout(LINGER, farewell).await;
    close
}

async fn discard<R: AsyncRead + Unpin>(read: &mut R) {
    let mut buffer = vec![0; 64 * 1024];
    while matches!(read.read(&mut buffer).await, Ok(1..)) {}
}
