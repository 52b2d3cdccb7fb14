//! `loom-host`, the first process of a weaver.

use std::process::ExitCode;

fn main() -> ExitCode {
    host::main_from_args(std::env::args_os())
}
