//! How many files a pod may watch: the kernel counts that for the user who owns the pod, too.

use std::fs;

/// What is counted by user and user namespace, and what bounds the first user namespace.
const KINDS: [(&str, &str); 4] = [
    ("max_inotify_instances", "inotify/max_user_instances"),
    ("max_inotify_watches", "inotify/max_user_watches"),
    ("max_fanotify_groups", "fanotify/max_user_groups"),
    ("max_fanotify_marks", "fanotify/max_user_marks"),
];

/// What one pod may have: half of what its owner may, so that no pod leaves nothing to the owner
/// and to other pods.
pub(crate) struct Share([Option<u64>; KINDS.len()]);

impl Share {
    /// Reads what the caller may have, in the namespace that it is in.
    pub(crate) fn of_the_caller() -> Self {
        Self(KINDS.map(|(here, first)| {
            let here = number(&format!("/proc/sys/user/{here}"));
            // Inside a container `here` says nothing.
            let first = number(&format!("/proc/sys/fs/{first}"));
            here.into_iter().chain(first).min().map(half)
        }))
    }

    /// Bounds this new user namespace, and with it all of the pod: nobody in it may raise it.
    pub(crate) fn impose(&self) {
        for ((name, _), share) in KINDS.iter().zip(self.0) {
            let Some(share) = share else { continue };
            // A kernel without the kind has nothing to bound.
            fs::write(format!("/proc/sys/user/{name}"), share.to_string()).ok();
        }
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn half(all: u64) -> u64 {
    all.div_ceil(2)
}
