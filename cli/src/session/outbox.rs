//! What waits to be sent: input in its order, and the little that overtakes it.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::frame::{Frame, Size};

/// With so many bytes waiting, what comes from a file or a pipe is not read on.
const FULL: usize = 256 * 1024;
/// Most bytes that wait; a terminal is read on all the same, for the keys that are ours.
const MOST: usize = 16 * 1024 * 1024;
/// What a terminal's Ctrl+C sends.
const INTERRUPT: u8 = 3;

/// Frames that are not yet sent. It counts the input, so what was never sent can be forgotten.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The number of the next input byte.
    offset: u64,
    /// The newest size.
    size: Option<Size>,
    /// The output that was shown.
    shown: Option<u64>,
    interrupt: Option<Bytes>,
    waiting: VecDeque<Piece>,
    /// Bytes that wait.
    bytes: usize,
    /// Nobody takes anything any more.
    closed: bool,
}

/// Something that keeps its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes for the program.
    Bytes(Bytes),
    /// Ctrl+D on an empty line.
    Leave,
    /// The end of the input.
    Eof,
}

/// What is sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) frame: Frame,
    /// Whether it goes even if the program has not read what went before.
    pub(super) overtakes: bool,
    from: From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Size,
    Shown,
    Interrupt,
    Waiting,
}

impl Outbox {
    /// Begins with the number of the next input byte.
    pub(super) fn new(offset: u64) -> Self {
        let waiting = VecDeque::new();
        let (size, shown, interrupt) = (None, None, None);
        Self { offset, size, shown, interrupt, waiting, bytes: 0, closed: false }
    }

    /// Tells whether it would be better to read no more input.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL
    }

    /// Appends input; `false` means that there is no room and it is lost.
    #[must_use]
    pub(super) fn push(&mut self, piece: Piece) -> bool {
        let length = piece.length();
        if self.bytes + length > MOST && length > 0 {
            return false;
        }
        self.bytes += length;
        self.waiting.push_back(piece);
        true
    }

    /// Sends Ctrl+C ahead of what waits, which is forgotten, as a terminal does with its own input.
    pub(super) fn interrupt(&mut self, keys: &[u8]) {
        self.waiting.clear();
        self.bytes = 0;
        self.interrupt = Some(Bytes::copy_from_slice(keys));
    }

    /// Tells whether these keys are to be [`Self::interrupt`]: Ctrl+C by itself, and input waits.
    pub(super) fn is_interrupted_by(&self, keys: &[u8]) -> bool {
        !self.waiting.is_empty() && keys.iter().all(|key| *key == INTERRUPT)
    }

    pub(super) fn resize(&mut self, size: Size) {
        self.size = Some(size);
    }

    pub(super) fn shown(&mut self, offset: u64) {
        self.shown = Some(offset);
    }

    /// Forgets everything, for ever.
    pub(super) fn close(&mut self) {
        *self = Self { closed: true, ..Self::new(self.offset) };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next().is_none()
    }

    /// Returns what is sent next; the same until [`Self::sent`], unless something overtakes it.
    pub(super) fn next(&self) -> Option<Next> {
        if self.closed {
            return None;
        }
        let ahead = |frame, from| Some(Next { frame, overtakes: true, from });
        if let Some(size) = self.size {
            return ahead(Frame::Resize(size), From::Size);
        }
        if let Some(offset) = self.shown {
            return ahead(Frame::Ack { offset }, From::Shown);
        }
        let offset = self.offset;
        if let Some(data) = &self.interrupt {
            return ahead(Frame::Input { offset, data: data.clone() }, From::Interrupt);
        }
        let frame = match self.waiting.front()? {
            Piece::Bytes(data) => Frame::Input { offset, data: data.clone() },
            Piece::Leave => Frame::Leave { offset },
            Piece::Eof => Frame::Eof { offset },
        };
        Some(Next { frame, overtakes: false, from: From::Waiting })
    }

    /// Takes note that something was sent.
    pub(super) fn sent(&mut self, next: &Next) {
        match next.from {
            From::Size => self.size = None,
            From::Shown => self.shown = None,
            From::Interrupt => {
                self.offset += self.interrupt.take().map_or(0, |keys| keys.len() as u64);
            }
            From::Waiting => {
                let Some(piece) = self.waiting.pop_front() else { return };
                self.bytes -= piece.length();
                self.offset += piece.counts();
            }
        }
    }
}

impl Piece {
    fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Leave | Self::Eof => 0,
        }
    }

    /// By how much the input's count goes on.
    fn counts(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Leave => 1,
            Self::Eof => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Piece {
        Piece::Bytes(Bytes::from_static(text.as_bytes()))
    }

    fn input(offset: u64, text: &'static str) -> Frame {
        Frame::Input { offset, data: Bytes::from_static(text.as_bytes()) }
    }

    fn send(outbox: &mut Outbox) -> Option<(Frame, bool)> {
        let next = outbox.next()?;
        outbox.sent(&next);
        Some((next.frame, next.overtakes))
    }

    #[test]
    fn input_is_counted_as_it_is_sent() {
        let mut outbox = Outbox::new(5);
        for piece in [bytes("ls\r"), Piece::Leave, bytes("x"), Piece::Eof] {
            assert!(outbox.push(piece));
        }
        let sent: Vec<_> = std::iter::from_fn(|| send(&mut outbox)).collect();
        let frames = [
            input(5, "ls\r"),
            Frame::Leave { offset: 8 },
            input(9, "x"),
            Frame::Eof { offset: 10 },
        ];
        assert_eq!(sent, frames.map(|frame| (frame, false)));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_the_host_waits_for_overtakes_input() {
        let mut outbox = Outbox::new(0);
        assert!(outbox.push(bytes("a")));
        outbox.shown(3);
        outbox.shown(4);
        outbox.resize(Size::default());
        assert_eq!(send(&mut outbox), Some((Frame::Resize(Size::default()), true)));
        assert_eq!(send(&mut outbox), Some((Frame::Ack { offset: 4 }, true)));
        assert_eq!(send(&mut outbox), Some((input(0, "a"), false)));
    }

    #[test]
    fn ctrl_c_overtakes_what_was_pasted_and_forgets_it() {
        let mut outbox = Outbox::new(0);
        assert!(!outbox.is_interrupted_by(b"\x03"), "nothing waits: it is input like any other");
        assert!(outbox.push(bytes("one")) && outbox.push(bytes("two")));
        assert_eq!(send(&mut outbox), Some((input(0, "one"), false)));
        assert!(!outbox.is_interrupted_by(b"a\x03"));
        assert!(outbox.is_interrupted_by(b"\x03\x03"));
        outbox.interrupt(b"\x03\x03");
        assert!(outbox.push(bytes("three")));
        assert_eq!(send(&mut outbox), Some((input(3, "\x03\x03"), true)));
        assert_eq!(send(&mut outbox), Some((input(5, "three"), false)));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut outbox = Outbox::new(0);
        let piece = || Piece::Bytes(Bytes::from(vec![0; FULL]));
        assert!(outbox.push(piece()) && outbox.is_full());
        let more = (0..1000).take_while(|_| outbox.push(piece())).count();
        assert_eq!(more, MOST / FULL - 1);
        assert!(outbox.push(Piece::Leave), "keys that are ours always have room");
        send(&mut outbox);
        assert!(outbox.push(piece()));
        outbox.close();
        assert!(outbox.is_empty() && !outbox.is_full());
    }
}
