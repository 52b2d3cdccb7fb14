//! The one node: this machine, with what it really has and what pods may request of it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;

use super::pressure;
use crate::api::GIT_VERSION;
use crate::clock;
use crate::store::{Decision, Key, Resource, Store, WriteError};

/// The node's name.
pub(crate) const NAME: &str = "loom-local";
/// A kubelet says 110, for a machine that many share. An idle weaver takes some 5 MiB.
const MAX_PODS: u64 = 500;
/// How many times over the processors may be requested. Pods on a machine of one's own mostly wait
/// for somebody to type; when they do compute, they share in turns. Memory cannot be shared so.
const CPU_TIMES: u64 = 10;

/// What there is, or may be requested in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) cpu_millis: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) pods: u64,
}

impl Capacity {
    /// Measures this machine, as far as this process may use it.
    pub(crate) fn measure() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let memory = physical_memory().unwrap_or(u64::MAX);
        let memory_bytes = memory_limit().map_or(memory, |limit| limit.min(memory));
        Self { cpu_millis: cpus * 1000, memory_bytes, pods: MAX_PODS }
    }

    /// Returns what pods may request in all.
    pub(crate) fn allocatable(self) -> Self {
        Self { cpu_millis: self.cpu_millis * CPU_TIMES, ..self }
    }

    fn amounts(self) -> Value {
        json!({
            "cpu": (self.cpu_millis / 1000).to_string(),
            "memory": format!("{}Ki", self.memory_bytes / 1024),
            "pods": self.pods.to_string(),
        })
    }
}

fn physical_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// Returns the smallest memory limit of this process's control groups, version 2 or 1.
fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        limits.extend(limits_up_to(Path::new(root), path, file));
    }
    limits.into_iter().min()
}

fn limits_up_to(root: &Path, path: &str, file: &str) -> Vec<u64> {
    let mut dir: PathBuf = root.join(path.trim_start_matches('/'));
    let mut limits = Vec::new();
    loop {
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        limits.extend(text.trim().parse::<u64>());
        if dir == root || !dir.pop() {
            return limits;
        }
    }
}

/// Writes the node's object.
pub(crate) fn register(store: &Store, host: IpAddr) -> Result<(), WriteError> {
    let key = Key::new(Resource::Nodes, "", NAME);
    if store.get(&key).is_none() {
        let labels = json!({
            "kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": go_arch(),
        });
        let meta = json!({"name": NAME, "uid": Uuid::new_v4().to_string(), "labels": labels,
                          "creationTimestamp": clock::now_text()});
        store.create(key.clone(), json!({"metadata": meta, "spec": {}, "status": {}}))?;
    }
    store.update(&key, |old| -> Result<Decision, WriteError> {
        let mut node = Value::clone(old);
        node["status"] = status(host);
        Ok(Decision::Put(node))
    })?;
    Ok(())
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(host: IpAddr) -> Value {
    let capacity = Capacity::measure();
    let now = clock::now_text();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    json!({
        "capacity": capacity.amounts(),
        "allocatable": capacity.allocatable().amounts(),
        "addresses": [{"type": "InternalIP", "address": host}, {"type": "Hostname", "address": NAME}],
        "conditions": [pressure::condition(false), {
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "message": "the local cluster runs", "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
        "nodeInfo": {
            "machineID": read("/etc/machine-id"), "systemUUID": "",
            "bootID": read("/proc/sys/kernel/random/boot_id"),
            "kernelVersion": read("/proc/sys/kernel/osrelease"), "osImage": os_image(),
            "containerRuntimeVersion": concat!("loom://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": GIT_VERSION, "kubeProxyVersion": "", "operatingSystem": "linux",
            "architecture": go_arch(),
        },
    })
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_may_be_requested_ten_times_over_and_memory_once() {
        let two_cores = Capacity { cpu_millis: 2000, memory_bytes: 8 << 30, pods: MAX_PODS };
        let amounts = json!({"cpu": "20", "memory": "8388608Ki", "pods": "500"});
        assert_eq!(two_cores.allocatable().amounts(), amounts);
        assert_eq!(two_cores.amounts()["cpu"], "2");
    }
}
