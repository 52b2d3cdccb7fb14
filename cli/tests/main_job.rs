//! The main job on one machine: the real `loom`, its daemon, pods, and terminals that look at it.
//!
//! `LOOM_TEST_BIN` names another binary to test. Every case has a cluster of its own.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod support;

use std::process::ExitCode;

#[path = "main_job/attached.rs"]
mod attached;
#[path = "main_job/commands.rs"]
mod commands;
#[path = "main_job/copies.rs"]
mod copies;
#[path = "main_job/daemon.rs"]
mod daemon;
#[path = "main_job/images.rs"]
mod images;
#[path = "main_job/names.rs"]
mod names;
#[path = "main_job/pasted.rs"]
mod pasted;
#[path = "main_job/plain.rs"]
mod plain;
#[path = "main_job/ports.rs"]
mod ports;
#[path = "main_job/programs.rs"]
mod programs;
#[path = "main_job/room.rs"]
mod room;

fn main() -> ExitCode {
    let local = [
        attached::CASES,
        commands::CASES,
        copies::CASES,
        daemon::CASES,
        images::CASES,
        pasted::CASES,
        names::CASES,
        ports::CASES,
        programs::CASES,
        room::CASES,
    ]
    .concat();
    support::main(&local, plain::CASES)
}
