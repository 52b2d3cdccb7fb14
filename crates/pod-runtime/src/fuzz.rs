//! What a shim, its zygote, a daemon and a probed program say, as a fuzzer says it.

use std::fmt::Debug;
use std::io::Write;
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::{ExecInput, ExecOutput, Reply, Request};
use crate::folder::ShimIdentity;
use crate::spec::{PodSpec, PodStatus, Usage};
use crate::zygote::message::{self, Event, Order};
use crate::{control, shim};

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("answers", answers),
    ("files", files),
    ("grpc", shim::fuzz_grpc),
    ("http", shim::fuzz_http),
    ("messages", messages),
    ("requests", requests),
];

/// What the daemon reads from shims.
fn answers(bytes: &[u8]) {
    same::<PodStatus>(bytes);
    same::<Reply>(bytes);
    same::<ExecOutput>(bytes);
    same::<Usage>(bytes);
    let Some(ours) = said(bytes) else { return };
    control::read_reply(&ours).ok();
    let Some(ours) = said(bytes) else { return };
    control::read_value::<Usage>(&ours).ok();
}

/// What is found in the folder of a pod whose shim may be of another version.
fn files(bytes: &[u8]) {
    same::<PodSpec>(bytes);
    same::<ShimIdentity>(bytes);
}

/// What a shim reads from daemons.
fn requests(bytes: &[u8]) {
    same::<Request>(bytes);
    same::<ExecInput>(bytes);
}

/// What shim and zygote read from each other, message after message.
fn messages(bytes: &[u8]) {
    if let Some(ours) = said(bytes) {
        while let Ok(Some((_, fds))) = message::recv::<Event>(&ours) {
            assert!(fds.is_empty(), "none was sent");
        }
    }
    if let Some(ours) = said(bytes) {
        while let Ok(Some(_)) = message::recv::<Order>(&ours) {}
    }
}

/// What is read is written so that it is read as the same.
fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
    let line = control::line(&value);
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
    let again = serde_json::from_slice::<T>(&line).expect("what was written is read");
    assert_eq!(again, value);
}

/// Returns a connection on which somebody has said this and gone.
fn said(bytes: &[u8]) -> Option<UnixStream> {
    let (ours, mut theirs) = UnixStream::pair().ok()?;
    theirs.set_nonblocking(true).ok()?;
    theirs.write_all(bytes).ok()?;
    Some(ours)
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
