//! What is typed in an attached terminal: bytes for the program, and the few that are ours.
//!
//! `~.`, `~d` and `~?` count at the beginning of a line only, as in ssh; `~~` sends one `~`.
//! Ctrl+D on an empty line asks the host whether it means to leave.

/// What typed bytes ask for, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// Bytes for the program.
    Bytes(Vec<u8>),
    /// Ctrl+D on an empty line.
    Leave,
    /// `~.`: drop the connection, dead or not.
    Disconnect,
    /// `~d`: leave the program running.
    Detach,
    /// `~?`: show the keys.
    Help,
}

/// Where the cursor stands as far as typing tells.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Characters typed since the line began, less those erased.
    typed: usize,
    /// Whether the last byte ended a line; escapes count only there.
    fresh: Fresh,
    /// A `~` that is held back until the next byte.
    held: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fresh {
    #[default]
    Yes,
    No,
}

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const BACKSPACE: [u8; 2] = [8, 0x7f];

impl Keys {
    /// Takes what was typed.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for &byte in typed {
            self.byte(byte, &mut keys);
        }
        keys
    }

    fn byte(&mut self, byte: u8, keys: &mut Vec<Key>) {
        if std::mem::take(&mut self.held) {
            match byte {
                b'.' => return self.ours(Key::Disconnect, keys),
                b'd' => return self.ours(Key::Detach, keys),
                b'?' => return self.ours(Key::Help, keys),
                b'~' => return self.pass(byte, keys),
                _ => self.pass(b'~', keys),
            }
        } else if byte == b'~' && self.fresh == Fresh::Yes {
            self.held = true;
            return;
        }
        if byte == CTRL_D && self.typed == 0 {
            return self.ours(Key::Leave, keys);
        }
        self.pass(byte, keys);
    }

    fn ours(&mut self, key: Key, keys: &mut Vec<Key>) {
        self.typed = 0;
        self.fresh = Fresh::Yes;
        keys.push(key);
    }

    fn pass(&mut self, byte: u8, keys: &mut Vec<Key>) {
        let ends = matches!(byte, b'\r' | b'\n' | CTRL_C | CTRL_U);
        self.fresh = if ends { Fresh::Yes } else { Fresh::No };
        self.typed = match byte {
            _ if ends => 0,
            byte if BACKSPACE.contains(&byte) => self.typed.saturating_sub(1),
            // What continues a UTF-8 sequence is part of one character.
            byte if byte & 0xc0 == 0x80 => self.typed,
            _ => self.typed + 1,
        };
        match keys.last_mut() {
            Some(Key::Bytes(bytes)) => bytes.push(byte),
            _ => keys.push(Key::Bytes(vec![byte])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(typed: &[u8]) -> Vec<Key> {
        // However the bytes are cut, the meaning is the same.
        let mut whole = Keys::default();
        let mut single = Keys::default();
        let joined = whole.feed(typed);
        let mut pieces: Vec<Key> = Vec::new();
        for key in typed.iter().flat_map(|byte| single.feed(&[*byte])) {
            match (pieces.last_mut(), key) {
                (Some(Key::Bytes(bytes)), Key::Bytes(more)) => bytes.extend(more),
                (_, key) => pieces.push(key),
            }
        }
        assert_eq!(joined, pieces);
        joined
    }

    fn bytes(text: &str) -> Key {
        Key::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn ctrl_d_leaves_on_an_empty_line_only() {
        assert_eq!(feed(b"\x04"), [Key::Leave]);
        assert_eq!(feed(b"ls\r\x04"), [bytes("ls\r"), Key::Leave]);
        assert_eq!(feed(b"ls\x04"), [bytes("ls\x04")]);
        assert_eq!(feed(b"ls\x03\x04"), [bytes("ls\x03"), Key::Leave]);
        assert_eq!(feed(b"ls\x7f\x7f\x04"), [bytes("ls\x7f\x7f"), Key::Leave]);
        assert_eq!(feed("é\u{7f}\u{4}".as_bytes()), [bytes("é\u{7f}"), Key::Leave]);
        assert_eq!(feed(b"\x1b[A\x04"), [bytes("\x1b[A\x04")]);
    }

    #[test]
    fn tilde_counts_at_the_beginning_of_a_line_only() {
        assert_eq!(feed(b"~."), [Key::Disconnect]);
        assert_eq!(feed(b"ls\r~."), [bytes("ls\r"), Key::Disconnect]);
        assert_eq!(feed(b"~d"), [Key::Detach]);
        assert_eq!(feed(b"~?ls"), [Key::Help, bytes("ls")]);
        assert_eq!(feed(b"a~."), [bytes("a~.")]);
        assert_eq!(feed(b"~~."), [bytes("~.")]);
        assert_eq!(feed(b"~/x"), [bytes("~/x")]);
        assert_eq!(feed(b"cd ~.\r"), [bytes("cd ~.\r")]);
        assert_eq!(feed(b"~\x04"), [bytes("~\x04")]);
        assert_eq!(feed(b"~"), []);
    }

    proptest::proptest! {
        #[test]
        fn nothing_typed_is_lost(typed in "[a-z~.\r\u{4}é]{0,40}") {
            let out: usize = feed(typed.as_bytes()).iter().map(|key| match key {
                Key::Bytes(bytes) => bytes.len(),
                Key::Leave => 1,
                Key::Disconnect | Key::Detach | Key::Help => 2,
            }).sum();
            let swallowed = typed.len() - out;
            // One `~` of every `~~`, and one that is still held, never reach the program.
            proptest::prop_assert!(swallowed <= typed.matches('~').count());
        }
    }
}
