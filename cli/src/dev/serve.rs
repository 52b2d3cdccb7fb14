//! The daemon: local cluster, handlers, relay and janitor in one process, on one loopback listener.
//!
//! ```text
//! listener -> handlers::app + relay::app -> cluster (kube client) -> local-cluster -> pods
//! janitor ----------------------------------^
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use clap::Parser;
use cluster::{Cluster, Settings, ToolsMount};
use local_cluster::LocalCluster;
use pod_runtime::{Runtime, RuntimeConfig};
use service::{Guard, Health, LogArgs, Metrics, Secret, ServeOptions, Shutdown, Task};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::images::Source;
use super::process::Process;
use super::start::{self, Word};
use super::state::{self, Running};
use super::{build, token_file};
use crate::config::{self, Dirs};
use crate::failure::{Doing, FAILED, Failure};
use crate::verbs::dev::describe;

/// The image of a weaver that asks for none: this machine's own programs.
const HOST_IMAGE: &str = "loom.local/host";
/// The image that holds `loom-host`: the running binary.
const TOOLS_IMAGE: &str = "loom.local/tools";
/// What workers are worth starting for: few, because most of the work is waiting.
const MAX_WORKERS: usize = 4;

/// The settings of handlers, relay and janitor, from their own variables.
#[derive(Debug, Parser)]
struct DevArgs {
    #[command(flatten)]
    api: handlers::ApiArgs,
    #[command(flatten)]
    cluster: cluster::ClusterArgs,
    #[command(flatten)]
    janitor: janitor::JanitorArgs,
    #[command(flatten)]
    serve: service::ServeArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Serves until SIGTERM or Ctrl+C, and says on standard output what.
pub(crate) fn foreground(dirs: &Dirs) -> Result<u8, Failure> {
    start::check(&pod_runtime::probe(&dirs.state))?;
    let said = |running: &Running| {
        let text = describe(dirs, running);
        crate::out::print(&format!("{text}\nserving; try: loom new --local\n"))
    };
    run(dirs, said)?;
    crate::out::print("stopped; weavers live on\n")?;
    Ok(0)
}

/// Serves on behalf of a command that waits for one line; standard error is the log.
pub(crate) fn background(dirs: &Dirs) -> u8 {
    // The terminal of whoever started it must not end it.
    let _ = rustix::process::setsid();
    let result = run(dirs, |running| {
        // Who asked for it may have been interrupted: the next command finds it all the same.
        let _ = say(&Word::Serves(running.clone()));
        // With it goes the lock of `start`.
        let nothing = File::open("/dev/null").doing("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing).doing("cannot leave standard input")?;
        rustix::stdio::dup2_stdout(std::io::stderr().as_fd()).doing("cannot leave the pipe")
    });
    let Err(failure) = result else { return 0 };
    eprintln!("loom dev: {failure}");
    let _ = say(&Word::Failed { what: failure.to_string() });
    FAILED
}

fn say(word: &Word) -> Result<(), Failure> {
    let line = serde_json::to_string(word).doing("cannot write JSON")?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).doing("nobody waits any more")
}

fn run(dirs: &Dirs, ready: impl FnOnce(&Running) -> Result<(), Failure>) -> Result<(), Failure> {
    let args = DevArgs::try_parse_from(["loom dev"]);
    let mut args = args.map_err(|error| Failure::usage(crate::args::one_line(&error)))?;
    if std::env::var_os("LOOM_SERVER_WEAVER_IMAGE").is_none() {
        args.api.weaver_image = HOST_IMAGE.parse()?;
    }
    args.api.publishes = true;
    // Every pod here has a user namespace.
    if std::env::var_os("LOOM_SERVER_WEAVER_ALLOW_ROOT").is_none() {
        args.api.weaver_allow_root = true;
    }
    let Some(_lock) = state::lock_daemon(dirs)? else {
        return Err(Failure::new("another `loom dev` serves this folder already")
            .next("`loom dev status` shows it, `loom dev stop` stops it"));
    };
    args.log.install().doing("cannot log")?;
    service::install_crypto();
    service::raise_open_files();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_WORKERS))
        .enable_all()
        .build()
        .doing("cannot start")?;
    let result = runtime.block_on(serve(dirs, args, ready));
    // The process ends now: nothing is gained by waiting for calls that are under way.
    std::mem::forget(runtime);
    result
}

async fn serve(
    dirs: &Dirs,
    args: DevArgs,
    ready: impl FnOnce(&Running) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signals().doing("cannot listen for signals")?;
    let token = shutdown.token();
    make_token(&token_file(dirs))?;
    let local = LocalCluster::start(local_cluster::Config {
        state_dir: dirs.state.clone(),
        binary: std::env::current_exe().doing("cannot find this program")?,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        images: Some(Arc::new(Source::open(dirs)?)),
    });
    let local = local.await.map_err(|error| Failure::new(with_causes(&error)))?;
    let listener = bind(dirs).await?;
    let url = format!("http://{}", listener.local_addr().doing("cannot listen")?);
    let cluster = connect(local.kubeconfig_path(), &args, &url).await?;
    let options = ServeOptions::from(&args.serve);
    let served = Served::new(dirs, args, cluster, token.clone())?;
    let running = Running {
        process: Process::own().ok_or_else(|| Failure::new("/proc cannot be read"))?,
        build: build::id()?,
        url,
        kubeconfig: local.kubeconfig_path().to_owned(),
        ending: false,
    };
    running.publish(dirs)?;
    ready(&running)?;
    let withdrawn = async {
        token.cancelled().await;
        running.withdraw(dirs)
    };
    let serving = service::serve(listener, served.router(), options, token.clone());
    let (withdrawn, _) = tokio::join!(biased; withdrawn, serving);
    withdrawn?;
    served.end().await;
    local.stop().await;
    Ok(())
}

