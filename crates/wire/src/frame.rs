//! Terminal frames, subprotocol `loom.attach.v2`: `type:u8 offset:u64be payload`.
//!
//! One WebSocket binary message is one frame. Numbers are never reused; a receiver skips types that
//! it does not know. Output and stderr share one count of bytes; every client counts its own input.

use bytes::{BufMut, Bytes, BytesMut};

/// The WebSocket subprotocol's name.
pub const SUBPROTOCOL: &str = "loom.attach.v2";
/// Bytes before the payload.
pub const HEADER: usize = 9;
/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Rows and columns of a terminal, neither 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub cols: u16,
}

impl Size {
    /// Takes a size unless a side is 0.
    #[must_use]
    pub fn new(rows: u16, cols: u16) -> Option<Self> {
        (rows > 0 && cols > 0).then_some(Self { rows, cols })
    }
}

impl Default for Size {
    fn default() -> Self {
        Self { rows: 24, cols: 80 }
    }
}

/// What the host says first to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Names the run of the program; offsets count within it.
    pub session: [u8; 16],
    /// The next input byte that the host expects of this client.
    pub input: u64,
    /// Whether the program has a terminal.
    pub tty: bool,
    /// The terminal's present size.
    pub size: Size,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's line says what its fields are")]
pub enum Frame {
    /// To the host: bytes for the program; `offset` counts this client's bytes before them.
    Input { offset: u64, data: Bytes },
    /// To the host: the viewer's size.
    Resize(Size),
    /// To the host: output up to here has arrived.
    Ack { offset: u64 },
    /// To the host: no more input will come.
    Eof { offset: u64 },
    /// To the host: Ctrl+D on an empty line. It counts as one byte of input.
    Leave { offset: u64 },
    /// To the viewer, first: the session; output goes on at `offset`.
    Hello { offset: u64, hello: Hello },
    /// To the viewer: what the program wrote to its terminal or stdout.
    Output { offset: u64, data: Bytes },
    /// To the viewer: what the program wrote to stderr, where it has no terminal.
    Stderr { offset: u64, data: Bytes },
    /// To the viewer: `lost` bytes before `offset` are gone.
    Gap { offset: u64, lost: u64 },
    /// To the viewer: bytes that paint the screen as it is at `offset`.
    Screen { offset: u64, data: Bytes },
    /// To the viewer: the client's input before `offset` has reached the program.
    InputAck { offset: u64 },
    /// To the viewer: the terminal's size is now this.
    Size(Size),
    /// To the viewer, last: the program ended and the weaver with it.
    Exit { code: i32 },
    /// To the viewer, last: it is detached; the weaver lives on.
    Left { why: String },
    /// To the viewer: a line for people.
    Notice { text: String },
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer than [`HEADER`] bytes.
    #[error("a frame has at least {HEADER} bytes")]
    Short,
    /// More than [`MAX_PAYLOAD`] bytes.
    #[error("a frame carries at most {MAX_PAYLOAD} bytes")]
    Long,
    /// The payload does not fit its type.
    #[error("a frame of type {0:#04x} has another payload")]
    Payload(u8),
}

impl Frame {
    /// Returns type, offset and payload.
    fn parts(&self) -> (u8, u64, Bytes) {
        let none = Bytes::new;
        match self {
            Self::Input { offset, data } => (0x01, *offset, data.clone()),
            Self::Resize(size) => (0x02, 0, size_bytes(*size)),
            Self::Ack { offset } => (0x03, *offset, none()),
            Self::Eof { offset } => (0x04, *offset, none()),
            Self::Leave { offset } => (0x05, *offset, none()),
            Self::Hello { offset, hello } => (0x40, *offset, hello_bytes(hello)),
            Self::Output { offset, data } => (0x41, *offset, data.clone()),
            Self::Stderr { offset, data } => (0x42, *offset, data.clone()),
            Self::Gap { offset, lost } => {
                (0x43, *offset, Bytes::copy_from_slice(&lost.to_be_bytes()))
            }
            Self::Screen { offset, data } => (0x44, *offset, data.clone()),
            Self::InputAck { offset } => (0x45, *offset, none()),
            Self::Size(size) => (0x46, 0, size_bytes(*size)),
            Self::Exit { code } => (0x47, 0, Bytes::copy_from_slice(&code.to_be_bytes())),
            Self::Left { why } => (0x48, 0, Bytes::copy_from_slice(why.as_bytes())),
            Self::Notice { text } => (0x49, 0, Bytes::copy_from_slice(text.as_bytes())),
        }
    }

    /// Appends the frame's bytes.
    pub fn put(&self, to: &mut BytesMut) {
        let (kind, offset, payload) = self.parts();
        to.reserve(HEADER + payload.len());
        to.put_u8(kind);
        to.put_u64(offset);
        to.put_slice(&payload);
    }

