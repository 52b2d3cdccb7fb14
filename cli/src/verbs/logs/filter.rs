//! Lets a log be read on a terminal: lines, tabs and colours pass, everything else is escaped.

use crate::printable::put;

/// Most bytes of a colour sequence that are waited for.
const MAX_HELD: usize = 64;

/// What is held back between two pieces of a log.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// The beginning of a character or of a sequence.
    held: Vec<u8>,
}

impl Filter {
    /// Takes the next piece and returns what may be shown of it.
    pub(super) fn feed(&mut self, piece: &[u8]) -> String {
        self.held.extend_from_slice(piece);
        let bytes = std::mem::take(&mut self.held);
        let mut shown = String::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while let Some(used) = take(rest, &mut shown) {
            rest = &rest[used..];
        }
        self.held = rest.to_vec();
        shown
    }
}

/// Shows one character or sequence and returns its length; `None` wants more bytes.
fn take(bytes: &[u8], shown: &mut String) -> Option<usize> {
    match bytes.first()? {
        b'\n' | b'\t' => {
            shown.push(char::from(bytes[0]));
            Some(1)
        }
        // A terminal's line ends with both.
        b'\r' => match bytes.get(1)? {
            b'\n' => Some(1),
            _ => escape(bytes, 1, shown),
        },
        0x1b => colour(bytes, shown),
        _ => character(bytes, shown),
    }
}

fn colour(bytes: &[u8], shown: &mut String) -> Option<usize> {
    if *bytes.get(1)? != b'[' {
        return escape(bytes, 1, shown);
    }
    let inside = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b';' | b':');
    match bytes[2..].iter().position(|byte| !inside(byte)) {
        Some(end) if bytes[2 + end] == b'm' => {
            shown.push_str(&String::from_utf8_lossy(&bytes[..end + 3]));
            Some(end + 3)
        }
        None if bytes.len() < MAX_HELD => None,
        _ => escape(bytes, 1, shown),
    }
}

fn character(bytes: &[u8], shown: &mut String) -> Option<usize> {
    let length = match bytes[0] {
        0..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return escape(bytes, 1, shown),
    };
    let have = &bytes[..length.min(bytes.len())];
    match std::str::from_utf8(have) {
        Ok(text) => {
            text.chars().for_each(|c| put(shown, c));
            Some(have.len())
        }
        Err(error) if error.error_len().is_none() => None,
        Err(_) => escape(bytes, 1, shown),
    }
}

fn escape(bytes: &[u8], count: usize, shown: &mut String) -> Option<usize> {
    for byte in &bytes[..count] {
        match byte {
            0..=0x7f => put(shown, char::from(*byte)),
            _ => shown.push_str(&format!("\\x{byte:02x}")),
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] =
        b"a\r\n\x1b[1;31mred\x1b[0m\t\xc3\xa9\x1b]52;c;eA==\x07\x1b[2J\rx\xff\xc2\x9b5m\n\
        \xe2\x80\xae!";
    const SHOWN: &str = "a\n\x1b[1;31mred\x1b[0m\té\\x1b]52;c;eA==\\x07\\x1b[2J\\rx\\xff\\u{9b}5m\n\
        \\u{202e}!";

    #[test]
    fn abuse_terminal_escapes_in_logs() {
        for step in 1..LOG.len() {
            let mut filter = Filter::default();
            let shown: String = LOG.chunks(step).map(|piece| filter.feed(piece)).collect();
            assert_eq!(shown, SHOWN, "in pieces of {step}");
        }
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut filter = Filter::default();
        filter.feed(b"\x1b[");
        for _ in 0..10_000 {
            filter.feed(b"1");
        }
        assert!(filter.held.len() <= MAX_HELD);
    }
}
