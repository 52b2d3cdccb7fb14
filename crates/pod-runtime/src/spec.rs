//! What a pod is asked to be and what became of it: plain data, written to disk as JSON.

mod probes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use probes::{Handler, Note, NoteKind, Probe, Probes, Restart, Usage};

/// One pod: everything its shim needs, fixed when it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Unique and safe as a folder's name; the pod's uid.
    pub id: String,
    /// The host name inside, at most 63 characters.
    pub hostname: String,
    /// How the pod reaches the outside.
    pub network: Network,
    /// Volumes by name; containers mount them.
    pub volumes: BTreeMap<String, Volume>,
    /// Run one after another, each to its end with code 0, before `containers`; sidecars only to
    /// where they count as started.
    pub init_containers: Vec<ContainerSpec>,
    /// Run together.
    pub containers: Vec<ContainerSpec>,
    /// Whether containers that have ended are started again.
    #[serde(default)]
    pub restart: Restart,
    /// Seconds after the start when the pod is ended with reason `DeadlineExceeded`.
    pub active_deadline_seconds: Option<u64>,
    /// Seconds between SIGTERM and SIGKILL when nothing else is asked.
    pub grace_seconds: u64,
}

/// How a pod reaches the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// User-mode TCP and UDP through the shim (crate `netstack`).
    User,
    /// Loopback only.
    None,
}

/// Where a volume's content comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Volume {
    /// An empty folder that lives as long as the pod.
    EmptyDir {
        /// Kept in memory (tmpfs) rather than on disk.
        memory: bool,
        /// Most bytes it may hold (memory-backed only).
        size_limit: Option<u64>,
    },
    /// The files of an image, read-only.
    Image(Image),
    /// Given files, read-only, by path relative to the mount; a secret or a config map.
    Files(BTreeMap<String, FileContent>),
}

/// One file of a [`Volume::Files`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// The bytes.
    pub data: Vec<u8>,
    /// Permission bits, 0o644 by default.
    pub mode: u32,
}

/// A root file system that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Image {
    /// `loom.local/host`: the host's /usr read-only, a synthetic /etc, a writable home.
    Host,
    /// `loom.local/tools`: the running binary under the name `loom-host`, nothing else.
    Tools,
    /// The unpacked files of an image, never written: a container's own changes lie above them.
    ///
    /// Run by root, the files have the ids that they have in the image; else they all are the
    /// caller's.
    Rootfs {
        /// A folder that stays as it is for as long as the pod lives.
        path: PathBuf,
    },
}

impl PodSpec {
    /// Whether any container may be started again. The pod's first process then stays out of all
    /// containers' control groups: what is killed with one of them must not be it.
    pub(crate) fn restarts(&self) -> bool {
        self.restart != Restart::Never || self.init_containers.iter().any(|init| init.sidecar)
    }

