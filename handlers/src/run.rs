//! Everything `loom-handlers` does, from its arguments to its end.

use std::time::Duration;

use anyhow::Context;
use cluster::{Cluster, Settings};
use service::{Health, Metrics, ServeOptions, Shutdown, Task};
use tokio::net::TcpListener;

use crate::{App, Args, Parts, app, watch_namespace};

/// How long after the start the namespace is looked at first; nobody asks more often than every
/// second whether we are ready.
const COURTESY: Duration = Duration::from_millis(20);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// There is no token, no cluster is configured, or the address is taken.
pub async fn run(args: Args) -> anyhow::Result<()> {
    args.log.install()?;
    let guard = args.guard.guard(args.listen)?;
    // First of all: who comes while the rest begins waits, and need not try again.
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    service::install_crypto();
    service::raise_open_files();
    let shutdown = Shutdown::on_signals().context("cannot listen to signals")?;
    let metrics = Metrics::install().context("cannot count")?;
    let kubeconfig = args.cluster.kubeconfig.as_deref();
    let cluster = Cluster::connect(kubeconfig, Settings::from(&args.cluster)).await?;
    let health = Health::new();
    health.waiting("namespace", "is not yet checked");
    let watched = watch_namespace(cluster.clone(), health.clone());
    let _namespace = Task::spawn(async move {
        // Who waits already goes first: a second handshake beside theirs would take them longer.
        tokio::time::sleep(COURTESY).await;
        watched.await;
    });
    tracing::info!(address = %listener.local_addr()?, "Listening");
    let token = shutdown.token();
    let parts = Parts { cluster, guard, api: args.api, health, metrics, shutdown: token.clone() };
    let state = App::new(parts);
    let options = ServeOptions::from(&args.serve);
    let late = service::serve(listener, app(state.clone()), options, token).await;
    state.cleaned().await;
    tracing::info!(late, "Stopped");
    Ok(())
}
