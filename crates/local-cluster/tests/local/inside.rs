//! What a pod's program sees, as JSON.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::json;

/// Says it, or waits to be killed.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.into_string().unwrap()).collect();
    if args == ["wait"] {
        loop {
            std::thread::park();
        }
    }
    let saw = json!({
        "args": args,
        "env": std::env::vars().collect::<BTreeMap<_, _>>(),
        "uid": rustix::process::getuid().as_raw(),
        "gid": rustix::process::getgid().as_raw(),
        "cwd": std::env::current_dir().unwrap(),
        "marker": std::fs::read_to_string("/marker").unwrap_or_default(),
    });
    println!("{saw}");
    ExitCode::SUCCESS
}
