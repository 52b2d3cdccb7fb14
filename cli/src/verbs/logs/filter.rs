//! Lets a log be read on a terminal: text and colours pass, what would move about is followed
//! within its line, and nothing else that a terminal obeys gets through.

use crate::printable::put;

mod line;

use line::Line;

/// Longest parameters of a sequence that are read; longer ones mean nothing here.
const MAX_PARAMS: usize = 64;

/// Turns the bytes of a log into text.
#[derive(Debug, Default)]
pub(super) struct Filter {
    state: State,
    /// The parameters of a sequence, or the beginning of a character.
    held: Vec<u8>,
    line: Line,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Text,
    Escape,
    /// After ESC and a byte that one more follows, such as a choice of characters.
    Charset,
    Csi,
    /// Inside a string (OSC, DCS, APC, PM, SOS): titles, links, the clipboard. A line ends it too,
    /// so that a string without an end hides no more than that.
    String,
    StringEscape,
}

impl Filter {
    /// Takes the next piece and returns what may be shown of it.
    pub(super) fn feed(&mut self, piece: &[u8]) -> String {
        for byte in piece {
            self.state = self.byte(*byte);
        }
        self.line.show()
    }

    fn byte(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            // CAN and SUB end any sequence, a line break too.
            (_, 0x18 | 0x1a) => State::Text,
            (State::StringEscape, b'\\') => State::Text,
            (State::Escape | State::StringEscape, _) => self.escape(byte),
            (_, 0x1b) if self.state == State::String => State::StringEscape,
            (_, 0x1b) => {
                self.broken();
                State::Escape
            }
            (State::String, 0x07) => State::Text,
            (State::String, byte) if byte != b'\n' => State::String,
            (State::Charset, 0x20..) => State::Text,
            (State::Csi, 0x20..) => self.csi(byte),
            (_, 0..=0x1f | 0x7f) => self.control(byte),
            (_, _) => self.text(byte),
        }
    }

    fn escape(&mut self, byte: u8) -> State {
        match byte {
            b'[' => {
                self.held.clear();
                State::Csi
            }
            b']' | b'P' | b'_' | b'^' | b'X' => State::String,
            0x20..=0x2f => State::Charset,
            0x1b => State::Escape,
            // The next line, in one way or another.
            b'E' | b'D' => self.control(b'\n'),
            0x30..=0x7e => State::Text,
            _ => {
                self.state = State::Text;
                self.byte(byte)
            }
        }
    }

    fn csi(&mut self, byte: u8) -> State {
        match byte {
            0x20..=0x3f => {
                if self.held.len() < MAX_PARAMS {
                    self.held.push(byte);
                }
                State::Csi
            }
            0x40..=0x7e => {
                let params = std::mem::take(&mut self.held);
                let plain = params.iter().all(|byte| matches!(byte, b'0'..=b';'));
                if let (true, Ok(params)) =
                    (plain && params.len() < MAX_PARAMS, str::from_utf8(&params))
                {
                    self.line.follow(params, byte);
                }
                State::Text
            }
            _ => State::Text,
        }
    }

    fn control(&mut self, byte: u8) -> State {
        self.broken();
        match byte {
            b'\n' => self.line.end(),
            b'\r' => self.line.go_to(0),
            b'\t' => self.line.put("\t"),
            0x08 => self.line.left(1),
            // Bells and the like.
            _ => {}
        }
        State::Text
    }

    /// Takes a byte of a character.
    fn text(&mut self, byte: u8) -> State {
        self.held.push(byte);
        match str::from_utf8(&self.held) {
            Ok(text) => {
                let mut safe = String::new();
                text.chars().for_each(|c| put(&mut safe, c));
                self.line.put(&safe);
                self.held.clear();
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                // What began is none; this byte may begin another.
                self.held.pop();
                let alone = self.held.is_empty();
                self.broken();
                match alone {
                    true => self.line.put(&format!("\\x{byte:02x}")),
                    false => return self.text(byte),
                }
            }
        }
        State::Text
    }

    /// Shows the bytes of a character that ended before its time.
    fn broken(&mut self) {
        if self.state == State::Text {
            for byte in std::mem::take(&mut self.held) {
                self.line.put(&format!("\\x{byte:02x}"));
            }
        }
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a log, taken whole.
    fn shown(log: &str) -> String {
        Filter::default().feed(log.as_bytes())
    }

    const LOG: &[u8] = b"a\r\n\x1b[1;31mred\x1b[0m\t\xc3\xa9\x1b]52;c;eA==\x07\x1b[2Jx\xff\xe9\xc2\x9b5m\n\
        \xe2\x80\xae!\x1bPq#0\x1b\\\x1b_x\x1b\\\x07\x00\x0e\x1b(0\x1bc\x1b[5n\x1b[6n\x1b[c\x1b[>0q\x1b[?1049h.\n";
    const SHOWN: &str = "a\n\x1b[1;31mred\x1b[0m\té\nx\\xff\\xe9\\u{9b}5m\n\\u{202e}!.\n";

    #[test]
    fn abuse_terminal_escapes_in_logs() {
        for step in 1..LOG.len() {
            let mut filter = Filter::default();
            let shown: String = LOG.chunks(step).map(|piece| filter.feed(piece)).collect();
            // A colour is begun anew with each piece that is shown.
            let plain = |text: &str| text.replace("\x1b[1;31m", "").replace("\x1b[0m", "");
            assert_eq!(plain(&shown), plain(SHOWN), "in pieces of {step}");
        }
        assert_eq!(Filter::default().feed(LOG), SHOWN);
    }

    #[test]
    fn a_shells_own_sequences_are_followed_not_shown() {
        let prompt = "\x1b[?2004h\x1b]0;dev@weaver: ~\x07\x1b[01;32mdev@weaver\x1b[00m:~$ ";
        let typed = "lx\x08\x1b[Ks\r\n\x1b[?2004l\rfile\r\n";
        let whole = format!("{prompt}{typed}");
        assert_eq!(shown(&whole), "\x1b[01;32mdev@weaver\x1b[0m:~$ ls\nfile\n");
        assert_eq!(shown("10%\r55%\r100%\ndone\n"), "100%\ndone\n");
        assert_eq!(shown("abc\x08\x08X\n"), "aXc\n");
        assert_eq!(shown("abc\x1b[2DX\x1b[C!\n"), "aXc!\n");
        assert_eq!(shown("abcdef\r\x1b[2P\x1b[1@-\n"), "-cdef\n");
        assert_eq!(shown("one\x1b[5;1Htwo\n"), "one\ntwo\n");
    }

    #[test]
    fn a_line_that_changes_after_it_was_shown_is_shown_again() {
        let mut filter = Filter::default();
        assert_eq!(filter.feed(b"$ "), "$ ");
        assert_eq!(filter.feed(b"ls"), "ls");
        assert_eq!(filter.feed(b"\r\n"), "\n");
        assert_eq!(filter.feed(b"10%"), "10%");
        assert_eq!(filter.feed(b"\r55%"), "\n55%");
        assert_eq!(filter.feed(b"\r\n"), "\n");
    }

    #[test]
    fn a_string_without_an_end_hides_its_line_only() {
        assert_eq!(shown("a\x1b]0;never ends\nb\n"), "a\nb\n");
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut filter = Filter::default();
        filter.feed(b"\x1b[");
        filter.feed(&vec![b'1'; 100_000]);
        assert!(filter.held.len() <= MAX_PARAMS);
        let mut filter = Filter::default();
        let long = "x".repeat(1_000_000);
        assert_eq!(filter.feed(long.as_bytes()), long);
        filter.feed(b"\x1b[60000C\x1b[60000@x");
        filter.feed("\x1b[1;3;4m".repeat(100_000).as_bytes());
        assert!(format!("{:?}", filter.line).len() < 2_000_000);
    }

    proptest::proptest! {
        #[test]
        fn no_command_but_colours_gets_through(log: Vec<u8>, step in 1..9_usize) {
            let mut filter = Filter::default();
            let shown: String = log.chunks(step).map(|piece| filter.feed(piece)).collect();
            let mut rest = shown.as_str();
            while let Some((_, after)) = rest.split_once('\x1b') {
                let end = after.find('m');
                let colour = end.map(|end| &after[..end]).unwrap_or_default();
                proptest::prop_assert!(colour.starts_with('['), "{shown:?}");
                proptest::prop_assert!(colour[1..].bytes().all(|b| matches!(b, b'0'..=b';')));
                rest = after;
            }
            let wild = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\x1b');
            proptest::prop_assert!(!shown.contains(wild), "{shown:?}");
        }
    }
}
