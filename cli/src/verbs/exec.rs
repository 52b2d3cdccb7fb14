//! `loom exec`: a program beside a weaver's session.

use std::time::Duration;

use client::ExecOptions;
use weaver::{Phase, WeaverId};
use wire::api::WeaverView;

use super::attach::KILLED;
use crate::args::Global;
use crate::failure::Failure;
use crate::printable::printable;
use crate::server::Api;
use crate::session::{self, Begin, End, Signals, tty};
use crate::{ids, server};

/// How often and how soon is looked whether the weaver ended with its program.
const LOOKS: usize = 15;
const LOOK: Duration = Duration::from_millis(100);

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
        End::Exit(code) => {
            if code == KILLED {
                say_who_killed(&api, &id).await;
            }
            Ok(u8::try_from(code & 0xff).unwrap_or(1))
        }
        End::Lost(why) => Err(Failure::new(format!("the program's end was not seen: {why}"))),
        End::Detached | End::Disconnected | End::Signalled => Err(Failure::new("interrupted")),
        End::Unread => Err(Failure::new("nobody reads the output any more")),
    }
}

/// Says what may have killed a program: nobody tells of one that was not the weaver's first.
async fn say_who_killed(api: &Api, id: &WeaverId) {
    let mut view = api.client.get(id).await.ok();
    for _ in 1..LOOKS {
        if view.as_ref().is_none_or(|view| view.status != Phase::Running) {
            break;
        }
        tokio::time::sleep(LOOK).await;
        view = api.client.get(id).await.ok();
    }
    eprintln!("loom: {}", printable(&killed(view.as_ref())));
}

fn killed(view: Option<&WeaverView>) -> String {
    let program = "the program was killed (signal 9)";
    let Some(view) = view else { return format!("{program}, and its weaver is gone") };
    if view.status == Phase::Running {
        let limit = view.resources.memory_mb.map(|mib| format!(" of {mib} MiB"));
        let limit = limit.unwrap_or_default();
        return format!(
            "{program}, perhaps for memory: the weaver's limit{limit} is for all in it"
        );
    }
    let words = [view.reason.as_deref(), view.message.as_deref()];
    let why = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
    format!("{program} with its weaver: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_killed_is_said_as_far_as_it_is_known() {
        let sample = crate::table::sample();
        let resources = wire::api::Resources { memory_mb: Some(2048), ..sample.resources };
        let running = WeaverView { status: Phase::Running, resources, ..sample.clone() };
        let said = killed(Some(&running));
        assert!(said.contains("signal 9") && said.contains("2048 MiB"), "{said}");
        let reason = Some("OOMKilled".to_owned());
        let message = Some("it used more memory than its limit of 2Gi".to_owned());
        let ended = WeaverView { status: Phase::Failed, reason, message, ..sample };
        assert_eq!(
            killed(Some(&ended)),
            "the program was killed (signal 9) with its weaver: OOMKilled: it used more memory than \
             its limit of 2Gi"
        );
        assert!(killed(None).ends_with("its weaver is gone"));
    }
}
