//! The stack between the kernel of a pod's network namespace and the kernel of a host's.
//!
//! Each case runs in namespaces of its own, so that no real network is touched:
//!
//! ```text
//! this test -> unshare (user + net: "the host", 192.0.2.1 on its lo)
//!                |-- unshare (net: "the pod", a TUN)  <- pod role: an ordinary client
//!                '-- host role: servers and netstack::run on the TUN
//! ```
//!
//! The same binary plays all roles, told apart by an environment variable. The TUN reaches the
//! host role as its standard input: perl (part of every Debian) does the ioctls.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

mod cases;
mod host;
mod load;
mod names;
mod pod;
mod rig;
mod six;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A case, by its name.
type Case = (&'static str, fn());

fn every_case() -> impl Iterator<Item = &'static Case> {
    cases::ALL.iter().chain(six::ALL).chain(names::ALL).chain(load::ALL)
}

fn main() -> ExitCode {
    match std::env::var("NETSTACK_ROLE").as_deref() {
        Ok("namespace") => rig::in_namespace(),
        Ok("host") => host::play(),
        Ok("pod") => pod::play(),
        _ => suite(),
    }
}

fn suite() -> ExitCode {
    let arguments = Arguments::from_args();
    let obstacle = if arguments.list { None } else { rig::run("nothing").err() };
    if let Some(obstacle) = &obstacle {
        eprintln!("user_net is ignored: {obstacle}");
    }
    let trials = every_case().map(|(name, _)| {
        Trial::test(*name, || rig::run(name).map_err(Failed::from))
            .with_ignored_flag(obstacle.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
