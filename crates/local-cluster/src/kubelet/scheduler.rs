//! Decides which pods fit on this machine.

use std::sync::Arc;

use serde_json::{Value, json};

use super::about::is_sidecar;
use super::events::{self, Note};
use super::node::{self, Capacity};
use super::pressure;
use super::status::set_condition;
use crate::clock;
use crate::pod::quantity;
use crate::store::{Decision, Key, Object, Resource, Store, WriteError};

/// Why no pod fits while the disk is nearly full.
const DISK_FULL: &str = "node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }";

/// Why no pod fits on a node that was cordoned.
const CORDONED: &str = "node(s) were unschedulable";

/// What a pod requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Requests {
    cpu_millis: u64,
    memory_bytes: u64,
}

/// Binds the pods that fit, oldest first; the others are told what is lacking.
pub(crate) fn schedule(store: &Arc<Store>, capacity: Capacity) {
    let (mut pods, _) = store.list(Resource::Pods, "");
    pods.retain(|pod| !is_over(pod));
    pods.sort_by_key(|pod| text(&pod["metadata"]["creationTimestamp"]).to_owned());
    let (waiting, bound): (Vec<_>, Vec<_>) =
        pods.into_iter().partition(|pod| text(&pod["spec"]["nodeName"]).is_empty());
    if waiting.is_empty() {
        return;
    }
    let mut used: Vec<Requests> = bound.iter().map(|pod| requests(pod)).collect();
    let node = store.get(&Key::new(Resource::Nodes, "", node::NAME));
    let cordoned = node.as_ref().is_some_and(|node| node["spec"]["unschedulable"] == true);
    let full = node.is_some_and(|node| pressure::is_under_pressure(&node));
    for pod in waiting.iter().filter(|pod| pod["metadata"].get("deletionTimestamp").is_none()) {
        let wanted = requests(pod);
        let mut lacking = lacking(capacity, &used, wanted);
        if cordoned {
            lacking.push(CORDONED);
        }
        if full {
            lacking.push(DISK_FULL);
        }
        if lacking.is_empty() {
            used.push(wanted);
            bind(store, pod);
        } else {
            refuse(store, pod, &lacking);
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn is_over(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

/// Sums the containers and sidecars; an init container, with the sidecars before it, counts where
/// that is more.
fn requests(pod: &Value) -> Requests {
    let of = |container: &Value| {
        let amount = |name: &str| container["resources"]["requests"][name].as_str();
        Requests {
            cpu_millis: amount("cpu").and_then(quantity::millis).unwrap_or(0),
            memory_bytes: amount("memory").and_then(quantity::units).unwrap_or(0),
        }
    };
    let list = |name: &str| pod["spec"][name].as_array().into_iter().flatten();
    let (mut sidecars, mut most) = (Requests::default(), Requests::default());
    for init in list("initContainers") {
        let with = sidecars.plus(of(init));
        if is_sidecar(init) {
            sidecars = with;
        }
        most = most.or(with);
    }
    list("containers").map(of).fold(sidecars, Requests::plus).or(most)
}

impl Requests {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// The larger of each.
    fn or(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }
}

fn lacking(capacity: Capacity, used: &[Requests], wanted: Requests) -> Vec<&'static str> {
    let total = |of: fn(&Requests) -> u64| used.iter().map(of).fold(0, u64::saturating_add);
    let mut lacking = Vec::new();
    let cpu = total(|r| r.cpu_millis).saturating_add(wanted.cpu_millis);
    if wanted.cpu_millis > 0 && cpu > capacity.cpu_millis {
        lacking.push("Insufficient cpu");
    }
    let memory = total(|r| r.memory_bytes).saturating_add(wanted.memory_bytes);
    if wanted.memory_bytes > 0 && memory > capacity.memory_bytes {
        lacking.push("Insufficient memory");
    }
    if used.len() as u64 >= capacity.pods {
        lacking.push("Too many pods");
    }
    lacking
}

fn bind(store: &Arc<Store>, pod: &Object) {
    let now = clock::now();
    let bound = change(store, pod, |new| {
        new["spec"]["nodeName"] = node::NAME.into();
        set_condition(&mut new["status"], "PodScheduled", true, None, now);
    });
    if bound {
        let meta = &pod["metadata"];
        let place = format!("{}/{}", text(&meta["namespace"]), text(&meta["name"]));
        let message = format!("Successfully assigned {place} to {}", node::NAME);
        events::record(store, pod, &Note::scheduler("Normal", "Scheduled", message));
    }
}

fn refuse(store: &Arc<Store>, pod: &Object, lacking: &[&str]) {
    let reasons: Vec<String> = lacking.iter().map(|word| format!("1 {word}")).collect();
    let message = format!("0/1 nodes are available: {}.", reasons.join(", "));
    let now = clock::now();
    let known = pod["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["message"] == message.as_str()));
    if known {
        return;
    }
    let why = Some(("Unschedulable", message.as_str()));
    let refused = change(store, pod, |new| {
        set_condition(&mut new["status"], "PodScheduled", false, why, now)
    });
    if refused {
        events::record(store, pod, &Note::scheduler("Warning", "FailedScheduling", message));
    }
}

/// Changes a pod that is still the one that was looked at.
fn change(store: &Store, pod: &Object, edit: impl FnOnce(&mut Value)) -> bool {
    let key = Key::of(Resource::Pods, pod);
    let changed = store.update(&key, |old| -> Result<Decision, WriteError> {
        if old["metadata"]["uid"] != pod["metadata"]["uid"] {
            return Err(WriteError::Missing);
        }
        let mut new = Value::clone(old);
        edit(&mut new);
        Ok(Decision::Put(new))
    });
    changed.is_ok()
}

/// The value that a condition without a reason has.
pub(crate) fn condition(kind: &str, status: bool, why: Option<(&str, &str)>, since: &str) -> Value {
    let mut condition = json!({
        "type": kind, "status": if status { "True" } else { "False" },
        "lastProbeTime": null, "lastTransitionTime": since,
    });
    if let Some((reason, message)) = why {
        condition["reason"] = reason.into();
        if !message.is_empty() {
            condition["message"] = message.into();
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        let capacity = Capacity { cpu_millis: 2000, memory_bytes: 1000, pods: 2 };
        let of = |cpu_millis, memory_bytes| Requests { cpu_millis, memory_bytes };
        assert!(lacking(capacity, &[of(1000, 500)], of(1000, 500)).is_empty());
        assert_eq!(lacking(capacity, &[of(1000, 0)], of(1001, 0)), ["Insufficient cpu"]);
        let both = ["Insufficient cpu", "Insufficient memory", "Too many pods"];
        assert_eq!(lacking(capacity, &[of(2000, 1000), of(0, 0)], of(1, 1)), both);
        assert!(lacking(capacity, &[of(9000, 9000)], of(0, 0)).is_empty());
    }

    #[test]
    fn init_containers_count_where_they_are_larger() {
        let container =
            |cpu: &str| json!({"resources": {"requests": {"cpu": cpu, "memory": "1Ki"}}});
        let pod = json!({"spec": {"containers": [container("1"), container("500m")],
                                  "initContainers": [container("2")]}});
        assert_eq!(requests(&pod), Requests { cpu_millis: 2000, memory_bytes: 2048 });
        let mut beside = pod.clone();
        beside["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
        assert_eq!(requests(&beside), Requests { cpu_millis: 3500, memory_bytes: 3072 });
    }
}
