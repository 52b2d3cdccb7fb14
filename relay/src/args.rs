//! The relay as a program of its own: flags, start, end.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use cluster::{Cluster, ClusterArgs};
use service::{GuardArgs, Health, LogArgs, Metrics, ServeArgs, Shutdown, Task};
use tokio::net::TcpListener;
use wire::problem::Code;

use crate::problem::Refusal;
use crate::{MAX_VIEWERS, Relay, app};

/// How often the namespace is looked at until it is there.
const CHECK: Duration = Duration::from_secs(5);

/// Loom's relay: carries attached terminals between viewers and weavers.
#[derive(Debug, clap::Parser)]
#[command(name = "loom-relay", version)]
pub struct Args {
    /// Where it listens
    #[arg(long, env = "LOOM_SERVER_RELAY_LISTEN", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// Most streams at once
    #[arg(long, env = "LOOM_SERVER_RELAY_MAX_STREAMS", default_value_t = MAX_VIEWERS)]
    pub max_streams: usize,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, in words.
pub async fn run(args: Args) -> anyhow::Result<()> {
    args.log.install()?;
    service::install_crypto();
    service::raise_open_files();
    let guard = args.guard.guard(args.listen)?;
    let kubeconfig = args.cluster.kubeconfig.as_deref();
    let cluster = Cluster::connect(kubeconfig, (&args.cluster).into()).await?;
    let (shutdown, health) = (Shutdown::on_signals()?, Health::new());
    let metrics = Metrics::install()?;
    let relay = Relay::new(cluster.clone(), guard, shutdown.token());
    let relay = relay.with_max_viewers(args.max_streams);
    let _namespace = Task::spawn(check_namespace(cluster, health.clone()));
    let router = app(relay.clone()).merge(guarded(metrics.router(), &relay));
    let router = router.merge(health.router()).fallback(no_route);
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, "relay listens");
    service::serve(listener, router, (&args.serve).into(), shutdown.token()).await;
    relay.drained().await;
    Ok(())
}

/// Lets only callers through that the API would let through.
fn guarded(router: Router, relay: &Relay) -> Router {
    router.layer(from_fn_with_state(relay.clone(), guard))
}

async fn guard(
    State(relay): State<Relay>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    relay.guard.check(request.uri(), request.headers())?;
    Ok(next.run(request).await)
}

async fn no_route() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such path")
}

/// Looks at the namespace until it is there; `/readyz` says so meanwhile.
async fn check_namespace(cluster: Cluster, health: Health) {
    health.waiting("namespace", "not looked at yet");
    loop {
        let checked = cluster.validate_namespace().await;
        if let Err(error) = &checked {
            tracing::error!(%error, "Weaver provisioner namespace validation failed");
        }
        health.set("namespace", checked);
        if health.is_ready() {
            return;
        }
        tokio::time::sleep(CHECK).await;
    }
}
