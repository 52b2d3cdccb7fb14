//! `loom dev`: the local cluster with handlers, relay and janitor, in one process.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use client::{Client, ListQuery};
use serde::Serialize;
use weaver::Phase;

use super::block_on;
use crate::config::{Config, Dirs};
use crate::dev::{self, Running, serve, start, state, userns};
use crate::failure::{Doing, Failure};
use crate::out;
use crate::printable::printable;

/// Serve local weavers: a cluster on this machine with Loom's API in front
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  loom dev                in the foreground, until Ctrl+C
  loom dev --detach       in the background, as `loom new --local` does by itself
  loom dev stop           stops it; weavers live on
  loom dev reset          deletes all local weavers and everything about them
  kubectl --kubeconfig \"$(loom dev status --json | jq -r .kubeconfig)\" get pods -A"
)]
pub(crate) struct Args {
    /// Start in the background and return when it serves
    #[arg(long)]
    detach: bool,
    /// Be what --detach starts
    #[arg(long, hide = true)]
    background: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Stop serving; weavers live on and are there again after the next start
    Stop,
    /// Say whether it runs, and where everything is
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete all local weavers, images and keys
    Reset {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Delete the weavers that have ended, and images that no weaver shows
    Prune,
    /// Take images from a file: what `docker save` writes, or an OCI layout
    Load {
        /// The archive or folder
        file: PathBuf,
        /// What an image is called that has no name
        #[arg(long)]
        name: Option<String>,
    },
    /// List the images that are here
    Images {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let this program make user namespaces where AppArmor forbids it
    AllowUserns,
}

pub(crate) fn run(args: Args) -> Result<u8, Failure> {
    let dirs = Dirs::from_env()?;
    match args.verb {
        None if args.background => Ok(serve::background(&dirs)),
        None if args.detach => detach(&dirs),
        None => serve::foreground(&dirs),
        Some(Verb::Stop) => stop(&dirs),
        Some(Verb::Status { json }) => status(&dirs, json),
        Some(Verb::Reset { yes }) => reset(&dirs, yes),
        Some(Verb::Prune) => block_on(prune(&dirs)),
        Some(Verb::Load { file, name }) => load(&dirs, &file, name.as_deref()),
        Some(Verb::Images { json }) => list(&dirs, json),
        Some(Verb::AllowUserns) => userns::allow(),
    }
}

fn detach(dirs: &Dirs) -> Result<u8, Failure> {
    let running = block_on(dev::ensure(dirs))?;
    out::print(&describe(dirs, &running))?;
    Ok(0)
}

/// Says where everything is.
pub(crate) fn describe(dirs: &Dirs, running: &Running) -> String {
    let rows = [
        ("server", running.url.clone()),
        ("token", dev::token_file(dirs).display().to_string()),
        ("kubeconfig", running.kubeconfig.display().to_string()),
        ("log", start::log_path(dirs).display().to_string()),
        ("process", running.process.pid.to_string()),
    ];
    rows.map(|(name, value)| format!("{name:<11} {}\n", printable(&value))).concat()
}

fn stop(dirs: &Dirs) -> Result<u8, Failure> {
    let said = match start::stop(dirs)? {
        Some(_) => "stopped; weavers live on\n",
        None => "not running\n",
    };
    out::print(said)?;
    Ok(0)
}

#[derive(Serialize)]
struct Status {
    running: bool,
    pid: Option<i32>,
    build: Option<String>,
    server_url: Option<String>,
    kubeconfig: Option<String>,
    token_file: String,
    log: String,
    state_dir: String,
}

fn status(dirs: &Dirs, json: bool) -> Result<u8, Failure> {
    let found = Running::find(dirs)?;
    if !json {
        match &found {
            Some(running) => out::print(&format!("running\n{}", describe(dirs, running)))?,
            None => out::print("not running; `loom dev --detach` starts it\n")?,
        }
        return Ok(0);
    }
    let text = |path: &std::path::Path| path.display().to_string();
    out::print_json(&Status {
        running: found.is_some(),
        pid: found.as_ref().map(|running| running.process.pid),
        build: found.as_ref().map(|running| running.build.clone()),
        server_url: found.as_ref().map(|running| running.url.clone()),
        kubeconfig: found.as_ref().map(|running| text(&running.kubeconfig)),
        token_file: text(&dev::token_file(dirs)),
        log: text(&start::log_path(dirs)),
        state_dir: text(&dirs.state),
    })?;
    Ok(0)
}

fn reset(dirs: &Dirs, yes: bool) -> Result<u8, Failure> {
    if !yes && !confirmed(dirs)? {
        return Err(Failure::new("nothing was deleted"));
    }
    start::stop(dirs)?;
    let _lock = state::lock_start(dirs)?;
    serve::remove_pods(dirs)?;
    dev::images::remove_all(dirs)?;
    for entry in std::fs::read_dir(&dirs.state).doing(dirs.state.display())? {
        let path = entry.doing(dirs.state.display())?.path();
        // Who waits for the lock must find the same file.
        if path.file_name().is_some_and(|name| name == "start.lock") {
            continue;
        }
        let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        let removed =
            if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.doing(format!("cannot remove {}", path.display()))?;
    }
    Config::forget_local(dirs)?;
    out::print("all local weavers are deleted\n")?;
    Ok(0)
}

fn confirmed(dirs: &Dirs) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("nobody can be asked").next("pass --yes to delete everything"));
    }
    let folder = printable(&dirs.state.display().to_string());
    eprint!("Delete all local weavers and everything in {folder}? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).doing("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn prune(dirs: &Dirs) -> Result<u8, Failure> {
    let running = dev::ensure(dirs).await?;
    let client = Client::new(running.server(dirs)?)?;
    let mut count = 0;
    for status in [Phase::Succeeded, Phase::Failed] {
        let query = ListQuery { status: Some(status), ..ListQuery::default() };
        for view in client.list(&query).await? {
            client.delete(&view.id.parse()?).await?;
            count += 1;
        }
    }
    out::print(&format!("deleted {count} weavers that had ended\n"))?;
    let used = serve::images_in_use(dirs)?;
    let freed = dev::images::open(dirs)?.prune(&used).doing("cannot remove images")?;
    if freed > 0 {
        out::print(&format!("removed images that no weaver shows: {} MB\n", megabytes(freed)))?;
    }
    Ok(0)
}

fn load(dirs: &Dirs, file: &Path, name: Option<&str>) -> Result<u8, Failure> {
    crate::config::make_private(&dirs.state)?;
    for image in dev::images::open(dirs)?.load(file, name).doing(file.display())? {
        out::print(&format!("loaded {}\n", printable(&image.name)))?;
    }
    Ok(0)
}

fn list(dirs: &Dirs, json: bool) -> Result<u8, Failure> {
    crate::config::make_private(&dirs.state)?;
    let images = dev::images::open(dirs)?.list();
    if json {
        let rows = images.iter().map(|image| {
            serde_json::json!({"name": image.name, "id": image.id, "size_bytes": image.size})
        });
        out::print_json(&rows.collect::<Vec<_>>())?;
        return Ok(0);
    }
    for image in images {
        out::print(&format!("{} {} MB\n", printable(&image.name), megabytes(image.size)))?;
    }
    Ok(0)
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}
