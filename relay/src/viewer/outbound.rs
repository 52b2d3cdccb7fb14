//! What a host's frames mean for a viewer of attach v1.

use wire::frame::Frame;
use wire::v1::Utf8;

use crate::close::{self, Close, End};

/// What is done about a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Text for the viewer; empty for none.
    pub(super) text: String,
    /// Output up to here needs no acknowledgement any more once the text is sent.
    pub(super) ack: Option<u64>,
    /// The end.
    pub(super) close: Option<Close>,
}

/// Turns frames into text.
#[derive(Debug, Default)]
pub(super) struct V1 {
    utf8: Utf8,
}

impl V1 {
    /// Says what a frame means.
    pub(super) fn frame(&mut self, frame: &Frame) -> Said {
        match frame {
            Frame::Output { offset, data } | Frame::Stderr { offset, data } => Said {
                text: self.utf8.push(data),
                ack: Some(offset.saturating_add(data.len() as u64)),
                close: None,
            },
            Frame::Screen { data, .. } => {
                // What was held back belongs to bytes that the picture replaces.
                self.utf8 = Utf8::default();
                Said { text: self.utf8.push(data), ..Said::default() }
            }
            Frame::Notice { text } => Said { text: notice(text), ..Said::default() },
            Frame::Exit { .. } | Frame::Left { .. } => {
                Said { text: self.utf8.finish(), ack: None, close: last(frame) }
            }
            Frame::Input { .. }
            | Frame::Resize(_)
            | Frame::Ack { .. }
            | Frame::Eof { .. }
            | Frame::Leave { .. }
            | Frame::Hello { .. }
            | Frame::Gap { .. }
            | Frame::InputAck { .. }
            | Frame::Size(_) => Said::default(),
        }
    }
}

/// Returns the close that follows a frame, if it is the last one.
pub(super) fn last(frame: &Frame) -> Option<Close> {
    match frame {
        Frame::Exit { code } => Some(End::Exited(*code).into()),
        Frame::Left { why } => Some(Close::new(close::NORMAL, left(why))),
        _ => None,
    }
}

/// Says `detached` as the documents do, and why if it was nobody's wish.
fn left(why: &str) -> String {
    match why {
        "" | "detached" | "exit" => "detached".to_owned(),
        other => format!("detached: {other}"),
    }
}

/// Puts a line of ours between the program's.
pub(super) fn notice(text: &str) -> String {
    format!("\r\n[loom] {text}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn output(offset: u64, data: &'static [u8]) -> Frame {
        Frame::Output { offset, data: Bytes::from_static(data) }
    }

    #[test]
    fn a_character_split_across_frames_is_held_back() {
        let mut v1 = V1::default();
        let said = v1.frame(&output(0, b"a\xc3"));
        assert_eq!((said.text.as_str(), said.ack), ("a", Some(2)));
        assert_eq!(v1.frame(&output(2, b"\xa9\xff")).text, "é\u{fffd}");
    }

    #[test]
    fn ends_are_told_as_the_documents_tell_them() {
        let mut v1 = V1::default();
        assert_eq!(v1.frame(&Frame::Exit { code: 7 }).close, Some(Close::new(1000, "exit 7")));
        for (why, reason) in
            [("detached", "detached"), ("exit", "detached"), ("overrun", "detached: overrun")]
        {
            let left = Frame::Left { why: why.into() };
            assert_eq!(v1.frame(&left).close, Some(Close::new(1000, reason)));
        }
    }
}
