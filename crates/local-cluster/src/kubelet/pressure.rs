//! The machine's disk: while it is nearly full no pod starts, and the pods that run are ended one
//! after another, in the kubelet's order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pod_runtime::spec::Usage;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::about::{is_over, text};
use super::aside::blocking;
use super::events::{self, Note};
use super::evict::{self, STORAGE};
use super::{Pods, node};
use crate::clock;
use crate::pod::quantity;
use crate::store::{Decision, Key, Object, Resource, Store, WriteError};

/// The node's condition.
pub(crate) const DISK_PRESSURE: &str = "DiskPressure";
const PERIOD: Duration = Duration::from_secs(10);
/// On a large disk a tenth, the kubelet's threshold, would be far from full.
const ENOUGH: u64 = 1 << 30;

/// Looks at the disk until shut down.
pub(crate) async fn watch(store: Arc<Store>, pods: Pods, shutdown: CancellationToken) {
    let looking = async {
        loop {
            tokio::time::sleep(PERIOD).await;
            look(&store, &pods).await;
        }
    };
    tokio::select! {
        () = looking => {}
        () = shutdown.cancelled() => {}
    }
}

/// What a disk has, in bytes.
#[derive(Debug, Clone, Copy)]
struct Disk {
    available: u64,
    total: u64,
}

impl Disk {
    fn of(path: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Self { available: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }

    fn threshold(self) -> u64 {
        (self.total / 10).min(ENOUGH)
    }

    fn is_low(self) -> bool {
        self.available < self.threshold()
    }
}

async fn look(store: &Arc<Store>, pods: &Pods) {
    let Some(disk) = Disk::of(&pods.dir) else { return };
    tell_node(store, disk.is_low());
    if !disk.is_low() {
        return;
    }
    let mut candidates = Vec::new();
    for pod in store.list(Resource::Pods, "").0 {
        if !is_over(&pod) && pod["metadata"].get("deletionTimestamp").is_none() {
            candidates.extend(measured(pods, pod).await);
        }
    }
    candidates.sort_by_key(Candidate::rank);
    if let Some(first) = candidates.first() {
        let message = first.message(disk);
        events::record(store, &first.pod, &Note::pod("Warning", evict::REASON, message.clone()));
        let (pods, uid) = (pods.clone(), text(&first.pod["metadata"]["uid"]).to_owned());
        let ended = move || pods.find(&uid)?.end(evict::REASON, &message, evict::GRACE);
        // One that has just ended is not an error: its worker sees it.
        blocking(ended).await.ok();
    }
}

async fn measured(pods: &Pods, pod: Object) -> Option<Candidate> {
    let (pods, uid) = (pods.clone(), text(&pod["metadata"]["uid"]).to_owned());
    let usage = blocking(move || pods.find(&uid)?.usage()).await.ok()?;
    Some(Candidate { pod, usage })
}

/// What a pod is told that goes for the node's sake, before the resource.
const LOW: &str = "The node was low on resource: ";

/// Tells whether a pod had to go for the node's sake, not because of limits of its own.
pub(super) fn ended(reason: &str, message: &str) -> bool {
    reason == evict::REASON && message.starts_with(LOW)
}

/// A pod that may have to go.
struct Candidate {
    pod: Object,
    usage: Usage,
}

impl Candidate {
    fn request(container: &Value) -> u64 {
        let text = container["resources"]["requests"][STORAGE].as_str();
        text.and_then(quantity::units).unwrap_or(0)
    }

    /// Who uses more than it requested comes first, then who matters less, then who uses more.
    fn rank(&self) -> (bool, i64, i128) {
        let containers = self.pod["spec"]["containers"].as_array().into_iter().flatten();
        let requested = containers.map(Self::request).fold(0, u64::saturating_add);
        let used = evict::total(&self.usage);
        let priority = self.pod["spec"]["priority"].as_i64().unwrap_or(0);
        (used <= requested, priority, i128::from(requested) - i128::from(used))
    }

    fn message(&self, disk: Disk) -> String {
        let mut message = format!(
            "{LOW}{STORAGE}. Threshold quantity: {}, available: {}. ",
            quantity::bytes(disk.threshold()),
            quantity::bytes(disk.available / 1024 * 1024),
        );
        for container in self.pod["spec"]["containers"].as_array().into_iter().flatten() {
            let (name, request) = (text(&container["name"]), Self::request(container));
            let used = self.usage.containers.get(name).copied().unwrap_or(0);
            if used > request {
                message += &format!(
                    "Container {name} was using {}, request is {}, has larger consumption of \
                     {STORAGE}. ",
                    quantity::bytes(used),
                    quantity::bytes(request)
                );
            }
        }
        message
    }
}

/// Says how the disk is, where that has changed.
fn tell_node(store: &Store, low: bool) {
    let key = Key::new(Resource::Nodes, "", node::NAME);
    let told = store.update(&key, |old| -> Result<Decision, WriteError> {
        if is_under_pressure(old) == low {
            return Ok(Decision::Keep);
        }
        let mut node = Value::clone(old);
        let all = node["status"]["conditions"].as_array_mut();
        if let Some(all) = all {
            all.retain(|condition| condition["type"] != DISK_PRESSURE);
            all.insert(0, condition(low));
        }
        Ok(Decision::Put(node))
    });
    if let Err(error) = told {
        tracing::warn!(%error, "that the disk is full cannot be written");
    }
}

/// Returns the node's condition.
pub(crate) fn condition(low: bool) -> Value {
    let now = clock::now_text();
    let (status, reason, message) = match low {
        true => ("True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
        false => ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    };
    json!({"type": DISK_PRESSURE, "status": status, "reason": reason, "message": message,
           "lastHeartbeatTime": now, "lastTransitionTime": now})
}

/// Whether pods may not start because of the disk.
pub(crate) fn is_under_pressure(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == DISK_PRESSURE && c["status"] == "True")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn candidate(name: &str, priority: i64, request: &str, used_mib: u64) -> Candidate {
        let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"ephemeral-storage": request}}}]}});
        let containers = BTreeMap::from([("c".to_owned(), used_mib << 20)]);
        Candidate { pod: pod.into(), usage: Usage { volumes: BTreeMap::new(), containers } }
    }

    #[test]
    fn who_took_most_beyond_its_request_goes_first() {
        let mut all = [
            candidate("modest", 0, "1Gi", 900),
            candidate("dear", 9, "0", 800),
            candidate("large", 0, "100Mi", 700),
            candidate("small", 0, "0", 500),
            candidate("idle", 0, "1Gi", 1),
        ];
        all.sort_by_key(Candidate::rank);
        let names: Vec<_> = all.iter().map(|c| text(&c.pod["metadata"]["name"])).collect();
        assert_eq!(names, ["large", "small", "dear", "modest", "idle"]);
    }

    #[test]
    fn a_disk_is_low_under_a_tenth_or_a_gibibyte() {
        let low = |available, total| Disk { available, total }.is_low();
        assert!(low(9, 100) && !low(10, 100));
        assert!(low((1 << 30) - 1, 1 << 40) && !low(1 << 30, 1 << 40));
        let disk = Disk { available: 5 << 20, total: 100 << 20 };
        assert_eq!(
            candidate("p", 0, "1Mi", 3).message(disk),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 10Mi, \
             available: 5Mi. Container c was using 3Mi, request is 1Mi, has larger consumption of \
             ephemeral-storage. "
        );
    }
}
