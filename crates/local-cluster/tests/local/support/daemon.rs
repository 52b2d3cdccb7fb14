//! The daemon as a process of its own, to be killed.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use local_cluster::{Config, ImageSource, LocalCluster};
use pod_runtime::{Runtime, RuntimeConfig};
use tokio::io::AsyncReadExt;

use super::registry::Registry;

/// Serves the state folder in `args` until its stdin ends; says `ready` when it serves.
pub(crate) fn serve(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let state_dir = PathBuf::from(args.next().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let binary = std::env::current_exe().unwrap();
        let images = Some(Arc::new(Registry::of(&state_dir)) as Arc<dyn ImageSource>);
        let config = Config { state_dir, binary, listen: ([127, 0, 0, 1], 0).into(), images };
        let cluster = match LocalCluster::start(config).await {
            Ok(cluster) => cluster,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                println!("failed {error}: {}", cause.unwrap_or_default());
                return ExitCode::FAILURE;
            }
        };
        println!("ready {}", std::process::id());
        let mut rest = Vec::new();
        tokio::io::stdin().read_to_end(&mut rest).await.unwrap();
        cluster.stop().await;
        ExitCode::SUCCESS
    })
}

/// A daemon and its state folder.
pub(crate) struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    pid: u32,
}

impl Daemon {
    /// Starts one in a new folder.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("serve").arg(dir.path());
        Self::spawn(dir, command)
    }

    /// Starts one with the store on a disk of its own of so many KiB; killed, it starts again.
    pub(crate) fn start_on_disk_of(kib: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={kib}k tmpfs \"$2/store\" || exit 1
             while ! \"$1\" serve \"$2\"; do :; done"
        );
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script, "sh"]);
        command.arg(std::env::current_exe().unwrap()).arg(dir.path());
        Self::spawn(dir, command)
    }

    /// Starts one with all its state on a disk of its own of so many MiB. Only root can; its pods
    /// must be deleted before it ends.
    pub(crate) fn start_all_on_disk_of(mib: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The kubeconfig is wanted outside, too.
        let script = format!(
            "mkdir -p \"$2/bin\" \"$2/pods\"
             mount -t tmpfs -o size={mib}m,mode=700 tmpfs \"$2/pods\" || exit 1
             exec \"$1\" serve \"$2\""
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, "sh"]);
        command.arg(std::env::current_exe().unwrap()).arg(dir.path());
        Self::spawn(dir, command)
    }

    fn spawn(dir: tempfile::TempDir, mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Self { dir, child, output, pid: 0 };
        daemon.await_ready();
        daemon
    }

    /// Waits until it serves.
    pub(crate) fn await_ready(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let pid = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("said {line:?}"));
        self.pid = pid.parse().unwrap();
    }

    /// Kills it with -9.
    pub(crate) fn kill(&mut self) {
        let killed = Command::new("kill").args(["-9", &self.pid.to_string()]).status().unwrap();
        assert!(killed.success());
        if self.pid == self.child.id() {
            self.child.wait().unwrap();
        }
    }

    /// Kills it with -9 and starts it again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Asks it to stop and starts it again.
    pub(crate) fn stop_and_start(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        self.start_again();
    }

    /// Starts it again after it was killed.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("serve").arg(self.dir.path());
        self.child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        self.output = BufReader::new(self.child.stdout.take().unwrap());
        self.await_ready();
    }

    /// Returns the state folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the kubeconfig's path.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Returns a handle on the pods, as another process has it.
    pub(crate) fn runtime(&self) -> Runtime {
        let state_dir = self.dir.path().to_owned();
        Runtime::open(RuntimeConfig { state_dir, binary: std::env::current_exe().unwrap() })
            .unwrap()
    }
}

impl Drop for Daemon {
    /// Ends the daemon, and the pods that it would leave running.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
        let runtime = self.runtime();
        for id in runtime.list().unwrap_or_default() {
            runtime.remove(&id).ok();
        }
    }
}
