//! The life of weavers through the separate programs: `loom-handlers`, `loom-relay`, `loom-janitor`
//! and `loom --server-url`, on the cluster of `LOOM_TEST_KUBECONFIG` or else on a local one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[expect(dead_code, reason = "other suites kill and restart its parts")]
mod stage;
#[expect(dead_code, reason = "other suites need the rest of it")]
mod support;

#[path = "life/doctor.rs"]
mod doctor;
#[path = "life/entrypoint.rs"]
mod entrypoint;
#[path = "life/expiry.rs"]
mod expiry;
#[path = "life/plain_client.rs"]
mod plain_client;
#[path = "life/refused.rs"]
mod refused;
#[path = "life/rights.rs"]
mod rights;
#[path = "life/shards.rs"]
mod shards;
#[path = "life/start.rs"]
mod start;
#[path = "life/web_socket.rs"]
mod web_socket;
#[path = "life/whole.rs"]
mod whole;

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::server::build_servers();
    let cases = [
        whole::CASES,
        entrypoint::CASES,
        expiry::CASES,
        shards::CASES,
        start::CASES,
        plain_client::CASES,
        rights::CASES,
        doctor::CASES,
    ]
    .concat();
    // Each says what has no counterpart on the other side.
    if stage::is_given() {
        let real = [rights::REAL, refused::REAL, doctor::REAL].concat();
        support::main(&[], &[cases, real].concat())
    } else {
        support::main(&[&cases, doctor::LOCAL].concat(), &[])
    }
}
