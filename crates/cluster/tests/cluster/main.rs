//! The suite against a cluster, whichever it is: real Kubernetes or the local one.
//!
//! `LOOM_TEST_KUBECONFIG` names the cluster, `LOOM_TEST_IMAGE` an image with a shell and the usual
//! tools, `LOOM_TEST_TOOLS_IMAGE` the image that holds loom-host. Without them everything is
//! ignored. `LOOM_TEST_NAMESPACE` names a namespace to use; else one is made and removed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod life;
mod programs;
mod setup;
mod trouble;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use setup::{Case, Site};

fn cases() -> Vec<(&'static str, Case)> {
    [life::cases(), programs::cases(), trouble::cases()].concat()
}

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let site = match Site::from_env() {
        Ok(site) => site,
        Err(missing) => {
            eprintln!("ignored: {missing}");
            let ignored =
                |(name, _): (&str, Case)| Trial::test(name, || Ok(())).with_ignored_flag(true);
            return libtest_mimic::run(&args, cases().into_iter().map(ignored).collect())
                .exit_code();
        }
    };
    let listing = args.list;
    if !listing {
        site.prepare();
    }
    let trials = cases().into_iter().map(|(name, case)| {
        let site = site.clone();
        Trial::test(name, move || site.run(name, case))
    });
    let conclusion = libtest_mimic::run(&args, trials.collect());
    if !listing {
        site.clear();
    }
    conclusion.exit_code()
}
