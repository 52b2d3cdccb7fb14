//! `loom weaver ps`: what there is.

use std::io::IsTerminal;
use std::time::Duration;

use client::ListQuery;
use weaver::Phase;
use wire::api::{WeaverList, WeaverView};
use wire::frame::Size;

use crate::args::Global;
use crate::failure::Failure;
use crate::server::{self, Api};
use crate::session::tty;
use crate::{out, table};

/// List weavers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom ps                       all weavers of your organization
  loom ps --status running      those that run
  loom ps --tag team=web        those with a tag
  loom ps --json | jq -r '.weavers[].id'")]
pub(crate) struct Args {
    /// Print JSON, as the API has it
    #[arg(long)]
    json: bool,
    /// Show the list again whenever it changes, until Ctrl+C
    #[arg(long, short)]
    watch: bool,
    /// Only those with a tag; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::new::tag)]
    tag: Vec<(String, String)>,
    /// Only those of a status: pending, running, succeeded, failed, unknown
    #[arg(long, value_parser = phase)]
    status: Option<Phase>,
}

/// How often the list is asked for while it is watched.
const INTERVAL: Duration = Duration::from_secs(1);

fn phase(text: &str) -> Result<Phase, String> {
    use Phase::{Failed, Pending, Running, Succeeded, Unknown};
    let all = [Pending, Running, Succeeded, Failed, Unknown];
    let named = |phase: &Phase| phase.to_string().eq_ignore_ascii_case(text);
    let names = "one of pending, running, succeeded, failed, unknown";
    all.into_iter().find(named).ok_or_else(|| names.to_owned())
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    let api = server::connect(global).await?;
    let tags = args.tag.iter().cloned().collect();
    let query = ListQuery { tags, status: args.status, ..ListQuery::default() };
    let weavers = api.client.list(&query).await?;
    show(&args, &weavers)?;
    if args.watch {
        watch(&api, &args, &query, weavers).await?;
    }
    Ok(0)
}

fn show(args: &Args, weavers: &[WeaverView]) -> Result<(), Failure> {
    if args.json {
        return out::print_json(&WeaverList { weavers: weavers.to_vec(), next: None });
    }
    out::print(&table::table(weavers))?;
    if weavers.is_empty() && !args.watch && std::io::stderr().is_terminal() {
        eprintln!("no weavers; `loom new` makes one");
    }
    Ok(())
}

/// Shows the list again when it has changed; on a terminal in the same place.
async fn watch(
    api: &Api,
    args: &Args,
    query: &ListQuery,
    mut shown: Vec<WeaverView>,
) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let weavers = match api.client.list(query).await {
            Ok(weavers) => weavers,
            Err(error) if error.is_transient() => continue,
            Err(error) => return Err(error.into()),
        };
        if table::table(&weavers) == table::table(&shown) {
            continue;
        }
        if let (false, true, Some(size)) = (args.json, std::io::stdout().is_terminal(), tty::size())
        {
            out::print(&back_over(&table::table(&shown), size))?;
        }
        show(args, &weavers)?;
        shown = weavers;
    }
}

/// Returns what takes the cursor back to where a text began, and clears from there.
fn back_over(text: &str, size: Size) -> String {
    let wide = usize::from(size.cols);
    let lines = text.lines().map(|line| line.chars().count().div_ceil(wide).max(1));
    match lines.sum::<usize>() {
        lines if lines < usize::from(size.rows) => format!("\x1b[{lines}A\x1b[J"),
        // Its beginning has left the screen.
        _ => "\x1b[H\x1b[2J".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_wrap_count_as_often_as_they_stand_there() {
        let size = Size { rows: 5, cols: 4 };
        assert_eq!(back_over("ab\n", size), "\x1b[1A\x1b[J");
        assert_eq!(back_over("abcd\n", size), "\x1b[1A\x1b[J");
        assert_eq!(back_over("abcde\n\nx\n", size), "\x1b[4A\x1b[J");
        assert_eq!(back_over("abcde\n\nx\ny\n", size), "\x1b[H\x1b[2J");
    }
}
