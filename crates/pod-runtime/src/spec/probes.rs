//! What is asked of a container while it runs, and how often it is started again.

use serde::{Deserialize, Serialize};

/// Whether the containers of a pod are started again when they have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Restart {
    /// Never.
    #[default]
    Never,
    /// When the exit code is not 0.
    OnFailure,
    /// Always; init containers only when the exit code is not 0.
    Always,
}

/// The probes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probes {
    /// Decides when it counts as started; without one it is started at once. Only then the others
    /// begin.
    pub startup: Option<Probe>,
    /// Decides whether it is ready; without one it is as soon as it is started.
    pub readiness: Option<Probe>,
    /// When it fails the container is ended.
    pub liveness: Option<Probe>,
}

/// A question that is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// How it is asked.
    pub handler: Handler,
    /// Seconds between the container's start and the first try.
    pub initial_delay_seconds: u64,
    /// Seconds between tries.
    pub period_seconds: u64,
    /// Seconds a try may take.
    pub timeout_seconds: u64,
    /// Successes in a row after which it has succeeded.
    pub success_threshold: u32,
    /// Failures in a row after which it has failed.
    pub failure_threshold: u32,
    /// Seconds between SIGTERM and SIGKILL when it ends the container; else the pod's.
    pub grace_seconds: Option<u64>,
}

/// How a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// Runs a program inside, which must end with 0.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// Connects to a port at the pod's address.
    Tcp {
        /// 0 stands for a port that is not known.
        port: u16,
    },
    /// Asks a web server at the pod's address; 200 to 399 is success.
    Http {
        /// 0 stands for a port that is not known.
        port: u16,
        /// With query, if any.
        path: String,
        /// Sent besides those that any request has, or in their place.
        headers: Vec<(String, String)>,
        /// Over TLS; whatever certificate it shows is accepted.
        #[serde(default)]
        tls: bool,
    },
    /// Asks a server at the pod's address by gRPC's health protocol, which must say SERVING.
    Grpc {
        /// 0 stands for a port that is not known.
        port: u16,
        /// What is asked about; empty is the server as a whole.
        service: String,
    },
}

/// What is worth telling of a pod, beyond what its status says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Counts up from 1.
    pub number: u64,
    /// The container it is about.
    pub container: String,
    /// What it is about.
    pub kind: NoteKind,
    /// For people, worded as Kubernetes does.
    pub message: String,
}

/// What a [`Note`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NoteKind {
    /// A probe has failed once.
    Unhealthy,
    /// A container is being ended.
    Killing,
    /// It is started again only after a while.
    BackOff,
}

/// Bytes that a pod has written to disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// In empty folders that are not in memory.
    pub volumes: std::collections::BTreeMap<String, u64>,
    /// In the writable layers and logs of containers.
    pub containers: std::collections::BTreeMap<String, u64>,
}
