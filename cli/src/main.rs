//! The program `loom`, with three more front doors for what it starts itself.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name);
    // These doors are taken before any thread starts: a shim forks, and the host is process 1.
    if called == Some(OsStr::new("loom-host")) {
        return host::main_from_args(args.into_iter());
    }
    if args.get(1).is_some_and(|verb| verb == "pod-shim") {
        return pod_runtime::shim_main(args.into_iter().skip(2));
    }
    if args.get(1).is_some_and(|verb| verb == loom::IMAGE_FILES) {
        return loom::image_files();
    }
    loom::run(args)
}
