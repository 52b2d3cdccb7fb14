//! Makes text from outside safe to print: nothing in it reaches the terminal as a command.

use std::fmt::Write as _;

/// Returns `text` with every control character and every character that reorders others escaped.
///
/// Line breaks and tabs are escaped too, so that a name cannot make a line of its own.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        put(&mut safe, c);
    }
    safe
}

/// Appends one character, escaped if it could do more than stand there.
pub(crate) fn put(safe: &mut String, c: char) {
    match c {
        '\n' => safe.push_str("\\n"),
        '\r' => safe.push_str("\\r"),
        '\t' => safe.push_str("\\t"),
        c if (c as u32) < 0x20 || c == '\u{7f}' => {
            let _ = write!(safe, "\\x{:02x}", c as u32);
        }
        c if acts(c) => {
            let _ = write!(safe, "\\u{{{:x}}}", c as u32);
        }
        c => safe.push(c),
    }
}

/// Tells whether a character beyond ASCII controls the terminal, reorders or hides others.
fn acts(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'                         // C1: CSI, OSC, ST in one character
        | '\u{61c}' | '\u{200e}' | '\u{200f}'       // marks of direction
        | '\u{202a}'..='\u{202e}'                   // embeddings and overrides
        | '\u{2066}'..='\u{2069}'                   // isolates
        | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{ad}' // no width
        | '\u{2028}' | '\u{2029}'                   // separators of lines
        | '\u{fff9}'..='\u{fffb}'                   // annotations
        | '\u{e0000}'..='\u{e007f}') // tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abuse_terminal_escapes_in_names() {
        for (text, safe) in [
            ("plain-1.0_é漢🦀", "plain-1.0_é漢🦀"),
            ("\u{1b}]52;c;aGk=\u{7}", "\\x1b]52;c;aGk=\\x07"),
            ("\u{1b}]0;title\u{1b}\\", "\\x1b]0;title\\x1b\\"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{9d}0;x\u{9c}", "\\u{9d}0;x\\u{9c}"),
            ("safe\rEVIL", "safe\\rEVIL"),
            ("two\nlines\t", "two\\nlines\\t"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("\u{7f}\u{0}\u{8}", "\\x7f\\x00\\x08"),
            ("\u{2028}\u{e0041}", "\\u{2028}\\u{e0041}"),
        ] {
            assert_eq!(printable(text), safe);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in ".*") {
            proptest::prop_assert!(!printable(&text).chars().any(|c| c.is_control() || acts(c)));
        }
    }
}
