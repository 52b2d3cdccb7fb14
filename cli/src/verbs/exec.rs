//! `loom exec`: a program beside a weaver's session.

use client::ExecOptions;

use crate::args::Global;
use crate::failure::Failure;
use crate::session::{self, Begin, End, Signals, tty};
use crate::{ids, server};

/// Run a program in a weaver, beside its session, and return its exit code
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom exec - -- ls -l /workspace
  loom exec - -t -- top               with a terminal
  tar c src | loom exec - -- tar x    standard input is passed on")]
pub(crate) struct Args {
    /// Which weaver
    id: String,
    /// Give the program a terminal
    #[arg(long, short)]
    tty: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    let api = server::connect(global).await?;
    let id = ids::resolve(&api, &args.id).await?;
    let view = api.client.get(&id).await?;
    let size = args.tty.then(tty::size).flatten();
    let options = ExecOptions { command: args.command, tty: args.tty, size };
    let mut signals = Signals::listen()?;
    let attach = api.client.exec(&view.attach_url, &options).await?;
    let begin = Begin { tty: args.tty, input: 0, shared: false };
    match session::run(attach, begin, &mut signals).await? {
        End::Exit(code) => Ok(u8::try_from(code & 0xff).unwrap_or(1)),
        End::Lost(why) => Err(Failure::new(format!("the program's end was not seen: {why}"))),
        End::Detached | End::Disconnected | End::Signalled => Err(Failure::new("interrupted")),
        End::Unread => Err(Failure::new("nobody reads the output any more")),
    }
}
