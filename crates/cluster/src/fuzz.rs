//! Pods that anybody may have written, as a fuzzer writes them.

use k8s_openapi::api::core::v1::Pod;

use crate::{pod, why};

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("pod", read)];

/// A pod that is taken for a weaver is that weaver's, and its deadline is exact.
fn read(bytes: &[u8]) {
    let Ok(pod) = serde_json::from_slice::<Pod>(bytes) else { return };
    why::why(&pod);
    match pod::read(&pod) {
        Ok(found) => {
            let weaver = found.weaver;
            assert_eq!(pod.metadata.name, Some(weaver.id.pod_name()));
            assert!(weaver.expires_at() > weaver.created_at);
            assert_eq!(weaver.created_at.subsec_nanosecond(), 0);
        }
        Err(error) => assert!(!error.code().is_empty()),
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
