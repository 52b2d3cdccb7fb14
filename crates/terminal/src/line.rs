//! Whether somebody has typed a part of a line: a guess from the bytes that went to the program.

/// The line that is being typed.
#[derive(Debug, Default)]
pub(crate) struct Line {
    typed: u32,
}

impl Line {
    /// Follows bytes that reached the program.
    ///
    /// Keys that may bring text (Tab, arrows, other control keys) count as text, so that a wrong
    /// guess passes Ctrl+D on to the program rather than detaching from it.
    pub(crate) fn follow(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.typed = match byte {
                b'\r' | b'\n' | 0x03 | 0x04 | 0x15 => 0,
                0x08 | 0x7f => self.typed.saturating_sub(1),
                // The later bytes of a character; the first one counted.
                0x80..=0xbf => self.typed,
                _ => self.typed.saturating_add(1),
            };
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.typed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_empty_after_enter_interrupt_and_rubbing_out() {
        for (bytes, empty) in [
            (&b""[..], true),
            (b"ls", false),
            (b"ls\r", true),
            (b"ls\x7f\x7f", true),
            ("é\x7f".as_bytes(), true),
            (b"ls\x03", true),
            (b"ls\x15", true),
            (b"\x1b[A", false),
            (b"\t", false),
        ] {
            let mut line = Line::default();
            line.follow(bytes);
            assert_eq!(line.is_empty(), empty, "{bytes:?}");
        }
    }
}
