//! What comes over our own protocols, as a fuzzer writes it.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::api::{CreateWeaver, Extend, LogChunk, WeaverList, WeaverView};
use crate::frame::{Frame, HEADER, MAX_PAYLOAD};
use crate::link::{MAX_RECORD, Record};
use crate::problem::Problem;
use crate::v1::{self, Utf8};

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("api", api), ("frame", frame), ("record", record), ("v1", text)];

/// A frame that is taken is written as it came.
fn frame(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(Some(frame)) = Frame::decode(&bytes) else { return };
    assert!(bytes.len() <= HEADER + MAX_PAYLOAD);
    let again = Frame::decode(&frame.encode());
    assert_eq!(again, Ok(Some(frame)));
}

/// A stream is the same in whatever pieces it comes, and no more of it is kept than one record.
fn record(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut buffer, mut records) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match Record::take(&mut buffer) {
                    Ok(Some(record)) => records.push(record),
                    Ok(None) => break,
                    Err(error) => return (records, Some(error)),
                }
            }
            assert!(buffer.len() < 4 + MAX_RECORD);
        }
        (records, None)
    };
    let (whole, pieces) = (read(bytes.len().max(1)), read(3));
    assert_eq!(whole, pieces);
    for record in whole.0 {
        let mut written = BytesMut::new();
        record.put(&mut written);
        assert_eq!(Record::take(&mut written), Ok(Some(record)));
        assert!(written.is_empty());
    }
}

/// Text is the same in whatever pieces it comes.
fn text(bytes: &[u8]) {
    let read = |size: usize| {
        let mut utf8 = Utf8::default();
        let text: String = bytes.chunks(size).map(|piece| utf8.push(piece)).collect();
        text + &utf8.finish()
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(1));
    assert_eq!(whole, String::from_utf8_lossy(bytes));
    let _ = v1::read(&whole);
}

/// What is taken as JSON is written as JSON that means the same.
fn api(bytes: &[u8]) {
    fn same<T: Serialize + for<'de> Deserialize<'de>>(bytes: &[u8]) {
        let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
        let written = serde_json::to_value(&value).expect("what was read is written");
        let again: T = serde_json::from_value(written.clone()).expect("what was written is read");
        assert_eq!(serde_json::to_value(&again).ok(), Some(written));
    }
    same::<CreateWeaver>(bytes);
    same::<Extend>(bytes);
    same::<LogChunk>(bytes);
    same::<WeaverList>(bytes);
    same::<WeaverView>(bytes);
    same::<Problem>(bytes);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
