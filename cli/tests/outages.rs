//! Parts of the cluster itself are killed with -9 while weavers are made and used: who asks meanwhile
//! is told so in time, what was promised is there afterwards, and once.
//!
//! `LOOM_TEST_RESTART` names the command that kills a part of the cluster of `LOOM_TEST_KUBECONFIG`
//! and starts it again: `COMMAND PART SECONDS`, with the parts' names as Kubernetes has them. A local
//! cluster has only one part, which stands for the API server. Nothing else may run on that cluster
//! meanwhile; the tests wait for each other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[expect(dead_code, reason = "other suites need the rest of it")]
mod stage;
#[expect(dead_code, reason = "other suites need the rest of it")]
mod support;

#[path = "outages/api_server.rs"]
mod api_server;
#[path = "outages/etcd.rs"]
mod etcd;
#[path = "outages/makers.rs"]
mod makers;
#[path = "outages/node.rs"]
mod node;
#[path = "outages/part.rs"]
mod part;
#[path = "outages/reader.rs"]
mod reader;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    support::heed_interrupts();
    let args = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let lacking = part::lacking();
    lacking.iter().flatten().for_each(|why| eprintln!("ignored: {why}"));
    if lacking.contains(&None) {
        stage::server::build_servers();
    }
    let [api, other] = lacking.map(|why| why.is_some());
    let trials = |cases: &[support::Case], ignored| -> Vec<_> {
        cases.iter().map(|case| support::trial(case).with_ignored_flag(ignored)).collect()
    };
    let others = [etcd::CASES, node::CASES].concat();
    let all = [trials(api_server::CASES, api), trials(&others, other)];
    libtest_mimic::run(&args, all.into_iter().flatten().collect()).exit_code()
}
