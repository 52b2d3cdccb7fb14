//! The suite against a cluster, whichever it is: real Kubernetes or the local one.
//!
//! `LOOM_TEST_KUBECONFIG` names the cluster, `LOOM_TEST_IMAGE` an image with a shell and the usual
//! tools, `LOOM_TEST_TOOLS_IMAGE` the image that holds loom-host. `LOOM_TEST_NAMESPACE` names a
//! namespace to use; else one is made and removed. Without these a local cluster is started, and
//! where no pod can run everything is ignored. The cases do not know which of the two they have.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod life;
mod local;
mod programs;
mod setup;
mod trouble;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::local::Local;
use crate::setup::{Case, Site};

fn cases() -> Vec<(&'static str, Case)> {
    [life::cases(), programs::cases(), trouble::cases()].concat()
}

fn main() -> ExitCode {
    if let Some(code) = local::other_door() {
        return code;
    }
    let args = Arguments::from_args();
    if args.list {
        return names(&args, false);
    }
    if let Some(site) = Site::given() {
        return on(&site, &args);
    }
    if let Some(why) = local::lacking() {
        eprintln!("ignored: {why}");
        return names(&args, true);
    }
    let local = Local::start();
    let kubeconfig = local.kubeconfig().to_owned();
    on(&Site::new(kubeconfig, "loom.local/host", "loom.local/tools"), &args)
}

fn on(site: &Site, args: &Arguments) -> ExitCode {
    site.prepare();
    let trials = cases().into_iter().map(|(name, case)| {
        let site = site.clone();
        Trial::test(name, move || site.run(name, case))
    });
    let conclusion = libtest_mimic::run(args, trials.collect());
    site.clear();
    conclusion.exit_code()
}

/// Runs nothing.
fn names(args: &Arguments, ignored: bool) -> ExitCode {
    let trial = |(name, _): (&str, Case)| Trial::test(name, || Ok(())).with_ignored_flag(ignored);
    libtest_mimic::run(args, cases().into_iter().map(trial).collect()).exit_code()
}
