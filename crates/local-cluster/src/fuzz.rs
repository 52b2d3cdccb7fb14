//! What clients, images and old files hold, as a fuzzer writes it.

use crate::{api, kubelet, pod, store};

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("apply", api::fuzz::apply),
    ("channels", api::fuzz::channels),
    ("json", api::fuzz::json),
    ("patch", api::fuzz::patch),
    ("protobuf", api::fuzz::protobuf),
    ("request", api::fuzz::request),
    ("selector", api::fuzz::selector),
    ("spdy", api::fuzz::spdy),
    ("yaml", api::fuzz::yaml),
    ("expansion", kubelet::fuzz_expansion),
    ("passwd", kubelet::fuzz_passwd),
    ("quantity", pod::quantity::fuzz),
    ("log", store::fuzz_log),
];

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
