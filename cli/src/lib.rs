//! `loom`, the command line: what a person or a script does with weavers.
//!
//! It finds out which server is meant, calls it, and moves bytes between a weaver and this terminal.
//! It holds no logic of weavers. `loom dev` is the one place that starts the local cluster, handlers,
//! relay and janitor in one process.
//!
//! ```text
//! args -> verbs::* -> server (flag, environment, context, local) -> client -> handlers, relay
//!            |           `-> dev::start -> `loom dev` in the background
//!            `-> session: keys, raw mode, screen <-> client::Attach
//! ```

mod args;
mod config;
mod dev;
mod failure;
mod ids;
mod out;
mod printable;
mod server;
mod session;
mod table;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use dev::{IMAGE_FILES, image_files};
pub use failure::Failure;
pub use printable::printable;

use args::Cli;
use failure::{FAILED, FAILED_ATTACHED, USAGE};

/// Runs one command line, the program's name first, and returns its exit code.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error, &args),
    };
    let verb = cli.verb.plain();
    let failed = if verb.is_attached() { FAILED_ATTACHED } else { FAILED };
    match verbs::run(verb, &cli.global) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("loom: {failure}");
            ExitCode::from(failure.code(failed))
        }
    }
}

/// Shows help where it was asked for, else says in one line what is wrong.
fn misunderstood(error: &clap::Error, args: &[OsString]) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(USAGE)
        }
        _ => {
            eprintln!("loom: {}", args::explain(error, args));
            ExitCode::from(USAGE)
        }
    }
}
