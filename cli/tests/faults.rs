//! Each part is killed with -9 while weavers are made and used: what must survive survives, what
//! dies is reported as Kubernetes would.
//!
//! The parts of a deployment are killed on the cluster of `LOOM_TEST_KUBECONFIG` or else on a local
//! one; the parts of the local cluster on a local one. `LOOM_TEST_NODE_IS_HERE` says that the
//! programs of the given cluster's pods are processes of this machine.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[expect(dead_code, reason = "other suites need the rest of it")]
mod stage;
#[expect(dead_code, reason = "other suites need the rest of it")]
mod support;

#[path = "faults/away.rs"]
mod away;
#[path = "faults/daemon.rs"]
mod daemon;
#[path = "faults/handlers.rs"]
mod handlers_killed;
#[path = "faults/host.rs"]
mod host_killed;
#[path = "faults/janitor.rs"]
mod janitor_killed;
#[path = "faults/many.rs"]
mod many;
#[path = "faults/power.rs"]
mod power;
#[path = "faults/processes.rs"]
mod processes;
#[path = "faults/relay.rs"]
mod relay_killed;
#[path = "faults/shim.rs"]
mod shim;
#[path = "faults/users.rs"]
mod users;

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::server::build_servers();
    let mut anywhere =
        [relay_killed::CASES, handlers_killed::CASES, janitor_killed::CASES].concat();
    if !stage::is_given() || std::env::var_os("LOOM_TEST_NODE_IS_HERE").is_some() {
        anywhere.extend(host_killed::CASES);
    }
    let local =
        [daemon::CASES, away::CASES, users::CASES, shim::CASES, power::CASES, many::CASES].concat();
    if stage::is_given() {
        support::main(&local, &anywhere)
    } else {
        support::main(&[anywhere, local].concat(), &[])
    }
}
