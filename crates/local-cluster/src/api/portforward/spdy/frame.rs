//! SPDY/3.1 frames, as far as port-forwarding has them.
//!
//! Bytes come in any pieces. Data is passed on as it comes; a control frame is kept until it is
//! whole, and bounded.

use super::Broken;
use super::headers::{Headers, Reader, Writer};

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const CONTROL: u8 = 0x80;
const VERSION: u16 = 3;
pub(super) const FIN: u8 = 1;
const HEADER: usize = 8;
/// No control frame is larger; those of a client of Kubernetes have some fifty bytes.
const MAX_CONTROL: usize = 16 << 10;

/// What the other side says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It opens a stream.
    Open { id: u32, headers: Headers },
    /// It sends bytes on a stream.
    Data { id: u32, bytes: Vec<u8> },
    /// It will send no more on a stream.
    Fin { id: u32 },
    /// It wants no more of a stream.
    Reset { id: u32 },
    /// It asks whether we live.
    Ping { id: u32 },
}

/// Reads frames.
pub(super) struct Decoder {
    headers: Reader,
    unread: Vec<u8>,
    /// What is left of a data frame: stream, flags, bytes.
    data: Option<(u32, u8, usize)>,
    /// The largest stream so far.
    last: u32,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { headers: Reader::new(), unread: Vec::new(), data: None, last: 0 }
    }

    /// Takes bytes; returns what they say.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Said>, Broken> {
        self.unread.extend(bytes);
        let (mut said, mut at) = (Vec::new(), 0);
        loop {
            let rest = &self.unread[at..];
            if let Some(data) = self.data {
                at += self.data_part(data, at, &mut said);
                if self.data.is_some() {
                    break;
                }
                continue;
            }
            let Some(header) = rest.first_chunk::<HEADER>() else { break };
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            let flags = header[4];
            if header[0] & CONTROL == 0 {
                let [a, b, c, d, ..] = *header;
                self.data = Some((u32::from_be_bytes([a, b, c, d]), flags, length));
                at += HEADER;
                continue;
            }
            let version = u16::from_be_bytes([header[0] & !CONTROL, header[1]]);
            let kind = u16::from_be_bytes([header[2], header[3]]);
            if version != VERSION {
                return Err(Broken::Version);
            }
            if length > MAX_CONTROL {
                return Err(Broken::TooLarge);
            }
            let Some(body) = rest[HEADER..].get(..length) else { break };
            control(&mut self.headers, &mut self.last, (kind, flags, body), &mut said)?;
            at += HEADER + length;
        }
        self.unread.drain(..at);
        Ok(said)
    }

    /// Takes what is there of a data frame; returns how much that is.
    fn data_part(
        &mut self,
        (id, flags, left): (u32, u8, usize),
        at: usize,
        said: &mut Vec<Said>,
    ) -> usize {
        let rest = &self.unread[at..];
        let count = left.min(rest.len());
        if count > 0 {
            said.push(Said::Data { id, bytes: rest[..count].to_vec() });
        }
        self.data = (count < left).then_some((id, flags, left - count));
        if self.data.is_none() && flags & FIN != 0 {
            said.push(Said::Fin { id });
        }
        count
    }
}

fn control(
    reader: &mut Reader,
    last: &mut u32,
    (kind, flags, mut body): (u16, u8, &[u8]),
    said: &mut Vec<Said>,
) -> Result<(), Broken> {
    match kind {
        SYN_STREAM => {
            let id = number(&mut body)?;
            let block = body.get(6..).ok_or(Broken::Frame)?;
            let headers = reader.read(block)?;
            // A client's streams are odd, and each is new.
            if id % 2 == 0 || id <= *last {
                return Err(Broken::Frame);
            }
            *last = id;
            said.push(Said::Open { id, headers });
            if flags & FIN != 0 {
                said.push(Said::Fin { id });
            }
        }
        // Their headers are of no interest, but later ones refer to them.
        SYN_REPLY | HEADERS => {
            let id = number(&mut body)?;
            reader.read(body)?;
            if flags & FIN != 0 {
                said.push(Said::Fin { id });
            }
        }
        RST_STREAM => said.push(Said::Reset { id: number(&mut body)? }),
        PING => said.push(Said::Ping { id: number(&mut body)? }),
        // Settings, windows that nobody keeps, and a goodbye, behind which the end comes.
        _ => {}
    }
    Ok(())
}

fn number(body: &mut &[u8]) -> Result<u32, Broken> {
    let (number, rest) = body.split_first_chunk().ok_or(Broken::Frame)?;
    *body = rest;
    Ok(u32::from_be_bytes(*number) & 0x7fff_ffff)
}

/// Writes frames.
#[derive(Default)]
pub(super) struct Encoder {
    headers: Writer,
}

impl Encoder {
    /// Takes a stream that the other side has opened.
    pub(super) fn reply(&mut self, id: u32) -> Vec<u8> {
        frame(SYN_REPLY, &[&id.to_be_bytes()[..], &self.headers.write()].concat())
    }
}

