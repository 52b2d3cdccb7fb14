//! The local cluster, in this process and in a folder of its own, when no other is given.
//!
//! This binary is then also the shim of its pods and the tools' `loom-host`.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use local_cluster::{Config, LocalCluster};
use pod_runtime::{Runtime, RuntimeConfig};
use tempfile::TempDir;

/// Goes through the door that this process was started for, if it is another than the suite's.
/// No thread may exist yet.
pub(crate) fn other_door() -> Option<ExitCode> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name);
    if called == Some(OsStr::new("loom-host")) {
        return Some(host::main_from_args(args.into_iter()));
    }
    let shim = args.get(1).is_some_and(|verb| verb == "pod-shim");
    shim.then(|| pod_runtime::shim_main(args.into_iter().skip(2)))
}

/// Says why no pod can run on this machine, if so.
pub(crate) fn lacking() -> Option<String> {
    let checks = pod_runtime::probe(&std::env::temp_dir());
    let missing = checks.into_iter().find(|check| check.fatal && !check.ok)?;
    Some(format!("no pods here: {}: {}", missing.name, missing.detail))
}

/// A local cluster; what it made goes with it.
pub(crate) struct Local {
    cluster: Option<LocalCluster>,
    threads: tokio::runtime::Runtime,
    folder: TempDir,
}

impl Local {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("loom-").tempdir().unwrap();
        let threads =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let threads = threads.unwrap();
        let config = Config {
            state_dir: folder.path().to_owned(),
            binary: std::env::current_exe().unwrap(),
            listen: ([127, 0, 0, 1], 0).into(),
            images: None,
        };
        let cluster = threads.block_on(LocalCluster::start(config)).unwrap();
        Self { cluster: Some(cluster), threads, folder }
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        self.cluster.as_ref().unwrap().kubeconfig_path()
    }
}

impl Drop for Local {
    /// Pods would outlive the cluster.
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            self.threads.block_on(cluster.stop());
        }
        let config = RuntimeConfig {
            state_dir: self.folder.path().to_owned(),
            binary: std::env::current_exe().unwrap(),
        };
        let runtime = Runtime::open(config).unwrap();
        for id in runtime.list().unwrap() {
            runtime.remove(&id).unwrap();
        }
    }
}
