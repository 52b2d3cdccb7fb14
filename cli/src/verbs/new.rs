//! `loom new`: a fresh weaver, and this terminal in it.

use std::collections::BTreeMap;

use weaver::{
    Branch, Env, FieldError, Image, OrgId, Publish, RepoUrl, Tags, Terminal, Ttl, WeaverId,
    WeaverName,
};
use wire::api::{CreateWeaver, Resources, WeaverView};

use super::attach;
use crate::args::Global;
use crate::config::Config;
use crate::failure::{FAILED_ATTACHED, Failure};
use crate::out;
use crate::printable::printable;
use crate::server::{self, Api};
use crate::session::wait::{self, Ready, Waited};
use crate::session::{self, End, Signals, tty};

/// Make a weaver and attach this terminal to it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom new --local                                     on this machine
  loom new --ttl 8 --cpu 4 --memory 8Gi                for 8 hours, with more than usual
  loom new --repo https://github.com/user/project      starts in a clone of it
  loom new -e DEBUG=1 --name web                       with a variable and a name of its own
  loom new --local -p 8080:80                          127.0.0.1:8080 leads to its port 80
  loom new --rm -- make test                           runs a program, returns its code, is gone
  id=$(loom new --no-attach)                           only makes it and prints its id
  loom new --image debian:12                           another image
  loom new --image debian:12 --root                    as root, so that apt can install
  loom new --image redis:7 --keep-entrypoint           runs what the image is made to run
  loom new --image psql:1 --keep-entrypoint -- --help  the same, with arguments

Without a terminal: with CMD its output is passed on as it is, without CMD the id is printed.
Ctrl+D on an empty line or exit detaches; the weaver lives on until its time is over.

With --keep-entrypoint the image's ENTRYPOINT and CMD are the weaver's program, in the image's own
folder, and the weaver ends with it. Its terminal is had through Kubernetes: you see what it writes
from the time you attach (`loom logs` has the rest), Ctrl+D goes to the program, ~d detaches, and
who changes the size last sets it for all. Nothing of loom is in it: no /workspace, no --repo. What
you give behind -- are its arguments. Without a terminal all of its output is passed on.

Exit code: the program's when it ended while you were attached, 0 when you detached, 255 when
loom itself failed.")]
pub(crate) struct Args {
    /// Container image; without it the server's default
    #[arg(long, allow_hyphen_values = true)]
    image: Option<Image>,
    /// Organization the weaver belongs to; without it your personal one
    #[arg(long)]
    org: Option<OrgId>,
    /// Git repository to clone, a public https URL
    #[arg(long, value_name = "URL")]
    repo: Option<RepoUrl>,
    /// Branch, tag or commit to check out after cloning
    #[arg(long, requires = "repo", allow_hyphen_values = true)]
    branch: Option<Branch>,
    /// Environment variable for the container; can be given several times
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Lifetime in hours, 1 to 48; 8, 8h and 2d are understood [default: 4]
    #[arg(long, value_name = "HOURS", allow_hyphen_values = true, value_parser = lifetime)]
    ttl: Option<Ttl>,
    /// A name of its own, unique among your weavers
    #[arg(long)]
    name: Option<WeaverName>,
    /// Label to find it by; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
    /// CPUs it may use, such as 500m, 2 or 0.5; without it the server's default
    #[arg(long, value_name = "CPUS", value_parser = cluster::millicores)]
    cpu: Option<u64>,
    /// Memory it may use, such as 512Mi or 2Gi; without it the server's default
    #[arg(long, value_name = "SIZE", value_parser = cluster::mebibytes)]
    memory: Option<u64>,
    /// Port of this machine's 127.0.0.1 that leads into the weaver; can be given several times
    #[arg(long, short, value_name = "HOST:CONTAINER", allow_hyphen_values = true, value_parser = publish)]
    publish: Vec<Publish>,
    /// Be root in it, so that packages can be installed: in a user namespace, where the server allows
    /// it
    #[arg(long)]
    root: bool,
    /// Run the image's own program (ENTRYPOINT and CMD) rather than a shell
    #[arg(long)]
    keep_entrypoint: bool,
    /// Wait until it is ready, print its id, and leave it alone
    #[arg(long)]
    no_attach: bool,
    /// Delete it when the session ends or is detached
    #[arg(long, conflicts_with_all = ["no_attach", "json"])]
    rm: bool,
    /// Print the weaver as JSON, as the API has it; implies --no-attach
    #[arg(long)]
    json: bool,
    /// Program to run instead of a shell; the weaver ends with it. With --keep-entrypoint, arguments
    /// of the image's program
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Reads `KEY=VALUE`; the whole environment is checked when it is complete.
fn variable(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err("write it as KEY=VALUE".to_owned());
    };
    let pair = (key.to_owned(), value.to_owned());
    let one = BTreeMap::from([pair.clone()]);
    Env::try_from(one).map(|_| pair).map_err(|error| error.to_string())
}

