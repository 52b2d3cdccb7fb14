//! The screen as a newcomer should see it, made from the output.

use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::scan::Scanner;
use crate::size::Size;

/// Lines above the screen that come back when it grows.
const SCROLLBACK: usize = 50;
/// Output is read into the model when so much of it waits, or when somebody looks.
const BATCH: usize = 64 * 1024;

/// A model of the terminal's screen.
pub struct Screen {
    model: vt100::Parser,
    scanner: Scanner,
    waiting: Vec<u8>,
    size: Size,
}

impl Screen {
    /// Makes an empty screen.
    #[must_use]
    pub fn new(size: Size) -> Self {
        Self { model: model(size), scanner: Scanner::default(), waiting: Vec::new(), size }
    }

    /// Takes output.
    pub fn push(&mut self, output: &[u8]) {
        self.waiting.extend_from_slice(output);
        if self.waiting.len() >= BATCH {
            self.digest();
        }
    }

    /// Changes the size.
    pub fn resize(&mut self, size: Size) {
        if size == self.size {
            return;
        }
        self.digest();
        self.size = size;
        self.scanner.resized();
        let (rows, cols) = sides(size);
        self.guard(|model| model.set_size(rows, cols));
    }

    /// Returns bytes that bring any terminal of this size to the present state: contents, colours,
    /// cursor, modes, title, and the beginning of a sequence that the output has not ended yet.
    pub fn paint(&mut self) -> Vec<u8> {
        self.digest();
        // Out of whatever sequence or mode the viewer's terminal is in.
        let mut bytes = b"\x1b\\\x1b(B\x0f\x1b[!p".to_vec();
        let picture = self.guard(|model| {
            let screen = model.screen();
            (screen.alternate_screen(), screen.state_formatted(), screen.cursor_state_formatted())
        });
        let Some((alternate, contents, cursor)) = picture else { return bytes };
        bytes.extend_from_slice(if alternate { b"\x1b[?1049h" } else { b"\x1b[?1049l" });
        bytes.extend_from_slice(b"\x1b[r\x1b[?9;1000;1002;1003;1005;1006l");
        bytes.extend_from_slice(contents.as_bytes());
        self.scanner.paint_modes(&mut bytes);
        bytes.extend_from_slice(cursor.as_bytes());
        self.scanner.paint_end(&mut bytes);
        bytes
    }

    /// Reads what waits into the model.
    fn digest(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let from = if self.scanner.is_plain() { beginning(&waiting, self.size) } else { 0 };
        let mut text = Vec::with_capacity(waiting.len() - from);
        self.scanner.scan(&waiting[from..], &mut text);
        self.guard(|model| model.process(&text));
        // Kept for the next output, but not while nothing happens.
        self.waiting = waiting;
        self.waiting.clear();
        self.waiting.shrink_to(BATCH);
    }

    /// Uses the model; should it panic over some output, an empty one goes on, for the session is
    /// worth more than its picture.
    fn guard<T>(&mut self, use_model: impl FnOnce(&mut vt100::Parser) -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(|| use_model(&mut self.model)));
        if result.is_err() {
            self.model = model(self.size);
        }
        result.ok()
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.size).finish_non_exhaustive()
    }
}

fn model(size: Size) -> vt100::Parser {
    let (rows, cols) = sides(size);
    vt100::Parser::new(rows, cols, SCROLLBACK)
}

fn sides(size: Size) -> (NonZeroU16, NonZeroU16) {
    let side = |side| NonZeroU16::new(side).unwrap_or(NonZeroU16::MIN);
    (side(size.rows()), side(size.cols()))
}