/// What serves, and what must end before the process does.
struct Served {
    app: handlers::App,
    relay: relay::Relay,
    janitor: Task<Result<(), janitor::ScheduleError>>,
    _namespace: Task,
}

impl Served {
    fn new(
        dirs: &Dirs,
        args: DevArgs,
        cluster: Cluster,
        shutdown: CancellationToken,
    ) -> Result<Self, Failure> {
        let guard = || {
            let secret = Secret::from_file(&token_file(dirs)).doing("cannot read the token")?;
            Ok::<_, Failure>(Guard::loopback(secret))
        };
        let health = Health::new();
        let parts = handlers::Parts {
            cluster: cluster.clone(),
            guard: guard()?,
            api: args.api,
            health: health.clone(),
            metrics: Metrics::install().doing("cannot count")?,
            shutdown: shutdown.clone(),
        };
        let watch = handlers::watch_namespace(cluster.clone(), health);
        let (interval, options) = (args.janitor.interval(), args.janitor.options());
        let sweeps = janitor::run_every(cluster.clone(), interval, options, shutdown.clone());
        Ok(Self {
            app: handlers::App::new(parts),
            relay: relay::Relay::new(cluster, guard()?, shutdown),
            janitor: Task::spawn(sweeps),
            _namespace: Task::spawn(watch),
        })
    }

    fn router(&self) -> Router {
        handlers::app(self.app.clone()).merge(relay::app(self.relay.clone()))
    }

    async fn end(self) {
        self.app.cleaned().await;
        self.relay.drained().await;
        if let Ok(Err(error)) = self.janitor.join().await {
            tracing::error!(error = with_causes(&error), "weavers were not swept");
        }
    }
}

async fn connect(kubeconfig: &Path, args: &DevArgs, url: &str) -> Result<Cluster, Failure> {
    let given = Settings::from(&args.cluster);
    let settings = Settings {
        tools_image: given.tools_image.or_else(|| Some(TOOLS_IMAGE.to_owned())),
        // It is known here, so that nobody has to find out.
        tools_mount: match given.tools_mount {
            ToolsMount::Auto => ToolsMount::Image,
            asked => asked,
        },
        server_url: given.server_url.or_else(|| Some(url.to_owned())),
        ..given
    };
    let connect = async {
        let cluster = Cluster::connect(Some(kubeconfig), settings).await?;
        cluster.ensure_namespace().await?;
        Ok(cluster)
    };
    connect.await.map_err(|error: cluster::Error| Failure::new(with_causes(&error)))
}

/// Listens where the last daemon did, so that what knows its address stays right; else anywhere.
async fn bind(dirs: &Dirs) -> Result<TcpListener, Failure> {
    let last = Running::last(dirs).and_then(|running| Url::parse(&running.url).ok()?.port());
    for port in last.into_iter().chain([0]) {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return Ok(listener);
        }
    }
    Err(Failure::new("no port can be had on 127.0.0.1"))
}

/// Makes the token of this user's daemon, once.
fn make_token(path: &Path) -> Result<(), Failure> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0) {
        return Ok(());
    }
    // Two of them: 244 random bits.
    let [a, b] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    config::write_private(path, format!("{}{}\n", a.simple(), b.simple()).as_bytes())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    std::iter::once(error.to_string())
        .chain(causes.map(ToString::to_string))
        .collect::<Vec<_>>()
        .join(": ")
}

/// Returns the images that pods of the state folder show, and must keep.
pub(crate) fn images_in_use(dirs: &Dirs) -> Result<BTreeSet<PathBuf>, Failure> {
    runtime(dirs)?.rootfs_in_use().doing("cannot list the pods")
}

fn runtime(dirs: &Dirs) -> Result<Runtime, Failure> {
    let binary = std::env::current_exe().doing("cannot find this program")?;
    let runtime = Runtime::open(RuntimeConfig { state_dir: dirs.state.clone(), binary });
    runtime.doing("cannot look at the pods")
}

/// Ends all pods of the state folder and removes what they left; the daemon must have ended.
pub(crate) fn remove_pods(dirs: &Dirs) -> Result<(), Failure> {
    config::make_private(&dirs.state)?;
    let runtime = runtime(dirs)?;
    for id in runtime.list().doing("cannot list the pods")? {
        runtime.remove(&id).doing(format!("cannot remove the pod {id}"))?;
    }
    runtime.sweep().doing("cannot remove a sandbox that was made ahead")
}
