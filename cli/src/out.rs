//! Standard output: a reader that has gone away is no failure, and nothing is printed by halves.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::failure::{Doing, Failure};

/// Prints text as it is; what comes from outside is made printable before.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints bytes as they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        // `loom ps | head -1`: as if SIGPIPE had ended us, without a word.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(141),
        written => written.doing("cannot write to standard output"),
    }
}

/// Prints a value as indented JSON, in which every control character is escaped.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&json(value)?)
}

/// Returns indented JSON in ASCII: whatever is in a name, a terminal shows it as text.
fn json(value: &impl Serialize) -> Result<String, Failure> {
    let plain = serde_json::to_string_pretty(value).doing("cannot write JSON")?;
    let mut text = String::with_capacity(plain.len() + 1);
    let mut units = [0; 2];
    for c in plain.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abuse_escapes_in_json_are_escaped_and_read_back() {
        let nasty = "\u{1b}[2J\u{9b}x\u{202e}é🦀\u{7f}\r";
        let text = json(&nasty).unwrap();
        assert!(text.trim_end().chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), nasty);
    }
}
