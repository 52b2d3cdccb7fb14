//! The processes of this machine, found by what was said when they were started.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A process that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    parent: i32,
    /// Program and arguments, each followed by a NUL.
    line: String,
}

impl Process {
    pub(crate) fn kill(&self) {
        kill_process(Pid::from_raw(self.pid).unwrap(), Signal::KILL).unwrap();
    }

    pub(crate) fn starts_with(&self, words: &[&str]) -> bool {
        let line: String = words.iter().map(|word| format!("{word}\0")).collect();
        self.line.starts_with(&line)
    }
}

/// Returns all whose command line holds a text.
pub(crate) fn that_hold(text: &str) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).filter(|process| process.line.contains(text)).collect()
}

/// Returns the shims that live, by the names of their folders in this one.
pub(crate) fn shims(folder: &Path) -> BTreeMap<String, Process> {
    let shim = |folder: DirEntry| {
        let identity = std::fs::read(folder.path().join("shim.json")).ok()?;
        let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap();
        let process = read(i32::try_from(identity["pid"].as_i64()?).ok()?)?;
        Some((folder.file_name().into_string().ok()?, process))
    };
    std::fs::read_dir(folder).unwrap().flatten().filter_map(shim).collect()
}

/// Returns those of some whose parent is none of them.
pub(crate) fn roots(all: &[Process]) -> Vec<Process> {
    let is_root = |process: &&Process| all.iter().all(|other| other.pid != process.parent);
    all.iter().filter(is_root).cloned().collect()
}

fn read(pid: i32) -> Option<Process> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): state and parent follow the name, which stands in parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    let line = String::from_utf8_lossy(&line).into_owned();
    (state != "Z" && state != "X").then_some(Process { pid, parent, line })
}
