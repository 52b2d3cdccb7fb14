//! `loom extend`: a longer life, counted from the weaver's creation; a shorter one if asked for.

use weaver::Ttl;

use crate::args::Global;
use crate::failure::Failure;
use crate::printable::printable;
use crate::{ids, out, server};

/// Set a weaver's lifetime, in hours since it was made
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom extend - 8         the last one lives 8 hours from its creation
  loom extend web 2d      two days, which is the most there is
  loom extend web 1 --shorten")]
pub(crate) struct Args {
    /// Which weaver
    id: String,
    /// Whole hours since it was made, 1 to 48; 8, 8h and 2d are understood
    #[arg(value_name = "TTL", value_parser = super::new::lifetime)]
    ttl: Ttl,
    /// Let it end sooner than it would now
    #[arg(long)]
    shorten: bool,
    /// Print JSON, as the API has it
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    let api = server::connect(global).await?;
    let id = ids::resolve(&api, &args.id).await?;
    let hours = args.ttl.hours();
    let now = api.client.get(&id).await?.lifetime_hours;
    if hours < now && !args.shorten {
        let what = format!("{id} lives {now}h since it was made; {hours}h would end it sooner");
        return Err(Failure::new(what).next("ask for more, or pass --shorten"));
    }
    let flag = |field: &str| (field == "lifetime_hours").then_some("TTL");
    let extended = api.client.extend(&id, hours).await;
    let view = extended.map_err(|error| Failure::of_field(error, flag))?;
    if args.json {
        out::print_json(&view)?;
    } else {
        let (id, end) = (printable(&view.id), view.expires_at);
        out::print(&format!("{id} ends at {end}, {} after it was made\n", args.ttl))?;
    }
    Ok(0)
}
