//! Follows a terminal's output for what the screen model does not keep: line drawing, the scrolling
//! region, some modes, the title, and a sequence that is not complete yet.

use crate::charset::Charset;

/// Most bytes of an incomplete sequence that are kept.
const PARTIAL: usize = 4096;
/// Private modes that are followed, and their default.
const MODES: [(u16, bool); 3] = [(7, true), (1004, false), (1015, false)];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Intermediate,
    Control,
    Text,
    TextEscape,
}

/// What is known of the output so far.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    state: State,
    partial: Vec<u8>,
    charset: Charset,
    region: Option<(u16, u16)>,
    changed: [bool; MODES.len()],
    title: Option<Vec<u8>>,
}

impl Scanner {
    /// Reads output and appends it to `to` as the screen model should see it.
    pub(crate) fn scan(&mut self, bytes: &[u8], to: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let used = if self.state == State::Ground { self.text(rest, to) } else { 0 };
            if used > 0 {
                rest = &rest[used..];
                continue;
            }
            to.push(byte);
            self.step(byte);
            rest = &rest[1..];
        }
    }

    /// Says whether the next bytes are simply text over the whole screen.
    pub(crate) fn is_plain(&self) -> bool {
        self.state == State::Ground && self.region.is_none() && !self.charset.draws_lines()
    }

    /// Forgets the scrolling region, as terminals do when their size changes.
    pub(crate) fn resized(&mut self) {
        self.region = None;
    }

    /// Appends what brings a terminal from its defaults to these modes.
    pub(crate) fn paint_modes(&self, to: &mut Vec<u8>) {
        for ((mode, default), changed) in MODES.into_iter().zip(self.changed) {
            let letter = if default == changed { 'l' } else { 'h' };
            to.extend_from_slice(format!("\x1b[?{mode}{letter}").as_bytes());
        }
        match self.region {
            Some((top, bottom)) => {
                to.extend_from_slice(format!("\x1b[{top};{bottom}r").as_bytes());
            }
            None => to.extend_from_slice(b"\x1b[r"),
        }
        if let Some(title) = &self.title {
            to.extend_from_slice(b"\x1b]2;");
            to.extend_from_slice(title);
            to.push(0x07);
        }
    }

    /// Appends what must come last: the character sets, and the beginning of an open sequence.
    pub(crate) fn paint_end(&self, to: &mut Vec<u8>) {
        self.charset.paint(to);
        to.extend_from_slice(&self.partial);
    }

    /// Takes text up to the next control byte that matters; returns how much that was.
    fn text(&mut self, bytes: &[u8], to: &mut Vec<u8>) -> usize {
        let ends = |byte: &u8| matches!(byte, 0x1b | 0x0e | 0x0f);
        let used = bytes.iter().position(ends).unwrap_or(bytes.len());
        let text = &bytes[..used];
        if self.charset.draws_lines() {
            text.iter().for_each(|byte| self.charset.put(*byte, to));
        } else {
            to.extend_from_slice(text);
        }
        if used > 0 {
            self.partial.extend_from_slice(&text[used.saturating_sub(4)..]);
            let open = open_character(&self.partial);
            self.partial.drain(..open);
        }
        used
    }

    /// Follows one byte of a sequence, or one that starts it.
    fn step(&mut self, byte: u8) {
        match (self.state, byte) {
            (State::Ground, 0x0e | 0x0f) => self.charset.shift(byte),
            (State::Text, 0x1b) => self.go(State::TextEscape, byte),
            (State::TextEscape, b'\\') => self.end_text(),
            (State::Text, 0x07) => self.end_text(),
            (_, 0x1b) => {
                self.partial.clear();
                self.go(State::Escape, byte);
            }
            (State::Ground, _) => {}
            (_, 0x18 | 0x1a) => self.ground(),
            (State::Text, _) => self.go(State::Text, byte),
            (State::TextEscape, _) => {
                self.partial = vec![0x1b];
                self.escape(byte);
            }
            (State::Escape, _) => self.escape(byte),
            (State::Intermediate, 0x20..=0x2f) => self.go(State::Intermediate, byte),
            (State::Intermediate, _) => self.designate(byte),
            (State::Control, 0x40..=0x7e) => self.control(byte),
            (State::Control, _) => self.go(State::Control, byte),
        }
    }

    fn go(&mut self, state: State, byte: u8) {
        self.state = state;
        if self.partial.len() < PARTIAL {
            self.partial.push(byte);
        } else {
            // Too long to be repeated: what opened it makes a terminal swallow the rest.
            self.partial.truncate(2);
        }
    }

    fn ground(&mut self) {
        self.state = State::Ground;
        self.partial.clear();
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'[' => self.go(State::Control, byte),
            b']' | b'P' | b'_' | b'^' | b'X' => self.go(State::Text, byte),
            0x20..=0x2f => self.go(State::Intermediate, byte),
            b'c' => *self = Self::default(),
            _ => self.ground(),
        }
    }

    fn designate(&mut self, set: u8) {
        if let [_, which] = self.partial[..] {
            self.charset.designate(which, set);
        }
        self.ground();
    }

    fn end_text(&mut self) {
        let text = self.partial.strip_suffix(b"\x1b").unwrap_or(&self.partial);
        let title = text.strip_prefix(b"\x1b]2;").or_else(|| text.strip_prefix(b"\x1b]0;"));
        if let Some(title) = title {
            self.title = Some(title.to_vec());
        }
        self.ground();
    }

    fn control(&mut self, last: u8) {
        let sequence = std::mem::take(&mut self.partial);
        let body = sequence.get(2..).unwrap_or_default();
        match (body.strip_prefix(b"?"), last) {
            (Some(modes), b'h' | b'l') => self.set_modes(modes, last == b'h'),
            (None, b'r') => self.set_region(body),
            (None, b'p') if body == b"!" => {
                self.charset = Charset::default();
                self.region = None;
            }
            _ => {}
        }
        self.ground();
    }

    fn set_modes(&mut self, modes: &[u8], on: bool) {
        for mode in modes.split(|byte| *byte == b';').filter_map(number) {
            let known = MODES.iter().zip(&mut self.changed).find(|((known, _), _)| *known == mode);
            if let Some(((_, default), changed)) = known {
                *changed = on != *default;
            }
        }
    }

    fn set_region(&mut self, body: &[u8]) {
        let mut sides = body.split(|byte| *byte == b';').map(number);
        let (top, bottom) = (sides.next().flatten(), sides.next().flatten());
        self.region = bottom.map(|bottom| (top.unwrap_or(1), bottom));
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns where a character begins that lacks its last bytes; the length if none does.
fn open_character(text: &[u8]) -> usize {
    let from = text.len().saturating_sub(3);
    let open = text[from..].iter().rposition(|byte| *byte >= 0xc0).map(|at| from + at);
    let Some(at) = open else { return text.len() };
    let needs = match text[at] {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    };
    if text.len() - at < needs { at } else { text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(bytes: &[u8]) -> (Scanner, Vec<u8>) {
        let (mut scanner, mut text) = (Scanner::default(), Vec::new());
        // Every cut must give the same.
        bytes.iter().for_each(|byte| scanner.scan(&[*byte], &mut text));
        let (mut whole, mut same) = (Scanner::default(), Vec::new());
        whole.scan(bytes, &mut same);
        assert_eq!((text.clone(), painted(&scanner)), (same, painted(&whole)));
        (scanner, text)
    }

    fn painted(scanner: &Scanner) -> String {
        let mut bytes = Vec::new();
        scanner.paint_modes(&mut bytes);
        scanner.paint_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn line_drawing_becomes_unicode() {
        let (_, text) = scanned(b"q\x1b(0lqk\x1b(Bq\x1b)0\x0ex\x0fx");
        let shown = String::from_utf8(text).unwrap();
        assert_eq!(shown, "q\u{1b}(0┌─┐\u{1b}(Bq\u{1b})0\u{e}│\u{f}x");
    }

    #[test]
    fn region_modes_and_title_are_repeated() {
        let (scanner, _) =
            scanned(b"\x1b[3;20r\x1b[?7l\x1b[?1004;25h\x1b]2;hello\x1b\\\x1b]0;title\x07");
        let painted = painted(&scanner);
        for part in ["\x1b[3;20r", "\x1b[?7l", "\x1b[?1004h", "\x1b[?1015l", "\x1b]2;title\x07"] {
            assert!(painted.contains(part), "{part:?} in {painted:?}");
        }
        assert!(!scanner.is_plain());
    }

    #[test]
    fn what_is_open_is_repeated() {
        for (bytes, open) in [
            (&b"a\x1b[31"[..], &b"\x1b[31"[..]),
            (b"a\x1b", b"\x1b"),
            (b"\x1b]2;ti", b"\x1b]2;ti"),
            (b"\xe2\x82", b"\xe2\x82"),
            (b"\xe2\x82\xac", b""),
            (b"\xc3\xa9", b""),
            (b"abc\xf0\x9f\x98", b"\xf0\x9f\x98"),
            (b"\x1b[31m", b""),
            (b"\x1b]2;ti\x1b[3", b"\x1b[3"),
            (b"\x1b[31\x18x", b""),
        ] {
            assert_eq!(scanned(bytes).0.partial, open, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_sequence_is_not_kept() {
        let mut long = b"\x1b]52;c;".to_vec();
        long.resize(1 << 20, b'A');
        let (scanner, _) = scanned(&long);
        assert!(scanner.partial.starts_with(b"\x1b]"));
        assert!(scanner.partial.len() <= PARTIAL);
    }

    #[test]
    fn a_reset_resets() {
        let (scanner, _) = scanned(b"\x1b(0\x1b[3;20r\x1b[?7l\x1bc");
        assert!(scanner.is_plain());
        assert!(painted(&scanner).contains("\x1b[?7h"));
    }
}
