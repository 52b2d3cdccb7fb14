//! Serves the TUN that comes as standard input until it is killed: the stack alone, for
//! `task bench:net`. Programs behind it may reach addresses of this machine.

use std::os::fd::AsFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = netstack::Config::new(std::io::stdin().as_fd().try_clone_to_owned()?);
    config.offload = std::env::args().any(|word| word == "offload");
    config.policy = config.policy.reaching_this_machine();
    let (stopped, _stop) = std::io::pipe()?;
    Ok(netstack::run(config, stopped.into())?)
}
