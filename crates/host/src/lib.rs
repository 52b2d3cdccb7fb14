//! The first process of a weaver: it owns the terminal, the session and the Unix socket.
//!
//! It moves bytes; `terminal` decides which. It opens no network connection, keeps no key, and is
//! static, so that nothing of the user's environment (`LD_*`, `BASH_ENV`, …) reaches it.
//!
//! ```text
//! shell or command <-PTY or pipes-> drive <-> Generation(terminal::Session) <-> link <-socket-> connect <-exec-> relay
//!                                     └-> own stdout, for `kubectl logs`
//! ```
//!
//! - One run of the program is one *generation*: a new session id, offsets from 0, an empty ring.
//!   When the user's default shell ends, its viewers are sent what is left and `Left("exit")`; the
//!   next viewer that comes starts the next generation.
//! - Ctrl+D on an empty line detaches only from the default shell while it is in front. A command
//!   that the user gave always gets 0x04.
//! - A viewer is sent at most 256 KiB that it has not acknowledged, and keeps at most 256 KiB of
//!   input unacknowledged. It answers `Exit` and `Left` by closing: the host waits for that before
//!   it ends, at most a few seconds.

mod args;
mod connect;
mod drive;
mod environment;
mod generation;
mod install;
mod link;
mod log;
mod passwd;
mod program;
mod repository;
mod run;
mod serve;
mod shell;
mod signals;
mod translate;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::{Args, USAGE};

/// Where the socket is, unless `LOOM_HOST_SOCKET` says otherwise.
pub const SOCKET: &str = "/run/loom/run/host.sock";
/// The variable that moves the socket.
pub const SOCKET_ENV: &str = "LOOM_HOST_SOCKET";

/// Runs `loom-host` with its arguments, the program's own name first.
///
/// Must be called before any thread is started.
pub fn main_from_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::parse(args.skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("loom-host: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match args {
        Args::Run(plan) => run::run(plan),
        Args::Connect => connect::connect(&socket_path()),
        Args::Ready => connect::ready(&socket_path()),
        Args::Install(folder) => install::install(&folder),
        Args::Shell(path, program) => shell::go_on(&path, &program),
        Args::Version => {
            println!("loom-host {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

fn socket_path() -> PathBuf {
    std::env::var_os(SOCKET_ENV).map_or_else(|| PathBuf::from(SOCKET), PathBuf::from)
}
