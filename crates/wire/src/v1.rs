//! Attach v1, the documents' protocol: text frames, and resize as one whole frame of JSON.

use bytes::{Buf, BytesMut};
use serde_json::Value;

use crate::frame::Size;

/// What a v1 text frame means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// Bytes for the program.
    Input,
    /// A new size.
    Resize(Size),
    /// A resize that cannot be; ignored, with a notice.
    BadResize,
}

/// Reads a text frame: exactly `{"type":"resize","rows":24,"cols":80}`, in any order and spacing,
/// is a resize; everything else, a paste that contains it too, is input.
#[must_use]
pub fn read(text: &str) -> Text {
    let short = text.len() <= 512 && text.trim_ascii_start().starts_with('{');
    let object = short.then(|| serde_json::from_str::<Value>(text).ok()).flatten();
    let Some(Value::Object(object)) = object else {
        return Text::Input;
    };
    let keys = object.len() == 3 && object.contains_key("rows") && object.contains_key("cols");
    if !keys || object.get("type").and_then(Value::as_str) != Some("resize") {
        return Text::Input;
    }
    let side = |key: &str| object[key].as_u64().and_then(|side| u16::try_from(side).ok());
    let size = side("rows").zip(side("cols")).and_then(|(rows, cols)| Size::new(rows, cols));
    size.map_or(Text::BadResize, Text::Resize)
}

/// Cuts a stream of bytes into UTF-8 text: a sequence split across reads is held back, bytes that
/// can never be UTF-8 become U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8 {
    held: BytesMut,
}

impl Utf8 {
    /// Takes bytes and returns the text that is complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        while !self.held.is_empty() {
            match std::str::from_utf8(&self.held) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.held.clear();
                }
                Err(error) => {
                    let (valid, _) = self.held.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    self.held.advance(error.valid_up_to());
                    let Some(wrong) = error.error_len() else { break };
                    text.push('\u{fffd}');
                    self.held.advance(wrong);
                }
            }
        }
        text
    }

    /// Returns what was held back when nothing more comes.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&self.held.split()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_resize_in_any_order_and_spacing() {
        let size = Text::Resize(Size { rows: 24, cols: 80 });
        for text in [
            r#"{"type":"resize","rows":24,"cols":80}"#,
            r#"{"type": "resize", "rows": 24, "cols": 80}"#,
            "\n{ \"cols\":80,\t\"type\":\"resize\",\n\"rows\":24 }\n",
        ] {
            assert_eq!(read(text), size, "{text}");
        }
    }

    #[test]
    fn abuse_resizes() {
        for rows in ["0", "-1", "65536", "\"x\"", "null", "1.5"] {
            let text = format!(r#"{{"type":"resize","rows":{rows},"cols":80}}"#);
            assert_eq!(read(&text), Text::BadResize, "{text}");
        }
        let resize = r#"{"type":"resize","rows":24,"cols":80}"#;
        for text in [
            format!("echo '{resize}'"),
            format!("{resize}{resize}"),
            format!("{resize}\nls"),
            "{}".to_owned(),
            "ls\n".to_owned(),
        ] {
            assert_eq!(read(&text), Text::Input, "{text}");
        }
    }

    #[test]
    fn invalid_bytes_become_the_replacement_character() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"a\xffb\xc3"), "a\u{fffd}b");
        assert_eq!(utf8.push(b"\xa9"), "é");
        assert_eq!(utf8.push(b"\xe2\x82"), "");
        assert_eq!(utf8.finish(), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn text_in_any_pieces_is_the_text(text in any::<String>(), step in 1_usize..5) {
            let mut utf8 = Utf8::default();
            let mut out: String = text.as_bytes().chunks(step).map(|chunk| utf8.push(chunk)).collect();
            out.push_str(&utf8.finish());
            prop_assert_eq!(out, text);
        }

        #[test]
        fn pieces_do_not_change_invalid_text(bytes in proptest::collection::vec(any::<u8>(), 0..40), step in 1_usize..5) {
            let mut utf8 = Utf8::default();
            let mut out: String = bytes.chunks(step).map(|chunk| utf8.push(chunk)).collect();
            out.push_str(&utf8.finish());
            prop_assert_eq!(out, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
