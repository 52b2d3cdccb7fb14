//! Everything `loom-janitor` does, from its arguments to its end.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use cluster::{Cluster, Settings};
use service::{Health, Metrics, ServeOptions, Shutdown, Task};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Args, JanitorArgs, Report, ReportFormat, run_every, sweep};

/// Sweeps for a minute, or until SIGTERM or SIGINT.
///
/// # Errors
/// No cluster is configured or it cannot be listed; with `--once` also when a weaver that has
/// expired could not be deleted.
pub async fn run(args: Args) -> anyhow::Result<()> {
    args.log.install()?;
    service::install_crypto();
    let shutdown = Shutdown::on_signals().context("cannot listen to signals")?;
    let kubeconfig = args.cluster.kubeconfig.as_deref();
    let cluster = Cluster::connect(kubeconfig, Settings::from(&args.cluster)).await?;
    if args.once {
        return once(&cluster, &args.janitor, args.report, &shutdown.token()).await;
    }
    let metrics = Metrics::install().context("cannot count")?;
    let _serving = match args.metrics_listen {
        Some(address) => Some(serve(address, &metrics, shutdown.token()).await?),
        None => None,
    };
    let janitor = args.janitor;
    run_every(cluster, janitor.interval(), janitor.options(), shutdown.token()).await?;
    Ok(())
}

/// Sweeps as often as the interval fits into a minute; a report a sweep.
async fn once(
    cluster: &Cluster,
    janitor: &JanitorArgs,
    format: ReportFormat,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut failed = 0;
    for nth in 0..janitor.sweeps_a_minute() {
        let pause = if nth == 0 { Duration::ZERO } else { janitor.interval() };
        let slept = shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
        if slept.is_none() {
            break;
        }
        let report = sweep(cluster, janitor.options()).await?;
        failed = report.failed;
        print(&report, format)?;
    }
    if failed > 0 {
        bail!("{failed} expired weavers could not be deleted; see the log");
    }
    Ok(())
}

fn print(report: &Report, format: ReportFormat) -> anyhow::Result<()> {
    let line = match format {
        ReportFormat::Text => report.to_string(),
        ReportFormat::Json => serde_json::to_string(report)?,
    };
    writeln!(std::io::stdout(), "{line}").context("cannot write the report")
}

async fn serve(
    address: std::net::SocketAddr,
    metrics: &Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<Task<usize>> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let router = Router::new().merge(metrics.router()).merge(Health::new().router());
    let options = ServeOptions { max_connections: 64, ..ServeOptions::default() };
    Ok(Task::spawn(service::serve(listener, router, options, shutdown)))
}
