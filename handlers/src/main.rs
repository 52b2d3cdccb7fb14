//! The door of `loom-handlers`.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let result = handlers::run(handlers::Args::parse()).await;
    service::outcome::exit_code("loom-handlers", result)
}