/// Refuses or ends a stream.
pub(super) fn reset(id: u32, status: u32) -> Vec<u8> {
    frame(RST_STREAM, &[id.to_be_bytes(), status.to_be_bytes()].concat())
}

/// Answers a ping.
pub(super) fn ping(id: u32) -> Vec<u8> {
    frame(PING, &id.to_be_bytes())
}

/// Says goodbye.
pub(super) fn goaway(status: u32) -> Vec<u8> {
    frame(GOAWAY, &[0_u32.to_be_bytes(), status.to_be_bytes()].concat())
}

/// Sends bytes on a stream: fewer than 16 MiB.
pub(super) fn data(id: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + bytes.len());
    frame.extend(id.to_be_bytes());
    finish(frame, flags, bytes)
}

fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let [version, kind] = [VERSION.to_be_bytes(), kind.to_be_bytes()];
    finish(vec![version[0] | CONTROL, version[1], kind[0], kind[1]], 0, body)
}

fn finish(mut frame: Vec<u8>, flags: u8, body: &[u8]) -> Vec<u8> {
    frame.push(flags);
    frame.extend(&body.len().to_be_bytes()[size_of::<usize>() - 3..]);
    frame.extend(body);
    frame
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::headers::tests::{block, stored};
    use super::*;

    pub(in super::super) fn open(id: u32, first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
        let head = [&id.to_be_bytes()[..], &[0; 6]].concat();
        frame(SYN_STREAM, &[head, block(first, headers)].concat())
    }

    fn all(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Said> {
        decoder.feed(bytes).unwrap()
    }

    #[test]
    fn frames_are_what_the_draft_says() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(data(5, FIN, b"hi")), "00000005010000026869");
        assert_eq!(hex(reset(5, 3)), "80030003000000080000000500000003");
        assert_eq!(hex(ping(1)), "800300060000000400000001");
        assert_eq!(hex(goaway(1)), "80030007000000080000000000000001");
        let mut encoder = Encoder::default();
        let first = "8003000200000014000000017801000400fbff00000000000000ffff";
        assert_eq!(hex(encoder.reply(1)), first);
        assert_eq!(hex(encoder.reply(3)), "800300020000001200000003000400fbff00000000000000ffff");
    }

    #[test]
    fn frames_come_in_any_pieces() {
        let mut bytes = open(1, true, &[("port", "80")]);
        bytes.extend(data(1, 0, b"hello"));
        bytes.extend(data(1, FIN, b""));
        bytes.extend(ping(7));
        bytes.extend(reset(1, 5));
        bytes.extend(goaway(0));
        for size in [1, 3, bytes.len()] {
            let (mut decoder, mut text) = (Decoder::new(), Vec::new());
            let mut others = Vec::new();
            for piece in bytes.chunks(size) {
                for said in decoder.feed(piece).unwrap() {
                    match said {
                        Said::Data { id: 1, bytes } => text.extend(bytes),
                        other => others.push(other),
                    }
                }
            }
            let headers = [("port".to_owned(), "80".to_owned())].into();
            assert_eq!(text, b"hello");
            assert_eq!(
                others,
                [
                    Said::Open { id: 1, headers },
                    Said::Fin { id: 1 },
                    Said::Ping { id: 7 },
                    Said::Reset { id: 1 },
                ]
            );
        }
    }

    #[test]
    fn abuse_frames_that_lie_are_refused() {
        let refused = |bytes: &[u8]| Decoder::new().feed(bytes).unwrap_err();
        assert_eq!(refused(&[0x80, 2, 0, 1, 0, 0, 0, 0]), Broken::Version);
        assert_eq!(refused(b"\xffTTP/1.1 200 OK"), Broken::Version);
        assert_eq!(refused(&[0x80, 3, 0, 4, 0, 0xff, 0xff, 0xff]), Broken::TooLarge);
        for kind in [SYN_STREAM, SYN_REPLY, RST_STREAM, PING, HEADERS] {
            assert_eq!(refused(&frame(kind, &[0, 0, 1])), Broken::Frame, "{kind}");
        }
        assert_eq!(refused(&frame(SYN_STREAM, &[0, 0, 0, 1, 0, 0, 0, 0])), Broken::Frame);
        assert_eq!(refused(&open(2, true, &[])), Broken::Frame);
        assert_eq!(refused(&open(0, true, &[])), Broken::Frame);
        let lies = [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &stored(true, &[9; 4])].concat();
        assert_eq!(refused(&frame(SYN_STREAM, &lies)), Broken::Headers);
        let mut decoder = Decoder::new();
        assert_eq!(all(&mut decoder, &open(3, true, &[])).len(), 1);
        assert_eq!(decoder.feed(&open(3, false, &[])).unwrap_err(), Broken::Frame);
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(pieces: Vec<Vec<u8>>) {
            let mut decoder = Decoder::new();
            for piece in pieces {
                let framed = frame(u16::from(piece.first().copied().unwrap_or(1) % 10), &piece);
                for bytes in [framed, piece] {
                    if decoder.feed(&bytes).is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
