//! The door of `loom-janitor`.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let result = janitor::run(janitor::Args::parse()).await;
    service::outcome::exit_code("loom-janitor", result)
}
