//! How a program ends: an exit code, and one line on stderr when it failed.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Turns a result into an exit code; an error is printed with its causes, in one line.
pub fn exit_code<E: Display>(program: &str, result: Result<(), E>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // `#` makes anyhow print the whole chain of causes.
    // With nobody to tell, the exit code says it.
    let _ = writeln!(std::io::stderr(), "{program}: {error:#}");
    ExitCode::FAILURE
}
