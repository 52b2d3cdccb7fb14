//! Which modes the program has set on this terminal, so that leaving can undo exactly those.

use std::collections::BTreeSet;

/// Modes that are off on an ordinary terminal: cursor keys, mouse, focus, alternate screens, paste.
const UNDONE: [u16; 13] = [1, 9, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1049, 2004];
/// The cursor, which is on.
const CURSOR: u16 = 25;
/// Ends any sequence.
const CAN: u8 = 0x18;
/// Longest parameters that are read; longer ones are of no interest here.
const MAX_PARAMS: usize = 64;

/// The modes as the output so far has left them.
#[derive(Debug, Default)]
pub(crate) struct Modes {
    state: State,
    params: Vec<u8>,
    /// Private modes that differ from an ordinary terminal.
    set: BTreeSet<u16>,
    keypad: bool,
    /// Levels of the kitty keyboard protocol that were pushed.
    keyboard: u16,
    other_keys: bool,
    shape: bool,
    styled: bool,
    charset: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    Csi,
    Charset,
    /// Inside a string (OSC, DCS, APC, PM, SOS) up to BEL or ST.
    Text,
    TextEscape,
}

impl Modes {
    /// Reads what is written to the terminal.
    pub(crate) fn feed(&mut self, output: &[u8]) {
        for &byte in output {
            self.state = self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) -> State {
        match self.state {
            _ if byte == CAN => State::Ground,
            State::Ground if byte == 0x1b => State::Escape,
            State::Ground => State::Ground,
            State::Escape | State::TextEscape => self.escape(byte),
            State::Charset => {
                self.charset = byte != b'B';
                State::Ground
            }
            State::Text => match byte {
                0x07 => State::Ground,
                0x1b => State::TextEscape,
                _ => State::Text,
            },
            State::Csi => self.csi(byte),
        }
    }

    fn escape(&mut self, byte: u8) -> State {
        match byte {
            b'[' => {
                self.params.clear();
                return State::Csi;
            }
            b']' | b'P' | b'_' | b'^' | b'X' => return State::Text,
            b'(' => return State::Charset,
            0x1b => return State::Escape,
            b'=' => self.keypad = true,
            b'>' => self.keypad = false,
            b'c' => *self = Self::default(),
            _ => {}
        }
        State::Ground
    }

    fn csi(&mut self, byte: u8) -> State {
        match byte {
            0x1b => State::Escape,
            0x20..=0x3f => {
                if self.params.len() < MAX_PARAMS {
                    self.params.push(byte);
                }
                State::Csi
            }
            0x40..=0x7e => {
                self.finish(byte);
                State::Ground
            }
            _ => State::Csi,
        }
    }

    fn finish(&mut self, last: u8) {
        let params = std::mem::take(&mut self.params);
        match (last, params.split_first()) {
            (b'h' | b'l', Some((b'?', modes))) => self.private(modes, last == b'h'),
            (b'm', Some((b'>', rest))) => {
                self.other_keys = rest.starts_with(b"4;") && !rest.ends_with(b";0");
            }
            (b'm', first) => self.styled = first.is_some_and(|_| params != b"0"),
            (b'u', Some((b'>', _))) => self.keyboard = self.keyboard.saturating_add(1),
            (b'u', Some((b'<', count))) => {
                let count = std::str::from_utf8(count).ok().and_then(|text| text.parse().ok());
                self.keyboard = self.keyboard.saturating_sub(count.unwrap_or(1));
            }
            (b'q', _) if params.ends_with(b" ") => {
                self.shape = !matches!(&params[..], b" " | b"0 ")
            }
            _ => {}
        }
    }

    fn private(&mut self, modes: &[u8], on: bool) {
        for mode in modes.split(|byte| *byte == b';') {
            let mode = std::str::from_utf8(mode).ok().and_then(|text| text.parse::<u16>().ok());
            match mode {
                Some(CURSOR) if on => drop(self.set.remove(&CURSOR)),
                Some(CURSOR) => drop(self.set.insert(CURSOR)),
                Some(mode) if on && UNDONE.contains(&mode) => drop(self.set.insert(mode)),
                Some(mode) => drop(self.set.remove(&mode)),
                None => {}
            }
        }
    }

    /// Returns the bytes that make the terminal ordinary again; none if it is.
    pub(crate) fn undo(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.state != State::Ground {
            // CAN and ST: whatever was cut in the middle ends here.
            bytes.extend_from_slice(b"\x18\x1b\\");
        }
        for (on, undo) in [
            (self.styled, "\x1b[0m"),
            (self.charset, "\x1b(B"),
            (self.keypad, "\x1b>"),
            (self.other_keys, "\x1b[>4;0m"),
            (self.shape, "\x1b[0 q"),
        ] {
            bytes.extend_from_slice(if on { undo } else { "" }.as_bytes());
        }
        if self.keyboard > 0 {
            bytes.extend_from_slice(format!("\x1b[<{}u", self.keyboard).as_bytes());
        }
        for mode in self.set.iter().rev() {
            let to = if *mode == CURSOR { 'h' } else { 'l' };
            bytes.extend_from_slice(format!("\x1b[?{mode}{to}").as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undo(output: &str) -> String {
        let mut modes = Modes::default();
        for byte in output.as_bytes() {
            modes.feed(&[*byte]);
        }
        String::from_utf8(modes.undo()).unwrap()
    }

    #[test]
    fn leaving_undoes_what_was_set_and_nothing_else() {
        for (output, undone) in [
            ("plain text \u{e9}\r\n", ""),
            ("\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h"),
            ("\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l", ""),
            ("\x1b[?1000;1006h", "\x1b[?1006l\x1b[?1000l"),
            ("\x1b[?2004h$ ", "\x1b[?2004l"),
            ("\x1b[31mred", "\x1b[0m"),
            ("\x1b[31mred\x1b[0m \x1b[1mx\x1b[m", ""),
            ("\x1b=", "\x1b>"),
            ("\x1b(0", "\x1b(B"),
            ("\x1b[>1u\x1b[>5u\x1b[<u", "\x1b[<1u"),
            ("\x1b[>4;2m", "\x1b[>4;0m"),
            ("\x1b[5 q", "\x1b[0 q"),
            ("\x1b]0;title [?1049h\x07", ""),
            ("\x1b]0;cut", "\x18\x1b\\"),
            ("\x1b[?1049h\x1bc", ""),
        ] {
            assert_eq!(undo(output), undone, "{output:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics_and_what_undoes_is_undone(output: Vec<u8>) {
            let mut modes = Modes::default();
            modes.feed(&output);
            let undo = modes.undo();
            modes.feed(&undo);
            proptest::prop_assert!(modes.undo().is_empty());
        }
    }
}
