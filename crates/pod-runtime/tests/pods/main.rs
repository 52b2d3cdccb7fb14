//! Real pods on this machine, as whoever runs the tests: root or an ordinary user.
//!
//! This binary is also the pods' shim (`pod-shim`) and, inside them, the hostile program
//! (`inside`). What this machine does not allow is ignored, with the reason.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it is")]

mod abuse;
mod answers;
mod attached;
mod fixture;
mod inside;
mod lasting;
mod life;
mod limits;
mod network;
mod probes;
mod programs;
mod spare;
mod unpacked;
mod volumes;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test needs beyond namespaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Cgroups,
    NoCgroups,
    Tun,
    Root,
    Ranges,
}

type Test = (&'static str, Needs, fn() -> Result<(), Failed>);

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "pod-shim").is_some() {
        let args: Vec<_> = args.collect();
        lasting::while_held(args.get(1));
        return pod_runtime::shim_main(args);
    }
    if args.next_if(|arg| arg == "start").is_some() {
        return lasting::start_from_stdin(args);
    }
    if args.next_if(|arg| arg == "inside").is_some() {
        return inside::main(args);
    }
    let checks = pod_runtime::probe(&std::env::temp_dir());
    let missing = |name: &str| {
        let check = checks.iter().find(|check| check.name == name);
        check.filter(|check| !check.ok).map(|check| check.detail.clone())
    };
    let fatal = checks.iter().find(|check| check.fatal && !check.ok);
    let trial = |in_spares: bool, (name, needs, run): &Test| {
        let reason = fatal.map(|check| check.detail.clone());
        let reason = reason.or_else(|| lacking(*needs, missing));
        if let Some(reason) = &reason {
            println!("{name} is ignored: {reason}");
        }
        let (name, run) = (format!("{name}{}", if in_spares { "_in_a_spare" } else { "" }), *run);
        let set_and_run = move || {
            fixture::IN_SPARES.set(in_spares);
            run()
        };
        Trial::test(name, set_and_run).with_ignored_flag(reason.is_some())
    };
    let (both, cold) = all_tests();
    let cold = both.iter().chain(&cold).map(|test| trial(false, test));
    let trials = cold.chain(both.iter().map(|test| trial(true, test))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Those that are run once more in spares, and those that are not.
fn all_tests() -> (Vec<Test>, Vec<Test>) {
    let suites = [
        life::TESTS,
        limits::TESTS,
        network::TESTS,
        probes::TESTS,
        programs::TESTS,
        attached::TESTS,
        volumes::TESTS,
        lasting::TESTS,
        abuse::TESTS,
        unpacked::TESTS,
    ];
    (suites.concat(), [lasting::COLD, limits::COLD, spare::TESTS, unpacked::COLD].concat())
}

fn lacking(needs: Needs, missing: impl Fn(&str) -> Option<String>) -> Option<String> {
    let root = nix::unistd::geteuid().is_root();
    match needs {
        Needs::Nothing => None,
        Needs::Cgroups => missing("cgroups"),
        Needs::NoCgroups if root || missing("cgroups").is_some() => None,
        Needs::NoCgroups => Some("limits can be had".to_owned()),
        Needs::Tun => missing("tun"),
        Needs::Root => (!root).then(|| "it mounts a file system".to_owned()),
        Needs::Ranges if root => Some("root needs no ranges".to_owned()),
        Needs::Ranges => missing("ids"),
    }
}
