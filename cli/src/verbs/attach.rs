//! `loom attach`: this terminal on a running weaver.

use std::time::Duration;

use client::ListQuery;
use weaver::{Phase, WeaverId};
use wire::api::WeaverView;
use wire::frame::Hello;

use crate::args::Global;
use crate::failure::{FAILED_ATTACHED, Failure};
use crate::printable::printable;
use crate::server::{self, Api};
use crate::session::wait::{self, Waited};
use crate::session::{self, Begin, End, Signals};
use crate::{ids, out};

/// The exit code of a program that was killed by SIGKILL.
pub(super) const KILLED: i32 = 128 + 9;
/// How often and how soon the cluster is asked again what has killed it.
const NOTED: usize = 30;
const LOOK: Duration = Duration::from_millis(100);

/// Attach this terminal to a running weaver
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom attach             the only one that runs
  loom attach -           the last one used
  loom attach web         by its name

Ctrl+D on an empty line, exit or ~d detach; ~. gives up a dead connection; ~? shows the keys.
Several people can be attached to the same weaver at once; all see the same session.
Of a weaver that was made with --keep-entrypoint you see what its program writes from now on, and
Ctrl+D goes to that program.

Exit code: the program's when it ended while you were attached, 0 when you detached, 255 when
loom itself failed.")]
pub(crate) struct Args {
    /// Which weaver; without it the only one that runs
    id: Option<String>,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    let api = server::connect(global).await?;
    let view = match &args.id {
        Some(given) => api.client.get(&ids::resolve(&api, given).await?).await?,
        None => only_running(&api).await?,
    };
    let id: WeaverId = view.id.parse()?;
    api.remember(&id);
    if matches!(view.status, Phase::Succeeded | Phase::Failed) {
        return Err(wait::why(&view));
    }
    let mut signals = Signals::listen()?;
    let options = wait::options(false);
    match wait::attached(&api, &view, &options, &mut signals).await? {
        Waited::Attached(attach, hello) => {
            let begin = begin(&view, hello, false);
            let end = session::run(*attach, begin, &mut signals).await?;
            conclude(&api, &id, end).await
        }
        Waited::Ended(end) => conclude(&api, &id, end).await,
        Waited::Interrupted => Ok(FAILED_ATTACHED),
        Waited::Stuck(failure) => Err(failure),
    }
}

/// Returns how a session begins; says so where the image's own program has it, whose session nobody
/// keeps. Who has just `made` it without a terminal sees it as any program.
pub(crate) fn begin(view: &WeaverView, hello: Hello, made: bool) -> Begin {
    let Hello { tty, input, .. } = hello;
    if view.keep_entrypoint && tty {
        let id = &view.id;
        eprintln!("loom: this is the image's own program; what it wrote before: `loom logs {id}`");
        eprintln!("loom: Enter may bring a prompt, Ctrl+D goes to the program, ~d detaches");
    } else if view.keep_entrypoint && !made {
        eprintln!("loom: this program was made without a terminal: it reads nothing from here");
    }
    Begin { tty, input, shared: !view.keep_entrypoint }
}

async fn only_running(api: &Api) -> Result<WeaverView, Failure> {
    let list = async |status| {
        let query = ListQuery { status: Some(status), ..ListQuery::default() };
        api.client.list(&query).await
    };
    // A cluster tells of a start a moment after it, and who starts is waited for. Asked in this
    // order, one that starts meanwhile is not missed.
    let pending = list(Phase::Pending).await?;
    let mut running = list(Phase::Running).await?;
    if running.is_empty() {
        running = pending;
    }
    match (running.pop(), running.is_empty()) {
        (Some(view), true) => Ok(view),
        (None, _) => Err(Failure::new("no weaver is running").next("`loom new` makes one")),
        (Some(_), false) => Err(Failure::new(format!("{} weavers are running", running.len() + 1))
            .next("name one: `loom ps` shows them, - is the last one used")),
    }
}

/// Says how a session ended and returns its exit code.
pub(crate) async fn conclude(api: &Api, id: &WeaverId, end: End) -> Result<u8, Failure> {
    let back = format!("come back with: loom attach {id}");
    match end {
        End::Exit(code) => {
            if code == KILLED {
                say_who_killed(api, id).await;
            }
            Ok(exit_code(code))
        }
        End::Detached => {
            eprintln!("detached; {back}");
            Ok(0)
        }
        End::Disconnected => Err(Failure::new("disconnected").next(back)),
        End::Signalled => Err(Failure::new("interrupted; the weaver runs on").next(back)),
        End::Unread => Err(Failure::new("nobody reads the output any more").next(back)),
        End::Lost(why) => lost(api, id, &why).await,
    }
}

/// Finds out whether only the connection is gone or the weaver too.
async fn lost(api: &Api, id: &WeaverId, why: &str) -> Result<u8, Failure> {
    let broken = || {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Failure::new(format!("the connection was lost{why}"))
            .next(format!("come back with: loom attach {id}"))
    };
    // A pod that is being ended is still there for a moment.
    if matches!(why, "weaver deleted" | "weaver expired") {
        return Err(Failure::new(format!("{id}: {why}")));
    }
    let view = match api.client.get(id).await {
        Ok(view) => view,
        Err(error) if error.code() == Some(wire::problem::Code::NotFound) => {
            return Err(Failure::new(format!("{id} was deleted")));
        }
        Err(_) => return Err(broken()),
    };
    match (view.status, view.exit_code) {
        (Phase::Succeeded | Phase::Failed, Some(code)) => {
            if code > 128 {
                say_why(&view);
            }
            Ok(exit_code(code))
        }
        (Phase::Succeeded | Phase::Failed, None) => Err(wait::why(&view)),
        (Phase::Pending | Phase::Running | Phase::Unknown, _) => Err(broken()),
    }
}

/// Says what killed a program that did not end by itself, as soon as the cluster has noted it.
async fn say_who_killed(api: &Api, id: &WeaverId) {
    for _ in 0..NOTED {
        let Ok(view) = api.client.get(id).await else { return };
        if matches!(view.status, Phase::Succeeded | Phase::Failed) {
            return say_why(&view);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Says why a weaver was ended, if there is more to it than its program's exit code.
fn say_why(view: &WeaverView) {
    let reason = view.reason.as_deref().filter(|reason| !matches!(*reason, "Error" | "Completed"));
    let Some(reason) = reason else { return };
    let words = view.message.as_deref().map(|words| format!(": {words}")).unwrap_or_default();
    eprintln!("loom: the program was ended: {}", printable(&format!("{reason}{words}")));
}

/// What did not come through an attach that was too late is still in the log.
pub(crate) async fn print_log(api: &Api, id: &WeaverId) -> Result<(), Failure> {
    let mut log = api.client.logs(id, &client::LogsQuery::default()).await?;
    while let Some(bytes) = log.next().await? {
        out::print_bytes(&bytes)?;
    }
    Ok(())
}

/// A process returns 8 bits.
fn exit_code(code: i32) -> u8 {
    u8::try_from(code & 0xff).unwrap_or(FAILED_ATTACHED)
}
