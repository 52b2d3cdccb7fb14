//! The stream between a relay and a host: many viewers on one pair of pipes.
//!
//! A record is `length:u32be kind:u8 viewer:u32be payload`; `length` counts what follows it.
//! The relay opens viewers by numbers of its own; frames travel inside as [`crate::frame`] has them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::frame::{Frame, FrameError, HEADER, MAX_PAYLOAD};

/// Most bytes behind the length.
pub const MAX_RECORD: usize = 5 + HEADER + MAX_PAYLOAD;

/// A viewer's number, chosen by the relay, unique on its stream.
pub type ViewerId = u32;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// To the host: a viewer has come.
    Open(ViewerId, Open),
    /// Both ways: a frame of a viewer.
    Frame(ViewerId, Frame),
    /// Both ways: the viewer is gone; nothing more is sent for it.
    Close(ViewerId),
}

/// How a viewer comes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Names the client over reconnects, so that its input is not taken twice.
    pub client: String,
    /// Where its output goes on: the session in hexadecimal digits, and the offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// Its size, rows and columns, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<(u16, u16)>,
    /// Whether it wants all that the ring still holds rather than the present screen.
    #[serde(default)]
    pub from_start: bool,
}

/// Where a viewer's output goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// [`crate::frame::Hello::session`] as 32 hexadecimal digits.
    pub session: String,
    /// The next byte it wants.
    pub offset: u64,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The length is too small or too large.
    #[error("a record of {0} bytes; at most {MAX_RECORD} are allowed")]
    Length(u32),
    /// A kind that nobody sends.
    #[error("a record of unknown kind {0:#04x}")]
    Kind(u8),
    /// A viewer's introduction that is not the JSON it should be.
    #[error("an introduction that cannot be read")]
    Open,
    /// A frame that cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Record {
    /// Appends the record's bytes.
    pub fn put(&self, to: &mut BytesMut) {
        let start = to.len();
        to.put_u32(0);
        match self {
            Self::Open(viewer, open) => {
                head(to, 0x01, *viewer);
                // A struct of strings and numbers always has a JSON form.
                to.put_slice(&serde_json::to_vec(open).unwrap_or_default());
            }
            Self::Frame(viewer, frame) => {
                head(to, 0x02, *viewer);
                frame.put(to);
            }
            Self::Close(viewer) => head(to, 0x03, *viewer),
        }
        let length = u32::try_from(to.len() - start - 4).unwrap_or(u32::MAX);
        to[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Takes the next record off the front; `Ok(None)` wants more bytes.
    ///
    /// Frames of unknown types are skipped.
    ///
    /// # Errors
    /// The stream is of no use any more.
    pub fn take(from: &mut BytesMut) -> Result<Option<Self>, LinkError> {
        while let Some(mut record) = take_record(from)? {
            let (kind, viewer) = (record.get_u8(), record.get_u32());
            match kind {
                0x01 => {
                    let open = serde_json::from_slice(&record).map_err(|_| LinkError::Open)?;
                    return Ok(Some(Self::Open(viewer, open)));
                }
                0x02 => {
                    if let Some(frame) = Frame::decode(&record)? {
                        return Ok(Some(Self::Frame(viewer, frame)));
                    }
                }
                0x03 => return Ok(Some(Self::Close(viewer))),
                other => return Err(LinkError::Kind(other)),
            }
        }
        Ok(None)
    }
}

fn head(to: &mut BytesMut, kind: u8, viewer: ViewerId) {
    to.put_u8(kind);
    to.put_u32(viewer);
}

/// Takes kind, viewer and payload of one whole record.
fn take_record(from: &mut BytesMut) -> Result<Option<Bytes>, LinkError> {
    let Some(length) = from.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)) else {
        return Ok(None);
    };
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if !(5..=MAX_RECORD).contains(&size) {
        return Err(LinkError::Length(length));
    }
    if from.len() < 4 + size {
        from.reserve(4 + size - from.len());
        return Ok(None);
    }
    from.advance(4);
    Ok(Some(from.split_to(size).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> Vec<Record> {
        let resume = Some(Resume { session: "07".repeat(16), offset: 12 });
        let open = Open { client: "c".into(), resume, size: Some((24, 80)), from_start: false };
        let output = Frame::Output { offset: 3, data: Bytes::from_static(b"hi") };
        vec![Record::Open(1, open), Record::Frame(2, output), Record::Close(1)]
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = BytesMut::new();
        Record::Frame(2, Frame::Ack { offset: 1 }).put(&mut bytes);
        Record::Close(1).put(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0000000e0200000002030000000000000001000000050300000001");
    }

    #[test]
    fn a_stream_is_read_in_any_pieces() {
        let mut stream = BytesMut::new();
        records().iter().for_each(|record| record.put(&mut stream));
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for byte in stream {
            buffer.put_u8(byte);
            read.extend(Record::take(&mut buffer).unwrap());
        }
        assert_eq!(read, records());
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_length_that_lies_is_refused_before_it_is_allocated() {
        for length in [0_u32, 4, u32::MAX, 1 + u32::try_from(MAX_RECORD).unwrap()] {
            let mut bytes = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(Record::take(&mut bytes), Err(LinkError::Length(length)));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Record::take(&mut bytes) {}
        }
    }
}
