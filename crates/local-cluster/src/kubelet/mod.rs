//! Makes pods real: one worker a pod, and a scheduler for the one node.
//!
//! ```text
//! store changes -> manager -> scheduler (binds) -> worker a pod -> pod-runtime
//!      ^                                             |
//!      +-------- statuses, events, the last delete --+
//! ```

mod about;
mod aside;
mod env;
mod events;
mod evict;
mod files;
mod image;
mod manager;
mod node;
mod object;
mod pause;
mod phase;
mod ports;
mod pressure;
mod probes;
mod pull;
mod purse;
mod refresh;
mod refused;
mod render;
mod scheduler;
mod spare;
mod status;
mod tell;
mod user;
mod worker;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use {env::fuzz as fuzz_expansion, user::fuzz as fuzz_passwd};

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pod_runtime::{Pod, Runtime};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::images::ImageSource;
use crate::store::{Store, WriteError};
use crate::tokens::Tokens;

pub(crate) use env::{FIELDS, knows_field, shows_field};
pub(crate) use node::NAME as NODE;

/// The pods that run, for those who want their output.
#[derive(Debug, Clone)]
pub(crate) struct Pods {
    runtime: Runtime,
    dir: PathBuf,
    /// Told of each pod that is started.
    started: Arc<Notify>,
    images: Option<Arc<dyn ImageSource>>,
    tokens: Arc<Tokens>,
}

impl Pods {
    pub(crate) fn new(
        runtime: Runtime,
        dir: PathBuf,
        images: Option<Arc<dyn ImageSource>>,
        tokens: Arc<Tokens>,
    ) -> Self {
        Self { runtime, dir, started: Arc::default(), images, tokens }
    }

    /// Finds a running pod. Blocks.
    pub(crate) fn find(&self, uid: &str) -> Result<Pod, pod_runtime::Error> {
        self.runtime.adopt(uid)
    }

    /// Returns where a container's output is, whether the pod lives or not.
    pub(crate) fn log_path(&self, uid: &str, container: &str) -> PathBuf {
        self.dir.join(uid).join("logs").join(format!("{container}.log"))
    }
}

/// Registers the node, takes over what runs and starts the manager.
pub(crate) async fn start(
    store: Arc<Store>,
    pods: Pods,
    host: IpAddr,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> Result<(), WriteError> {
    node::register(&store, host)?;
    tasks.spawn(spare::keep(pods.runtime.clone(), pods.started.clone(), shutdown.clone()));
    tasks.spawn(pressure::watch(store.clone(), pods.clone(), shutdown.clone()));
    let manager = manager::Manager::new(&store, pods, host, tasks.clone(), shutdown);
    manager.remove_orphans().await;
    tasks.spawn(manager.run());
    Ok(())
}