    /// Returns the frame's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        self.put(&mut bytes);
        bytes.freeze()
    }

    /// Reads one frame; `None` is a type from the future, to be skipped.
    ///
    /// # Errors
    /// Says what does not fit; it never panics.
    pub fn decode(bytes: &Bytes) -> Result<Option<Self>, FrameError> {
        if bytes.len() < HEADER {
            return Err(FrameError::Short);
        }
        if bytes.len() > HEADER + MAX_PAYLOAD {
            return Err(FrameError::Long);
        }
        let kind = bytes[0];
        let offset = u64_at(bytes, 1).ok_or(FrameError::Short)?;
        let data = bytes.slice(HEADER..);
        Self::from_parts(kind, offset, data)
            .ok_or(FrameError::Payload(kind))
            .map(Known::into_option)
    }

    fn from_parts(kind: u8, offset: u64, data: Bytes) -> Option<Known> {
        let empty = data.is_empty();
        Some(Known::Frame(match kind {
            0x01 => Self::Input { offset, data },
            0x02 => Self::Resize(read_size(&data)?),
            0x03 if empty => Self::Ack { offset },
            0x04 if empty => Self::Eof { offset },
            0x05 if empty => Self::Leave { offset },
            0x40 => Self::Hello { offset, hello: read_hello(&data)? },
            0x41 => Self::Output { offset, data },
            0x42 => Self::Stderr { offset, data },
            0x43 => Self::Gap { offset, lost: exact(&data).map(u64::from_be_bytes)? },
            0x44 => Self::Screen { offset, data },
            0x45 if empty => Self::InputAck { offset },
            0x46 => Self::Size(read_size(&data)?),
            0x47 => Self::Exit { code: exact(&data).map(i32::from_be_bytes)? },
            0x48 => Self::Left { why: text(&data)? },
            0x49 => Self::Notice { text: text(&data)? },
            0x03..=0x05 | 0x45 => return None,
            _ => return Some(Known::NotYet),
        }))
    }
}

/// A frame, or a type that this build does not know.
enum Known {
    Frame(Frame),
    NotYet,
}

impl Known {
    fn into_option(self) -> Option<Frame> {
        match self {
            Self::Frame(frame) => Some(frame),
            Self::NotYet => None,
        }
    }
}

fn size_bytes(size: Size) -> Bytes {
    let ([a, b], [c, d]) = (size.rows.to_be_bytes(), size.cols.to_be_bytes());
    Bytes::copy_from_slice(&[a, b, c, d])
}

fn hello_bytes(hello: &Hello) -> Bytes {
    let mut bytes = BytesMut::with_capacity(29);
    bytes.put_slice(&hello.session);
    bytes.put_u64(hello.input);
    bytes.put_u8(u8::from(hello.tty));
    bytes.put_slice(&size_bytes(hello.size));
    bytes.freeze()
}

/// Later builds may append to it, so more bytes than these are fine.
fn read_hello(data: &Bytes) -> Option<Hello> {
    Some(Hello {
        session: exact(data.get(..16)?)?,
        input: u64_at(data, 16)?,
        tty: *data.get(24)? != 0,
        size: read_size(data.get(25..29)?)?,
    })
}

fn read_size(data: &[u8]) -> Option<Size> {
    let [a, b, c, d] = exact(data)?;
    Size::new(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    exact(data.get(at..at + 8)?).map(u64::from_be_bytes)
}

fn exact<const N: usize>(data: &[u8]) -> Option<[u8; N]> {
    data.try_into().ok()
}

fn text(data: &Bytes) -> Option<String> {
    String::from_utf8(data.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every_frame() -> Vec<(Frame, &'static str)> {
        let data = Bytes::from_static(b"hi");
        let size = Size { rows: 24, cols: 80 };
        let hello = Hello { session: [7; 16], input: 5, tty: true, size };
        vec![
            (Frame::Input { offset: 1, data: data.clone() }, "0100000000000000016869"),
            (Frame::Resize(size), "02000000000000000000180050"),
            (Frame::Ack { offset: 258 }, "030000000000000102"),
            (Frame::Eof { offset: 3 }, "040000000000000003"),
            (Frame::Leave { offset: 4 }, "050000000000000004"),
            (
                Frame::Hello { offset: 9, hello },
                "4000000000000000090707070707070707070707070707070700000000000000050100180050",
            ),
            (Frame::Output { offset: 1, data: data.clone() }, "4100000000000000016869"),
            (Frame::Stderr { offset: 1, data: data.clone() }, "4200000000000000016869"),
            (Frame::Gap { offset: 2, lost: 1 }, "4300000000000000020000000000000001"),
            (Frame::Screen { offset: 1, data }, "4400000000000000016869"),
            (Frame::InputAck { offset: 2 }, "450000000000000002"),
            (Frame::Size(size), "46000000000000000000180050"),
            (Frame::Exit { code: -1 }, "470000000000000000ffffffff"),
            (Frame::Left { why: "hi".into() }, "4800000000000000006869"),
            (Frame::Notice { text: "hi".into() }, "4900000000000000006869"),
        ]
    }

    #[test]
    fn golden_bytes_and_round_trip() {
        for (frame, golden) in every_frame() {
            let bytes = frame.encode();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, golden, "{frame:?}");
            assert_eq!(Frame::decode(&bytes), Ok(Some(frame)));
        }
    }

    #[test]
    fn a_type_from_the_future_is_skipped() {
        assert_eq!(Frame::decode(&Bytes::from_static(&[0x7f; 12])), Ok(None));
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Frame::decode(&Bytes::from_static(&[1; 8])), Err(FrameError::Short));
        let long = Bytes::from(vec![0x41; HEADER + MAX_PAYLOAD + 1]);
        assert_eq!(Frame::decode(&long), Err(FrameError::Long));
        let zero = Bytes::from_static(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80]);
        assert_eq!(Frame::decode(&zero), Err(FrameError::Payload(2)));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = Bytes::from(bytes);
            if let Ok(Some(frame)) = Frame::decode(&bytes) {
                prop_assert_eq!(Frame::decode(&frame.encode()), Ok(Some(frame)));
            }
        }
    }
}
