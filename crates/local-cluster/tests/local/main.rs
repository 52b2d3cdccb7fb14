//! The local cluster as its users meet it. This binary is also its daemon (`serve DIR`) and the
//! shim of its pods (`pod-shim …`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::ExitCode;

mod client_go;
mod compare;
mod crash;
mod images;
mod inside;
mod kubectl;
mod leaving;
mod limits;
mod objects;
mod owners;
mod pods;
mod probes;
mod streams;
mod support;
mod volumes;
mod watches;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|verb| verb.to_str()) {
        Some("pod-shim") => pod_runtime::shim_main(args),
        Some("inside") => inside::main(args),
        Some("serve") => support::daemon::serve(args),
        _ => support::run(
            [
                objects::trials(),
                owners::trials(),
                watches::trials(),
                crash::trials(),
                pods::trials(),
                probes::trials(),
                volumes::trials(),
                limits::trials(),
                images::trials(),
                leaving::trials(),
                kubectl::trials(),
                streams::trials(),
                client_go::trials(),
                compare::trials(),
            ]
            .into_iter()
            .flatten()
            .collect(),
        ),
    }
}
