//! What waits for a viewer's socket: bounded by bytes, never in the way of other viewers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use wire::frame::Frame;

/// Most bytes that wait for one viewer. The host stops long before: its window is 256 KiB, and a
/// replay is at most its ring of 4 MiB.
const MAX_BYTES: usize = 5 * 1024 * 1024;
/// What a frame costs besides its bytes.
const OVERHEAD: usize = 64;

/// The end that is filled.
#[derive(Debug)]
pub(crate) struct Filler {
    // Unbounded in number because `waiting` bounds it in bytes.
    frames: mpsc::UnboundedSender<Frame>,
    waiting: Arc<AtomicUsize>,
}

/// The end that is emptied.
#[derive(Debug)]
pub(crate) struct Queue {
    frames: mpsc::UnboundedReceiver<Frame>,
    waiting: Arc<AtomicUsize>,
}

/// Makes an empty queue.
pub(crate) fn queue() -> (Filler, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Filler { frames: sender, waiting: waiting.clone() }, Queue { frames: receiver, waiting })
}

impl Filler {
    /// Appends a frame; `false` means that the queue is full or that nobody reads it any more.
    #[must_use]
    pub(crate) fn push(&self, frame: Frame) -> bool {
        let cost = cost(&frame);
        if self.waiting.fetch_add(cost, Ordering::Relaxed) + cost > MAX_BYTES {
            return false;
        }
        self.frames.send(frame).is_ok()
    }
}

impl Queue {
    /// Takes the next frame; `None` when no more will come. It may be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let frame = self.frames.recv().await?;
        self.waiting.fetch_sub(cost(&frame), Ordering::Relaxed);
        Some(frame)
    }

    /// Tells whether nothing waits just now.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
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
}
