//! A Kubernetes API for one machine; its only product is a kubeconfig.
//!
//! It serves the part of Kubernetes that Loom and `kubectl` need, over HTTPS with a token, on
//! loopback: namespaces, pods (with log and exec), secrets, config maps, events, one node, service
//! accounts and their tokens, leases. It is not Kubernetes: no controllers of workloads, no services, no volumes that
//! outlive a pod, no other users. What it does not do it refuses, naming it.
//!
//! ```text
//! HTTPS -> api -> store (log on disk) -> kubelet -> pod-runtime -> a shim a pod
//!                  ^ statuses, events <----+
//! ```
//!
//! Acknowledged means written: objects survive the death of the process, and pods run on.

mod api;
mod clock;
mod collect;
mod controllers;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod images;
mod kubelet;
mod pki;
mod pod;
mod serve;
mod store;
mod tokens;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pod_runtime::{Runtime, RuntimeConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use images::{Credentials, ImageSource, OnProgress, PullError, UnpackedImage};
pub use pki::PkiError;
pub use store::OpenError;

use api::Api;
use store::Store;

/// Where a local cluster lives.
#[derive(Debug, Clone)]
pub struct Config {
    /// Owned by one process at a time; made if missing, 0700.
    pub state_dir: PathBuf,
    /// Runs as the shim of every pod (`BINARY pod-shim …`) and is shown as `loom-host`.
    pub binary: PathBuf,
    /// A loopback address; with port 0 the port of the last time is taken if it is free.
    pub listen: SocketAddr,
    /// Brings images that are not of this machine; without it there are none.
    pub images: Option<Arc<dyn ImageSource>>,
}

/// Why a local cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It would be reachable from elsewhere.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The objects cannot be opened; perhaps another process has them.
    #[error("cannot open the local cluster's objects")]
    Store(#[from] OpenError),
    /// The keys cannot be had.
    #[error("cannot prepare the local cluster's keys")]
    Pki(#[from] PkiError),
    /// Pods cannot be run.
    #[error("cannot open the pod runtime")]
    Runtime(#[from] pod_runtime::Error),
    /// The first objects cannot be written.
    #[error("cannot write the local cluster's first objects")]
    Seed(#[source] std::io::Error),
    /// The address cannot be had.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// A file cannot be written.
    #[error("cannot write in {0}")]
    Io(PathBuf, #[source] std::io::Error),
}

/// A running local cluster. Dropping it stops the serving; pods run on.
#[derive(Debug)]
pub struct LocalCluster {
    kubeconfig: PathBuf,
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

const KUBECONFIG: &str = "kubeconfig";
/// Streams end by themselves at once; who sends half a request or does not read is left behind.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

impl LocalCluster {
    /// Opens the state folder, takes its pods over and serves until [`LocalCluster::stop`].
    ///
    /// # Errors
    /// When the folder is owned by another process, cannot be written, or the address is taken.
    pub async fn start(config: Config) -> Result<Self, Error> {
        if !config.listen.ip().is_loopback() {
            return Err(Error::NotLoopback(config.listen));
        }
        let dir = &config.state_dir;
        pki::private_dir(dir).map_err(|e| Error::Io(dir.clone(), e))?;
        let store = Arc::new(Store::open(&dir.join("store"))?);
        let pki = pki::Pki::open(&dir.join("pki"))?;
        let (state_dir, binary) = (dir.clone(), config.binary.clone());
        let service_accounts = Arc::new(tokens::Tokens::open(&dir.join("pki"))?);
        let runtime = Runtime::open(RuntimeConfig { state_dir, binary })?;
        controllers::seed(&store).map_err(|e| Error::Seed(e.into()))?;
        let listener = serve::bind(config.listen, last_port(dir)).await;
        let listener = listener.map_err(|e| Error::Listen(config.listen, e))?;
        let address = listener.local_addr().map_err(|e| Error::Listen(config.listen, e))?;
        let port = dir.join("port");
        pki::write_private(&port, address.port().to_string().as_bytes())
            .map_err(|e| Error::Io(port, e))?;
        let kubeconfig = dir.join(KUBECONFIG);
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let pods =
            kubelet::Pods::new(runtime, dir.join("pods"), config.images, service_accounts.clone());
        let api = Api {
            store: store.clone(),
            pods: pods.clone(),
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
            token: pki.token_hash(),
            tokens: service_accounts,
        };
        kubelet::start(store.clone(), pods, address.ip(), &tasks, shutdown.clone())
            .await
            .map_err(|e| Error::Seed(e.into()))?;
        tasks.spawn(controllers::run(store, shutdown.clone()));
        tasks.spawn(serve::accept(listener, pki.tls.clone(), api));
        pki.write_kubeconfig(&kubeconfig, address)?;
        Ok(Self { kubeconfig, address, shutdown, tasks })
    }

    /// Returns the file that `kubectl --kubeconfig` and `kube` take; 0600.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving and waits until nothing is under way. Pods run on.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_DEADLINE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some streams of the local cluster did not end in time");
        }
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn last_port(dir: &Path) -> Option<u16> {
    std::fs::read_to_string(dir.join("port")).ok()?.trim().parse().ok()
}
