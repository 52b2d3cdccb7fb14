//! What the tests share.

pub(crate) mod daemon;

use std::process::ExitCode;

use libtest_mimic::Arguments;

pub(crate) fn run() -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), Vec::new()).exit_code()
}
