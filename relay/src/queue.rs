//! What waits for a viewer's socket: bounded by bytes, never in the way of other viewers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};
use wire::frame::Frame;

/// Most bytes that wait for one viewer. The host stops long before: its window is 256 KiB, and a
/// replay is at most its ring of 4 MiB.
const MAX_BYTES: usize = 5 * 1024 * 1024;
/// With so many bytes waiting, who can wait does.
const FULL: usize = 256 * 1024;
/// What a frame costs besides its bytes.
const OVERHEAD: usize = 64;

/// The end that is filled.
#[derive(Debug)]
pub(crate) struct Filler {
    // Unbounded in number because `level` bounds it in bytes.
    frames: mpsc::UnboundedSender<Frame>,
    level: Arc<Level>,
}

/// The end that is emptied.
#[derive(Debug)]
pub(crate) struct Queue {
    frames: mpsc::UnboundedReceiver<Frame>,
    level: Arc<Level>,
}

#[derive(Debug, Default)]
struct Level {
    waiting: AtomicUsize,
    sunk: Notify,
}

/// Makes an empty queue.
pub(crate) fn queue() -> (Filler, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let level = Arc::<Level>::default();
    (Filler { frames: sender, level: level.clone() }, Queue { frames: receiver, level })
}

impl Filler {
    /// Appends a frame; `false` means that the queue is full or that nobody reads it any more.
    #[must_use]
    pub(crate) fn push(&self, frame: Frame) -> bool {
        let cost = cost(&frame);
        if self.level.waiting.fetch_add(cost, Ordering::SeqCst) + cost > MAX_BYTES {
            return false;
        }
        self.frames.send(frame).is_ok()
    }

    /// Waits until the queue has room for another frame of any size, or nobody reads it any more.
    pub(crate) async fn room(&self) {
        loop {
            // Made before the look, so that what happens meanwhile wakes it.
            let sunk = self.level.sunk.notified();
            if self.level.waiting.load(Ordering::SeqCst) < FULL || self.frames.is_closed() {
                return;
            }
            sunk.await;
        }
    }
}

impl Queue {
    /// Takes the next frame; `None` when no more will come. It may be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let frame = self.frames.recv().await?;
        self.level.waiting.fetch_sub(cost(&frame), Ordering::SeqCst);
        self.level.sunk.notify_waiters();
        Some(frame)
    }

    /// Tells whether nothing waits just now.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.frames.close();
        self.level.sunk.notify_waiters();
    }
}

fn cost(frame: &Frame) -> usize {
    let payload = match frame {
        Frame::Input { data, .. }
        | Frame::Output { data, .. }
        | Frame::Stderr { data, .. }
        | Frame::Screen { data, .. } => data.len(),
        Frame::Left { why: text } | Frame::Notice { text } => text.len(),
        Frame::Resize(_)
        | Frame::Ack { .. }
        | Frame::Eof { .. }
        | Frame::Leave { .. }
        | Frame::Hello { .. }
        | Frame::Gap { .. }
        | Frame::InputAck { .. }
        | Frame::Size(_)
        | Frame::Exit { .. } => 0,
    };
    payload + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_full_queue_takes_no_more_until_it_is_read() {
        let (filler, mut queue) = queue();
        let big = Frame::Output { offset: 0, data: Bytes::from(vec![0; MAX_BYTES - OVERHEAD]) };
        assert!(filler.push(big));
        assert!(!filler.push(Frame::Exit { code: 0 }));
        assert!(queue.next().await.is_some());
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_room_gets_it_when_somebody_reads_or_nobody_does() {
        let big = || Frame::Output { offset: 0, data: Bytes::from(vec![0; FULL]) };
        let (filler, mut reader) = queue();
        assert!(filler.push(big()));
        let ((), read) = tokio::join!(filler.room(), reader.next());
        assert!(read.is_some() && filler.push(big()));
        let ((), ()) = tokio::join!(filler.room(), async { drop(reader) });
        assert!(!filler.push(big()));
    }
}
