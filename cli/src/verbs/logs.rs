//! `loom logs`: what a weaver's program has written.

use std::io::IsTerminal;

use client::LogsQuery;

use crate::args::Global;
use crate::failure::Failure;
use crate::{ids, out, server};

mod filter;

use filter::Filter;

/// Print what a weaver's program has written
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom logs -             of the last weaver used
  loom logs -f web        and go on as more is written
  loom logs --tail 20 -   the last 20 lines

On a terminal you get text and colours, and nothing else that a terminal would obey; --raw prints
the bytes as they are.")]
pub(crate) struct Args {
    /// Which weaver
    id: String,
    /// Go on with what is written from now on
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// On a terminal too, print the bytes as they are
    #[arg(long)]
    raw: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    let api = server::connect(global).await?;
    let id = ids::resolve(&api, &args.id).await?;
    let query = LogsQuery { follow: args.follow, tail: args.tail };
    let mut log = api.client.logs(&id, &query).await?;
    let mut filter = (std::io::stdout().is_terminal() && !args.raw).then(Filter::default);
    while let Some(bytes) = log.next().await? {
        match &mut filter {
            Some(filter) => out::print(&filter.feed(&bytes))?,
            None => out::print_bytes(&bytes)?,
        }
    }
    Ok(0)
}