/// Returns from where on plain text must be read: what stands before so many line feeds has left
/// the screen and the lines above it, wherever the cursor was.
fn beginning(text: &[u8], size: Size) -> usize {
    let matters = |byte: &u8| matches!(byte, 0x1b | 0x0e | 0x0f);
    if text.iter().any(matters) {
        return 0;
    }
    let lines = 2 * usize::from(size.rows()) + SCROLLBACK;
    let feeds = text.windows(2).enumerate().rev().filter(|(_, pair)| pair == b"\r\n");
    feeds.map(|(at, _)| at + 2).nth(lines).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(rows: u16, cols: u16) -> Size {
        Size::new(rows, cols).unwrap()
    }

    /// What a terminal shows after these bytes.
    fn shown(bytes: &[u8], size: Size) -> vt100::Parser {
        let mut terminal = model(size);
        terminal.process(bytes);
        terminal
    }

    fn painted(output: &[u8], size: Size) -> vt100::Parser {
        let mut screen = Screen::new(size);
        screen.push(output);
        shown(&screen.paint(), size)
    }

    fn same(output: &[u8], size: Size) {
        let (real, copy) = (shown(output, size), painted(output, size));
        let (real, copy) = (real.screen(), copy.screen());
        assert_eq!(copy.contents(), real.contents(), "{output:?}");
        assert_eq!(copy.state_formatted(), real.state_formatted(), "{output:?}");
        assert_eq!(copy.alternate_screen(), real.alternate_screen(), "{output:?}");
    }

    #[test]
    fn contents_colours_cursor_and_modes_are_painted() {
        for output in [
            &b"hello"[..],
            b"\x1b[31mred\x1b[0m \x1b[38;2;1;2;3mtrue\x1b[48;5;17mcolour",
            b"a\r\nb\r\n\x1b[5;7Hhere\x1b[?25l",
            b"\x1b[?1049h\x1b[2Jfull\x1b[?1h\x1b=\x1b[?2004h\x1b[?1003h\x1b[?1006h",
            "wide 漢字 and e\u{301}".as_bytes(),
            b"\x1b[4 q\x1b[7minverse",
        ] {
            same(output, size(24, 80));
        }
    }

    #[test]
    fn a_newcomer_goes_on_within_a_sequence() {
        let output = b"one \x1b[3".as_slice();
        let mut copy = painted(output, size(24, 80));
        copy.process(b"1mred");
        let real = shown(b"one \x1b[31mred", size(24, 80));
        assert_eq!(copy.screen().state_formatted(), real.screen().state_formatted());
    }

    #[test]
    fn lines_stay_lines() {
        let mut screen = Screen::new(size(5, 20));
        screen.push(b"\x1b(0lqqk\x1b(B\r\ntext");
        let terminal = shown(&screen.paint(), size(5, 20));
        assert!(terminal.screen().contents().starts_with("┌──┐\ntext"));
    }

    #[test]
    fn a_scrolling_region_lives_on() {
        let output = b"\x1b[2;4r\x1b[4;1Hlast";
        let mut copy = painted(output, size(10, 20));
        let mut real = shown(output, size(10, 20));
        for terminal in [&mut copy, &mut real] {
            terminal.process(b"\r\nmore\r\nand more");
        }
        assert_eq!(copy.screen().contents(), real.screen().contents());
    }

    #[test]
    fn much_plain_text_ends_as_if_all_had_been_read() {
        let lines: String = (0..20_000).map(|line| format!("line {line} 漢\t|\r\n")).collect();
        same(lines.as_bytes(), size(24, 80));
        same(format!("\x1b[32m{lines}last").as_bytes(), size(50, 7));
    }

    #[test]
    fn a_size_changes_what_fits() {
        let mut screen = Screen::new(size(24, 80));
        screen.push(b"hello world");
        screen.resize(size(10, 5));
        assert!(shown(&screen.paint(), size(10, 5)).screen().contents().starts_with("hello"));
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[a-z漢é ]{0,12}".prop_map(String::into_bytes),
            Just(b"\r\n".to_vec()),
            "\x1b\\[[0-9;?]{0,6}[A-Za-z]".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..6),
        ]
    }

    proptest! {
        #[test]
        fn any_output_and_size_is_painted_without_a_panic(
            pieces in proptest::collection::vec((piece(), any::<Option<(u8, u8)>>()), 0..60),
        ) {
            let mut screen = Screen::new(size(24, 80));
            for (piece, change) in pieces {
                screen.push(&piece);
                if let Some((rows, cols)) = change {
                    screen.resize(size(u16::from(rows).max(1), u16::from(cols).max(1)));
                }
            }
            prop_assert!(!screen.paint().is_empty());
        }

        #[test]
        fn text_is_painted_as_it_stands(text in "[a-z漢é \r\n]{0,400}") {
            same(text.as_bytes(), size(7, 13));
        }
    }
}
