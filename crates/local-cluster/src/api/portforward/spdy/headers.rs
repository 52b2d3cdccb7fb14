//! Header blocks: names and values, compressed in one stream a direction.

use std::collections::BTreeMap;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::Broken;
use super::dictionary::{ID, dictionary};

/// What can be referred to: as far as deflate goes.
const WINDOW: usize = 32 << 10;
/// No block is larger; a client of Kubernetes sends some hundred bytes.
const MAX_BLOCK: usize = 16 << 10;
/// Flag of zlib's header: a dictionary's name follows.
const HAS_DICTIONARY: u8 = 0x20;

/// Names, in lower case, and values.
pub(super) type Headers = BTreeMap<String, String>;

/// Reads the blocks of one connection, in order.
pub(super) struct Reader {
    state: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
    begun: bool,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { state: Box::default(), window: vec![0; WINDOW], at: 0, begun: false }
    }

    /// Reads the next block.
    pub(super) fn read(&mut self, mut block: &[u8]) -> Result<Headers, Broken> {
        if !self.begun {
            block = self.begin(block)?;
            self.begun = true;
        }
        parse(&self.inflate(block)?)
    }

    /// Reads zlib's header, which stands before the first block.
    fn begin<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], Broken> {
        let [method, flags, rest @ ..] = block else { return Err(Broken::Compression) };
        let sound =
            method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31);
        if !sound {
            return Err(Broken::Compression);
        }
        if flags & HAS_DICTIONARY == 0 {
            return Ok(rest);
        }
        let (name, rest) = rest.split_first_chunk().ok_or(Broken::Compression)?;
        if u32::from_be_bytes(*name) != ID {
            return Err(Broken::Compression);
        }
        let known = dictionary();
        self.window[..known.len()].copy_from_slice(&known);
        self.at = known.len();
        Ok(rest)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        loop {
            let (status, used, written) = decompress(
                &mut self.state,
                block,
                &mut self.window,
                self.at,
                TINFL_FLAG_HAS_MORE_INPUT,
            );
            block = &block[used..];
            out.extend(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW;
            if out.len() > MAX_BLOCK {
                return Err(Broken::TooLarge);
            }
            match status {
                TINFLStatus::NeedsMoreInput if block.is_empty() => return Ok(out),
                TINFLStatus::HasMoreOutput if used + written > 0 => {}
                // The stream goes on for as long as the connection.
                _ => return Err(Broken::Compression),
            }
        }
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, Broken> {
    let mut headers = Headers::new();
    for _ in 0..number(&mut block)? {
        let (name, value) = (text(&mut block)?, text(&mut block)?);
        if name.is_empty() || headers.insert(name.to_ascii_lowercase(), value).is_some() {
            return Err(Broken::Headers);
        }
    }
    if block.is_empty() { Ok(headers) } else { Err(Broken::Headers) }
}

fn number(block: &mut &[u8]) -> Result<u32, Broken> {
    let (number, rest) = block.split_first_chunk().ok_or(Broken::Headers)?;
    *block = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(block: &mut &[u8]) -> Result<String, Broken> {
    let length = number(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or(Broken::Headers)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Broken::Headers)
}

/// Writes blocks that have no headers in them, which is all that we have to say.
#[derive(Default)]
pub(super) struct Writer {
    begun: bool,
}

impl Writer {
    /// Returns the next block: zlib's header if it is the first, then the number 0 as a stored
    /// block of deflate, and an empty one, without which Go waits for more.
    pub(super) fn write(&mut self) -> Vec<u8> {
        let mut bytes = if self.begun { Vec::new() } else { vec![0x78, 0x01] };
        self.begun = true;
        bytes.extend([0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        bytes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A block of these headers, stored; with zlib's header in front if it is the first.
    pub(in super::super) fn block(first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            plain.extend(text.bytes());
        }
        stored(first, &plain)
    }

    pub(in super::super) fn stored(first: bool, plain: &[u8]) -> Vec<u8> {
        let mut bytes = if first { vec![0x78, 0x01, 0] } else { vec![0] };
        let length = u16::try_from(plain.len()).unwrap();
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(plain);
        bytes
    }

    #[test]
    fn what_go_has_compressed_is_read() {
        // The first two blocks of a connection of kubectl.
        let first = [
            0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0x25, 0x3a, 0x70, 0x3a, 0x2b, 0x29, 0x4a,
            0x4d, 0xcc, 0x85, 0x16, 0x25, 0xac, 0xa9, 0xa0, 0x80, 0x86, 0x14, 0xcb, 0x45, 0xa0,
            0x24, 0xcc, 0x64, 0x61, 0xc0, 0xc0, 0xc0, 0xc0, 0x59, 0x04, 0x89, 0xc4, 0x4c, 0x50,
            0xe2, 0x66, 0x34, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
        ];
        let second = [
            0x82, 0x6a, 0xc5, 0x14, 0x45, 0x35, 0x0c, 0x54, 0x2e, 0x25, 0xa2, 0x9a, 0x05, 0x00,
            0x00, 0x00, 0xff, 0xff,
        ];
        let mut reader = Reader::new();
        let headers = reader.read(&first).unwrap();
        assert_eq!(
            headers,
            [("port", "80"), ("requestid", "0"), ("streamtype", "error")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        );
        assert_eq!(reader.read(&second).unwrap()["streamtype"], "data");
    }

    #[test]
    fn blocks_without_a_dictionary_are_read_too() {
        let mut reader = Reader::new();
        assert_eq!(reader.read(&block(true, &[("A", "b")])).unwrap()["a"], "b");
        assert!(reader.read(&block(false, &[])).unwrap().is_empty());
        let mut own = Writer::default();
        let mut reader = Reader::new();
        for _ in 0..3 {
            assert!(reader.read(&own.write()).unwrap().is_empty());
        }
    }

    #[test]
    fn abuse_header_blocks_that_lie_are_refused() {
        let refused = |block: &[u8]| Reader::new().read(block).unwrap_err();
        assert_eq!(refused(b""), Broken::Compression);
        assert_eq!(refused(&[0x78, 0x02]), Broken::Compression);
        // Another dictionary; a block without its end; a code that is none.
        assert_eq!(refused(&[0x78, 0xbb, 1, 2, 3, 4]), Broken::Compression);
        assert_eq!(refused(&[0x78, 0x01, 0, 9, 0]), Broken::Headers);
        assert_eq!(refused(&[0x78, 0x01, 0xff, 0xff]), Broken::Compression);
        // More headers, and longer ones, than there are bytes.
        assert_eq!(refused(&stored(true, &[0xff; 4])), Broken::Headers);
        assert_eq!(refused(&stored(true, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])), Broken::Headers);
        assert_eq!(refused(&stored(true, &[0, 0, 0, 0, 1])), Broken::Headers);
        assert_eq!(refused(&block(true, &[("a", "1"), ("A", "2")])), Broken::Headers);
        assert_eq!(refused(&stored(true, &vec![0; MAX_BLOCK + 1])), Broken::TooLarge);
    }

    #[test]
    fn abuse_a_block_that_grows_a_thousand_times_is_refused() {
        let grown = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 64 << 20], 9);
        assert!(grown.len() < 128 << 10);
        assert_eq!(Reader::new().read(&grown).unwrap_err(), Broken::TooLarge);
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(blocks: Vec<Vec<u8>>, sound: bool) {
            let mut reader = Reader::new();
            if sound {
                reader.read(&block(true, &[])).unwrap();
            }
            blocks.iter().for_each(|block| drop(reader.read(block)));
        }
    }
}
