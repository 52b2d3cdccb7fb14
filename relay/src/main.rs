//! `loom-relay`: a door to the crate.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> ExitCode {
    let args = relay::Args::parse();
    service::outcome::exit_code("loom-relay", relay::run(args).await)
}
