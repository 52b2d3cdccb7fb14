//! The local cluster as its users meet it. This binary is also its daemon (`serve DIR`) and the
//! shim of its pods (`pod-shim …`).

use std::process::ExitCode;

mod support;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|verb| verb.to_str()) {
        Some("pod-shim") => pod_runtime::shim_main(args),
        Some("serve") => support::daemon::serve(args),
        _ => support::run(),
    }
}