/// Reads a lifetime; what is wrong follows the flag's name.
pub(super) fn lifetime(text: &str) -> Result<Ttl, String> {
    text.parse().map_err(|error: FieldError| error.why)
}

/// Reads a port; what is wrong follows the flag's name.
fn publish(text: &str) -> Result<Publish, String> {
    text.parse().map_err(|error: FieldError| error.why)
}

/// Reads a tag, `KEY=VALUE`.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err("write it as KEY=VALUE".to_owned());
    };
    let pair = (key.to_owned(), value.to_owned());
    let one = BTreeMap::from([pair.clone()]);
    Tags::try_from(one).map(|_| pair).map_err(|error| error.to_string())
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    if args.keep_entrypoint && args.repo.is_some() {
        let why =
            "--repo is cloned by loom's own first process, which --keep-entrypoint leaves out";
        return Err(Failure::usage(why).next("let the image's program clone it"));
    }
    let env = Env::try_from(args.env.iter().cloned().collect::<BTreeMap<_, _>>())?;
    let secret: Vec<_> = env.secret_looking().map(str::to_owned).collect();
    let api = server::connect(global).await?;
    if api.local && global.local {
        Config::adopt_local(&api.dirs)?;
    }
    if !secret.is_empty() {
        let names = printable(&secret.join(", "));
        eprintln!("loom: warning: {names} can be read in the pod's spec by whoever may see it");
    }
    let attaches = args.attaches();
    let mut signals = Signals::listen()?;
    let Some(view) = create(&api, &args, env, &mut signals).await? else {
        return Ok(FAILED_ATTACHED);
    };
    let id: WeaverId = view.id.parse()?;
    api.remember(&id);
    if attaches {
        attach(&api, &view, &id, args.rm, &mut signals).await
    } else {
        leave(&api, &id, args.json, &mut signals).await
    }
}

/// Makes the weaver; `None` when Ctrl+C came meanwhile and it is deleted again.
async fn create(
    api: &Api,
    args: &Args,
    env: Env,
    signals: &mut Signals,
) -> Result<Option<WeaverView>, Failure> {
    let key = uuid::Uuid::new_v4().simple().to_string();
    let request = request(args, env);
    let made = api.client.create(&request, Some(&key));
    tokio::pin!(made);
    tokio::select! {
        view = &mut made => view.map(Some).map_err(|error| Failure::of_field(error, flag)),
        () = signals.stop() => {
            // Whether the pod is there is known only when the answer has come.
            let id = made.await?.id.parse()?;
            take_back(api, &id, signals).await?;
            Ok(None)
        }
    }
}

impl Args {
    /// Tells whether there is something to show here: not a shell that nobody could type into.
    fn attaches(&self) -> bool {
        let has_program = self.keep_entrypoint || !self.command.is_empty();
        !self.no_attach && !self.json && (tty::is_interactive() || has_program)
    }

    /// Tells whether the program is to run on a terminal.
    fn tty(&self) -> bool {
        let for_later = match self.keep_entrypoint {
            true => !self.attaches(),
            false => self.command.is_empty(),
        };
        for_later || tty::is_interactive()
    }
}

fn request(args: &Args, env: Env) -> CreateWeaver {
    let text = |value: &dyn std::fmt::Display| value.to_string();
    let resources = Resources { cpu_millicores: args.cpu, memory_mb: args.memory };
    let (program, rest) = args.command.split_at(match args.keep_entrypoint {
        true => 0,
        false => args.command.len().min(1),
    });
    CreateWeaver {
        image: args.image.as_ref().map(|v| text(v)),
        org_id: args.org.as_ref().map(|v| text(v)),
        env: env.into(),
        repo: args.repo.as_ref().map(|v| text(v)),
        branch: args.branch.as_ref().map(|v| text(v)),
        lifetime_hours: args.ttl.map(Ttl::hours),
        name: args.name.as_ref().map(|v| text(v)),
        command: program.to_vec(),
        args: rest.to_vec(),
        keep_entrypoint: args.keep_entrypoint.then_some(true),
        workdir: None,
        tags: args.tag.iter().cloned().collect(),
        resources: (resources != Resources::default()).then_some(resources),
        tty: Some(args.tty()),
        root: args.root.then_some(true),
        ports: args.publish.clone(),
        terminal: Some(terminal()),
    }
}

/// Returns which flag makes a field of the request.
fn flag(field: &str) -> Option<&'static str> {
    Some(match field {
        "image" => "--image",
        "org_id" => "--org",
        "env" => "--env",
        "repo" => "--repo",
        "branch" => "--branch",
        "lifetime_hours" => "--ttl",
        "name" => "--name",
        "tags" => "--tag",
        "ports" => "--publish",
        "keep_entrypoint" => "--keep-entrypoint",
        "resources.cpu_millicores" => "--cpu",
        "resources.memory_mb" => "--memory",
        _ => return None,
    })
}

