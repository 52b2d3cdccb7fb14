//! `loom weaver delete`, also `loom rm`.

use serde::Serialize;

use crate::args::Global;
use crate::failure::{FAILED, Failure};
use crate::{ids, out, server};

/// Delete weavers: their pods end at once and all their data is gone
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom rm -                   the last one used
  loom weaver delete web 3f2a two of them, by name and by the end of an id")]
pub(crate) struct Args {
    /// Which weavers: whole ids, names, unique beginnings or ends, or - for the last one used
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Deleted {
    deleted: Vec<String>,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    let api = server::connect(global).await?;
    let mut deleted = Vec::new();
    let mut failed = 0;
    for given in &args.ids {
        let done = match ids::to_delete(&api, given).await {
            Ok(id) => api.delete(&id).await.map(|()| id).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match done {
            Ok(id) => deleted.push(id.to_string()),
            Err(failure) if args.ids.len() == 1 => return Err(failure),
            Err(failure) => {
                eprintln!("loom: {failure}");
                failed = FAILED;
            }
        }
    }
    if args.json {
        out::print_json(&Deleted { deleted })?;
    } else {
        out::print(&deleted.iter().map(|id| format!("deleted {id}\n")).collect::<String>())?;
    }
    Ok(failed)
}
