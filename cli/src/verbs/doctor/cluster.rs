//! `loom doctor --cluster`: everything that can be tried is; what was made for it is removed.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use cluster::doctor::{self, Doctor, State, Topic};

use super::show::{self, Show};
use super::web_socket::WebSocket;
use crate::args::Global;
use crate::config::Dirs;
use crate::dev::{self, serve};
use crate::failure::{FAILED, Failure};
use crate::printable::printable;
use crate::session::Signals;

/// Which cluster is meant, and what is tried with it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With --cluster")]
pub(crate) struct Aims {
    /// Kubeconfig file; without it KUBECONFIG, ~/.kube/config or the pod's own service account
    #[arg(long, value_name = "FILE", requires = "cluster", conflicts_with = "local")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; the current one without it
    #[arg(long, value_name = "NAME", requires = "cluster", conflicts_with = "local")]
    context: Option<String>,
    /// Namespace in which weavers live; one of them where they are spread over several
    #[arg(long, value_name = "NAME", requires = "cluster", default_value = "loom-weavers")]
    weaver_namespace: String,
    /// Namespace in which the services run
    #[arg(long, value_name = "NAME", requires = "cluster",
        default_value = cluster::rights::SYSTEM_NAMESPACE)]
    system_namespace: String,
    /// Image of weavers that nodes must get; without it what the deployed handlers use
    #[arg(long, value_name = "IMAGE", requires = "cluster")]
    weaver_image: Option<String>,
    /// Image that holds loom-host, as above
    #[arg(long, value_name = "IMAGE", requires = "cluster")]
    tools_image: Option<String>,
    /// Secrets with registry credentials, separated by commas
    #[arg(long, value_name = "NAME", requires = "cluster", value_delimiter = ',')]
    pull_secret: Vec<String>,
    /// Image of the pods that try NetworkPolicies: any with sh, timeout, wget and httpd
    #[arg(
        long,
        value_name = "IMAGE",
        requires = "cluster",
        default_value = "docker.io/library/busybox:1.37"
    )]
    probe_image: String,
    /// Most seconds that a pod may take to start
    #[arg(long, value_name = "SECONDS", requires = "cluster", default_value = "120",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// Most seconds for which a WebSocket is kept open
    #[arg(long, value_name = "SECONDS", requires = "cluster", default_value = "60",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    websocket_seconds: u64,
    /// What not to try, separated by commas
    #[arg(long, value_enum, requires = "cluster", value_delimiter = ',')]
    skip: Vec<Skip>,
}

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Skip {
    Namespaces,
    Rights,
    Images,
    Network,
    Websocket,
}

pub(super) async fn run(aims: Aims, json: bool, global: &Global) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let doctor = connect(&aims, global).await?;
    let socket = WebSocket::new(Duration::from_secs(aims.websocket_seconds));
    let mut show = Show::new(json);
    let done = tokio::select! {
        done = all(&doctor, &socket, &aims, global, &mut show) => Some(done),
        () = signals.stop() => None,
    };
    if done.is_none() {
        eprintln!("loom: interrupted; removing what was made");
    }
    let mut left = doctor.clean_up().await;
    left.extend(socket.clean_up().await);
    for one in left {
        eprintln!("loom: could not be removed: {}", printable(&one));
    }
    done.unwrap_or_else(|| Err(Failure::new("interrupted")))?;
    let code = if show.is_ok() { 0 } else { FAILED };
    show.end()?;
    Ok(code)
}

async fn all(
    doctor: &Doctor,
    socket: &WebSocket,
    aims: &Aims,
    global: &Global,
    show: &mut Show,
) -> Result<(), Failure> {
    for topic in Topic::ALL {
        if skip_of(topic).is_some_and(|skip| aims.skip.contains(&skip)) {
            continue;
        }
        let checks = show::during(doing(topic), |_| doctor.check(topic)).await;
        let is_away =
            checks.iter().any(|check| check.name == "api" && check.state == State::Failed);
        show.add(checks)?;
        if is_away {
            return Ok(());
        }
    }
    if aims.skip.contains(&Skip::Websocket) {
        return Ok(());
    }
    let check = show::during("trying a WebSocket", |step| socket.check(global, step)).await;
    show.add(vec![check])
}

async fn connect(aims: &Aims, global: &Global) -> Result<Doctor, Failure> {
    let (kubeconfig, images, probe_image) = if global.local {
        let running = dev::ensure(&Dirs::from_env()?).await?;
        let images = [serve::HOST_IMAGE, serve::TOOLS_IMAGE].map(str::to_owned).to_vec();
        (Some(running.kubeconfig), images, serve::HOST_IMAGE.to_owned())
    } else {
        let images = [&aims.weaver_image, &aims.tools_image].into_iter().flatten().cloned();
        (aims.kubeconfig.clone(), images.collect(), aims.probe_image.clone())
    };
    let made = doctor::Aims {
        namespace: aims.weaver_namespace.clone(),
        system_namespace: aims.system_namespace.clone(),
        images,
        image_pull_secrets: aims.pull_secret.clone(),
        probe_image,
        patience: Duration::from_secs(aims.patience),
        run: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
    };
    let doctor = Doctor::connect(kubeconfig.as_deref(), aims.context.as_deref(), made).await;
    doctor.map_err(|error| Failure::new(error.to_string()))
}

fn skip_of(topic: Topic) -> Option<Skip> {
    match topic {
        Topic::Api => None,
        Topic::Namespaces => Some(Skip::Namespaces),
        Topic::Rights => Some(Skip::Rights),
        Topic::Images => Some(Skip::Images),
        Topic::Network => Some(Skip::Network),
    }
}

fn doing(topic: Topic) -> &'static str {
    match topic {
        Topic::Api => "asking the API server",
        Topic::Namespaces => "looking at the namespaces",
        Topic::Rights => "asking what the services may do",
        Topic::Images => "waiting until a node has the images",
        Topic::Network => "trying NetworkPolicies between two pods; this takes about a minute",
    }
}
