//! Server-sent events, read from pieces of a body (WHATWG HTML, 9.2.6).

/// Most bytes of one event.
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// Its name; empty for an ordinary message.
    pub(crate) name: String,
    /// Its data.
    pub(crate) data: String,
}

/// The reader's state between pieces.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    held: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
}

impl Sse {
    /// Appends a piece of the body; `false` means that an event is larger than is allowed.
    #[must_use]
    pub(crate) fn push(&mut self, piece: &[u8]) -> bool {
        self.held.extend_from_slice(piece);
        self.held.len() + self.data.len() <= MAX_EVENT
    }

    /// Takes the next whole event.
    pub(crate) fn take(&mut self) -> Option<SseEvent> {
        let mut at = 0;
        let mut found = None;
        while let Some(end) = self.held[at..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&self.held[at..at + end]).into_owned();
            at += end + 1;
            found = self.line(line.strip_suffix('\r').unwrap_or(&line));
            if found.is_some() {
                break;
            }
        }
        self.held.drain(..at);
        found
    }

    fn line(&mut self, line: &str) -> Option<SseEvent> {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let event = SseEvent {
                    name: std::mem::take(&mut self.name),
                    data: std::mem::take(&mut self.data),
                };
                return std::mem::take(&mut self.has_data).then_some(event);
            }
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // Comments keep the connection alive; ids and retry times are not used.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str =
        ": hello\n\ndata: a\r\n\r\nevent: problem\ndata: b\ndata:c\n\nid: 1\n\ndata\n\ndata: cut";

    #[test]
    fn events_in_any_pieces() {
        for step in 1..BODY.len() {
            let mut sse = Sse::default();
            let mut all = Vec::new();
            for piece in BODY.as_bytes().chunks(step) {
                assert!(sse.push(piece));
                all.extend(std::iter::from_fn(|| sse.take()));
            }
            let event = |name: &str, data: &str| SseEvent { name: name.into(), data: data.into() };
            assert_eq!(all, [event("", "a"), event("problem", "b\nc"), event("", "")]);
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut sse = Sse::default();
        assert!(!sse.push(&vec![b'a'; MAX_EVENT + 1]));
    }
}
