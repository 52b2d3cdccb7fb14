//! What a viewer's messages mean for the host.

use bytes::{Buf, Bytes};
use wire::frame::{Frame, HEADER, MAX_PAYLOAD};
use wire::v1::{self, Text};

use crate::close::{self, Close};
use crate::socket::Message;

/// Most bytes of one input frame on the link, so that viewers take turns.
const PIECE: usize = 64 * 1024;
/// The number of [`Frame::Input`].
const INPUT: u8 = 0x01;

/// How a viewer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The documents': text frames and resize as JSON.
    V1,
    /// `loom.attach.v2`: frames with offsets.
    V2,
}

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Frames for the host.
    Frames(Vec<Frame>),
    /// Nothing, and the viewer is told so.
    Ignored(&'static str),
}

/// Reads the messages of one viewer.
#[derive(Debug)]
pub(super) struct Inbound {
    protocol: Protocol,
    /// Bytes of input so far; only v1 needs them counted.
    sent: u64,
}

impl Inbound {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, sent: 0 }
    }

    /// Says what a text or binary message means.
    pub(super) fn read(&mut self, message: Message) -> Result<Meaning, Close> {
        match (self.protocol, message) {
            (Protocol::V1, Message::Text(text)) => Ok(self.text(text)),
            (Protocol::V1, Message::Binary(bytes)) => Ok(self.input(bytes)),
            (Protocol::V2, Message::Binary(bytes)) => frames(bytes).map(Meaning::Frames),
            (Protocol::V2, Message::Text(_)) => {
                Err(Close::new(close::UNSUPPORTED, "text where frames were agreed"))
            }
            (_, Message::Ping(_) | Message::Pong | Message::Close) => {
                Ok(Meaning::Frames(Vec::new()))
            }
        }
    }

    fn text(&mut self, text: String) -> Meaning {
        match v1::read(&text) {
            Text::Input => self.input(text.into()),
            Text::Resize(size) => Meaning::Frames(vec![Frame::Resize(size)]),
            Text::BadResize => Meaning::Ignored("that size cannot be; it was ignored"),
        }
    }

    fn input(&mut self, bytes: Bytes) -> Meaning {
        let frames = cut(self.sent, bytes);
        self.sent = frames.iter().filter_map(end_of_input).max().unwrap_or(self.sent);
        Meaning::Frames(frames)
    }
}

/// Reads a frame of v2; input may be as long as a message.
fn frames(bytes: Bytes) -> Result<Vec<Frame>, Close> {
    if bytes.len() > HEADER + MAX_PAYLOAD && bytes[0] == INPUT {
        let mut head = bytes.slice(1..HEADER);
        return Ok(cut(head.get_u64(), bytes.slice(HEADER..)));
    }
    let wrong = |what: String| Close::new(close::PROTOCOL, what);
    let Some(frame) = Frame::decode(&bytes).map_err(|error| wrong(error.to_string()))? else {
        return Ok(Vec::new());
    };
    match frame {
        Frame::Input { offset, data } => Ok(cut(offset, data)),
        Frame::Resize(_) | Frame::Ack { .. } | Frame::Eof { .. } | Frame::Leave { .. } => {
            Ok(vec![frame])
        }
        Frame::Hello { .. }
        | Frame::Output { .. }
        | Frame::Stderr { .. }
        | Frame::Gap { .. }
        | Frame::Screen { .. }
        | Frame::InputAck { .. }
        | Frame::Size(_)
        | Frame::Exit { .. }
        | Frame::Left { .. }
        | Frame::Notice { .. } => Err(wrong("a frame that only the host may send".to_owned())),
    }
}

/// Cuts input into pieces that let others take their turn.
fn cut(mut offset: u64, mut data: Bytes) -> Vec<Frame> {
    let mut frames = Vec::with_capacity(data.len().div_ceil(PIECE));
    while !data.is_empty() {
        let piece = data.split_to(PIECE.min(data.len()));
        let next = offset.saturating_add(piece.len() as u64);
        frames.push(Frame::Input { offset, data: piece });
        offset = next;
    }
    frames
}

/// Returns where a frame's input ends, if it is input.
pub(super) fn end_of_input(frame: &Frame) -> Option<u64> {
    match frame {
        Frame::Input { offset, data } => Some(offset.saturating_add(data.len() as u64)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(offset: u64, data: &'static str) -> Frame {
        Frame::Input { offset, data: Bytes::from_static(data.as_bytes()) }
    }

    #[test]
    fn v1_counts_its_input() {
        let mut inbound = Inbound::new(Protocol::V1);
        let first = inbound.read(Message::Text("ls\n".into()));
        assert_eq!(first, Ok(Meaning::Frames(vec![input(0, "ls\n")])));
        let raw = inbound.read(Message::Binary(Bytes::from_static(b"\x04")));
        assert_eq!(raw, Ok(Meaning::Frames(vec![input(3, "\x04")])));
    }

    #[test]
    fn abuse_a_resize_that_cannot_be_is_ignored_with_a_notice() {
        let mut inbound = Inbound::new(Protocol::V1);
        for rows in ["0", "-1", "65536", "\"x\""] {
            let text = format!(r#"{{"type":"resize","rows":{rows},"cols":80}}"#);
            assert!(matches!(inbound.read(Message::Text(text)), Ok(Meaning::Ignored(_))), "{rows}");
        }
    }

    #[test]
    fn abuse_a_paste_that_contains_a_resize_is_input() {
        let mut inbound = Inbound::new(Protocol::V1);
        let text = "echo '{\"type\":\"resize\",\"rows\":1,\"cols\":1}'";
        let read = inbound.read(Message::Text(text.into()));
        assert_eq!(read, Ok(Meaning::Frames(vec![input(0, text)])));
    }

    #[test]
    fn a_large_input_is_cut_and_stays_in_order() {
        let data =
            Bytes::from((0..1_000_000_u32).map(|at| at.to_be_bytes()[3]).collect::<Vec<_>>());
        let mut message = vec![INPUT];
        message.extend_from_slice(&7_u64.to_be_bytes());
        message.extend_from_slice(&data);
        let mut next = 7;
        let mut all = Vec::new();
        for frame in frames(message.into()).unwrap() {
            let Frame::Input { offset, data } = frame else { panic!("{frame:?}") };
            assert!(data.len() <= PIECE);
            assert_eq!(offset, next);
            next += data.len() as u64;
            all.extend_from_slice(&data);
        }
        assert_eq!(all, data);
    }

    #[test]
    fn v2_takes_only_what_a_viewer_may_send() {
        let exit = Frame::Exit { code: 0 }.encode();
        assert_eq!(frames(exit).unwrap_err().code, close::PROTOCOL);
        assert_eq!(frames(Bytes::from_static(&[1, 2])).unwrap_err().code, close::PROTOCOL);
        assert_eq!(frames(Bytes::from_static(&[0x7f; 12])), Ok(vec![]));
        let mut inbound = Inbound::new(Protocol::V2);
        let text = inbound.read(Message::Text(String::new()));
        assert_eq!(text.unwrap_err().code, close::UNSUPPORTED);
    }
}