/// What this terminal calls itself; odd values stay here.
fn terminal() -> Terminal {
    let plain = |value: &String| {
        (1..=64).contains(&value.len()) && value.chars().all(|c| c.is_ascii_graphic())
    };
    let set = |name| std::env::var(name).ok().filter(plain);
    // Without any, programs would take what is typed for ASCII.
    let lang = set("LANG").unwrap_or_else(|| "C.UTF-8".to_owned());
    Terminal { term: set("TERM"), colorterm: set("COLORTERM"), lang: Some(lang) }
}

async fn attach(
    api: &Api,
    view: &WeaverView,
    id: &WeaverId,
    remove: bool,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    warn(api, &view.warnings);
    let waited = wait::attached(api, view, &wait::options(true), signals).await;
    let end = match waited {
        Ok(Waited::Attached(attach, hello)) => {
            session::run(*attach, attach::begin(view, hello, true), signals).await
        }
        Ok(Waited::Interrupted) => {
            take_back(api, id, signals).await?;
            return Ok(FAILED_ATTACHED);
        }
        Ok(Waited::Stuck(failure)) => return Err(give_up(api, id, failure, signals).await),
        Ok(Waited::Ended(end)) => Ok(end),
        Err(failure) => too_late(api, id, failure).await,
    };
    if !remove {
        let code = attach::conclude(api, id, end?).await;
        look_once(api, id).await;
        return code;
    }
    let code = match end {
        Ok(End::Detached) => Ok(0),
        Ok(end) => attach::conclude(api, id, end).await,
        Err(failure) => Err(failure),
    };
    api.delete(id).await?;
    if matches!(code, Ok(0)) && tty::is_interactive() {
        eprintln!("deleted {id}");
    }
    code
}

/// A program may be over before anybody could attach: then its log and its code are all there is.
async fn too_late(api: &Api, id: &WeaverId, failure: Failure) -> Result<End, Failure> {
    match api.client.get(id).await.ok().and_then(|view| view.exit_code) {
        Some(code) => attach::print_log(api, id).await.map(|()| End::Exit(code)),
        None => Err(failure),
    }
}

/// Waits until the weaver is ready and prints what scripts need.
async fn leave(api: &Api, id: &WeaverId, json: bool, signals: &mut Signals) -> Result<u8, Failure> {
    match wait::ready(api, id, signals).await? {
        Ready::Yes => {}
        Ready::Interrupted => {
            take_back(api, id, signals).await?;
            return Ok(FAILED_ATTACHED);
        }
        Ready::Stuck(failure) => return Err(give_up(api, id, failure, signals).await),
    }
    if json {
        out::print_json(&api.client.get(id).await?)?;
    } else {
        out::print(&format!("{id}\n"))?;
    }
    look_once(api, id).await;
    Ok(0)
}

/// Deletes what was just made because somebody pressed Ctrl+C, and says so.
async fn take_back(api: &Api, id: &WeaverId, signals: &mut Signals) -> Result<(), Failure> {
    delete(api, id, signals).await?;
    eprintln!("interrupted; deleted {id}");
    Ok(())
}

/// Deletes what will never start, and says so and why.
async fn give_up(api: &Api, id: &WeaverId, failure: Failure, signals: &mut Signals) -> Failure {
    match delete(api, id, signals).await {
        Ok(()) => failure.next(format!("deleted {id}")),
        Err(_) => failure.next(format!("delete it with: loom rm {id}")),
    }
}

async fn delete(api: &Api, id: &WeaverId, signals: &mut Signals) -> Result<(), Failure> {
    tokio::select! {
        deleted = api.delete(id) => Ok(deleted?),
        () = signals.stop() => {
            let next = format!("delete it with: loom rm {id}");
            Err(Failure::new(format!("interrupted; {id} may still be there")).next(next))
        }
    }
}

/// Shows warnings that were not shown before.
fn warn(api: &Api, warnings: &[String]) {
    if warnings.is_empty() {
        return;
    }
    say(api, warnings);
}

/// Shows what was not shown before, and where to look for what to do about it.
fn say(api: &Api, warnings: &[String]) {
    let more = if api.local { "; `loom doctor` says what to do" } else { "" };
    for text in api.not_yet_said(warnings) {
        eprintln!("loom: warning: {}{more}", printable(&text));
    }
}

/// What a server cannot do shows only on a weaver that has started: the first one is looked at.
async fn look_once(api: &Api, id: &WeaverId) {
    if api.has_looked() {
        return;
    }
    if let Ok(view) = api.client.get(id).await {
        say(api, &view.warnings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_pairs() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(variable("A=b=c"), pair("A", "b=c"));
        assert_eq!(variable("A="), pair("A", ""));
        for text in ["A", "=b", "A B=c", "LOOM_X=1"] {
            assert!(variable(text).is_err(), "{text}");
        }
    }
}