    /// Returns the folders of unpacked images that it needs, each once.
    pub(crate) fn rootfs_paths(&self) -> Vec<PathBuf> {
        let containers = self.init_containers.iter().chain(&self.containers);
        let volumes = self.volumes.values().filter_map(|volume| match volume {
            Volume::Image(image) => Some(image),
            Volume::EmptyDir { .. } | Volume::Files(_) => None,
        });
        let all = containers.map(|container| &container.image).chain(volumes);
        let paths = all.filter_map(Image::rootfs_path).cloned();
        paths.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl Image {
    /// Returns the folder of an unpacked image.
    pub(crate) fn rootfs_path(&self) -> Option<&PathBuf> {
        match self {
            Self::Rootfs { path } => Some(path),
            Self::Host | Self::Tools => None,
        }
    }
}

/// What of a pod can be made before the pod is known: see [`crate::Runtime::prepare`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mould {
    /// How the pod reaches the outside.
    pub network: Network,
    /// The root file system of its only container.
    pub image: Image,
    /// Whom that container runs as.
    pub uid: u32,
    /// And with which group.
    pub gid: u32,
}

impl Mould {
    /// Whether a pod can be made of it.
    pub(crate) fn fits(&self, pod: &PodSpec) -> bool {
        let [only] = pod.containers.as_slice() else { return false };
        pod.init_containers.is_empty()
            && !pod.restarts()
            && pod.network == self.network
            // Which ids a pod has depends on it.
            && (self.image.rootfs_path().is_some() || pod.rootfs_paths().is_empty())
            && (&only.image, only.uid, only.gid) == (&self.image, self.uid, self.gid)
    }
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique in the pod.
    pub name: String,
    /// Its root file system.
    pub image: Image,
    /// The program and its arguments, looked up in the PATH of `env`; never empty.
    pub argv: Vec<String>,
    /// The whole environment, in order; later entries win.
    pub env: Vec<(String, String)>,
    /// Absolute; created when missing.
    pub workdir: String,
    /// User id inside the pod.
    pub uid: u32,
    /// Group id inside the pod.
    pub gid: u32,
    /// What root of the container may do, by names such as `CHOWN`; anybody else may do nothing.
    pub capabilities: Vec<String>,
    /// Volumes and where they appear.
    pub mounts: Vec<Mount>,
    /// Whether the root file system refuses writes outside volumes.
    pub read_only_root: bool,
    /// What it may use at most.
    pub limits: Limits,
    /// What it is asked while it runs.
    #[serde(default)]
    pub probes: Probes,
    /// Of an init container: it runs beside the others, is always started again, and is ended
    /// after them.
    #[serde(default)]
    pub sidecar: bool,
    /// Whether stdout is a terminal of its own.
    pub tty: bool,
    /// Whether stdin stays open; otherwise it is /dev/null.
    pub stdin: bool,
}

/// A volume inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// A key of [`PodSpec::volumes`].
    pub volume: String,
    /// Absolute path inside.
    pub path: String,
    /// A relative path inside the volume, if not all of it.
    pub sub_path: Option<String>,
    /// Refuses writes.
    pub read_only: bool,
}

/// What a container may use at most; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
}

/// What became of a pod so far; replaced as a whole on every change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodStatus {
    /// When the shim took it over.
    pub started_at: Timestamp,
    /// Its address; `None` until the network stands, or without one.
    pub ip: Option<IpAddr>,
    /// The network it really has, which may be [`Network::None`] where TUN is not to be had.
    pub network: Network,
    /// Why limits are not enforced, in words; `None` when they are.
    pub limits_not_enforced: Option<String>,
    /// Of `init_containers`, in order.
    pub init_containers: Vec<ContainerStatus>,
    /// Of `containers`, in order.
    pub containers: Vec<ContainerStatus>,
    /// Set when the pod as a whole has ended, e.g. `DeadlineExceeded` with a message.
    pub reason: Option<(String, String)>,
    /// Whether nothing more will come of it; `None` from shims that do not say it.
    #[serde(default)]
    pub over: Option<bool>,
    /// The latest of what is worth telling, oldest first.
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// What became of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// As in its spec.
    pub name: String,
    /// Where it stands.
    pub state: ContainerState,
    /// Whether the startup probe has succeeded (or there is none and it runs).
    pub started: bool,
    /// Whether its readiness probe, if it has one, says so.
    #[serde(default = "yes")]
    pub ready: bool,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// How it ended before it was started again.
    #[serde(default)]
    pub last: Option<ContainerState>,
}

/// Shims that know no readiness probes do not say it.
fn yes() -> bool {
    true
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum ContainerState {
    /// Not started yet.
    Waiting {
        /// A CamelCase word, e.g. `PodInitializing`.
        reason: String,
        /// For people.
        message: String,
    },
    /// Its first process runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Its first process has ended.
    Terminated {
        /// As a shell reports it: 128 + n for signal n.
        exit_code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`.
        reason: String,
        /// For people; empty mostly.
        message: String,
        /// When it began.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
    },
}

/// A program to run inside a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Which container.
    pub container: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Whether it gets a terminal; then stderr is part of stdout.
    pub tty: bool,
    /// Whether stdin is wanted; otherwise it is /dev/null.
    pub stdin: bool,
}

/// What is wanted of a running container's own streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachSpec {
    /// Which container.
    pub container: String,
    /// Whether something is to be written to it.
    pub stdin: bool,
}
