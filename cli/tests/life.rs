//! The life of weavers through the separate programs: `loom-handlers`, `loom-relay`, `loom-janitor`
//! and `loom --server-url`, on the cluster of `LOOM_TEST_KUBECONFIG` or else on a local one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[expect(dead_code, reason = "other suites kill and restart its parts")]
mod stage;
#[expect(dead_code, reason = "other suites need the rest of it")]
mod support;

#[path = "life/entrypoint.rs"]
mod entrypoint;
#[path = "life/expiry.rs"]
mod expiry;
#[path = "life/plain_client.rs"]
mod plain_client;
#[path = "life/start.rs"]
mod start;
#[path = "life/web_socket.rs"]
mod web_socket;
#[path = "life/whole.rs"]
mod whole;

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::server::build_servers();
    let cases = [whole::CASES, entrypoint::CASES, expiry::CASES, start::CASES, plain_client::CASES]
        .concat();
    if stage::is_given() { support::main(&[], &cases) } else { support::main(&cases, &[]) }
}
