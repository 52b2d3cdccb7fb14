//! What servers send, as a fuzzer writes it.

use crate::sse::Sse;

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("sse", sse)];

/// Events are the same in whatever pieces they come.
fn sse(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        for piece in bytes.chunks(size) {
            assert!(sse.push(piece), "{} bytes are not too many", bytes.len());
            events.extend(std::iter::from_fn(|| sse.take()));
        }
        events
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(1));
    let data: usize = whole.iter().map(|event| event.data.len()).sum();
    // What is no UTF-8 grows, threefold at most.
    assert!(data <= 3 * bytes.len());
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
