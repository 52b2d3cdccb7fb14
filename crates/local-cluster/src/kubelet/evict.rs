//! Pods that write more than they may, in the kubelet's words.

use std::time::Duration;

use pod_runtime::Pod;
use pod_runtime::spec::Usage;
use serde_json::Value;

use super::about::{is_sidecar, text};
use super::aside::blocking;
use super::events::Note;
use super::worker::Worker;
use crate::pod::quantity;

/// What is limited.
pub(crate) const STORAGE: &str = "ephemeral-storage";
/// Why a pod ends.
pub(crate) const REASON: &str = "Evicted";
/// Between SIGTERM and SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// How often a pod is looked at, as the kubelet does.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks at what a pod has written until it is more than it may, and says what. Never returns for
/// one without such limits.
pub(super) async fn watch(pod: Pod, object: Value) -> String {
    if !is_limited(&object) {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(PERIOD).await;
        let asked = pod.clone();
        // One that has ended is seen by its stream.
        let usage = blocking(move || asked.usage()).await;
        if let Some(message) = usage.ok().and_then(|usage| exceeded(&object, &usage)) {
            return message;
        }
    }
}

impl Worker {
    /// Gives back what a pod had on disk that was ended for it; its logs stay.
    pub(super) async fn forget_files(&self) {
        if self.pod["status"]["reason"] != REASON {
            return;
        }
        let (runtime, uid) = (self.pods.runtime.clone(), self.uid.clone());
        match blocking(move || runtime.forget_files(&uid)).await {
            Ok(()) | Err(pod_runtime::Error::NotFound(_)) => {}
            Err(error) => tracing::warn!(%error, uid = self.uid, "an evicted pod's files stay"),
        }
    }

    /// Ends a pod that has taken too much.
    pub(super) async fn evict(&self, pod: &Pod, message: String) {
        self.tell(&Note::pod("Warning", REASON, message.clone()));
        let pod = pod.clone();
        // One that has just ended is not an error: its stream says so.
        blocking(move || pod.end(REASON, &message, GRACE)).await.ok();
    }
}

fn limit(container: &Value) -> Option<(&str, u64)> {
    let text = container["resources"]["limits"][STORAGE].as_str()?;
    Some((text, quantity::units(text)?))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let list = |name: &str| pod["spec"][name].as_array().into_iter().flatten();
    list("initContainers").chain(list("containers"))
}

fn size_limits(pod: &Value) -> impl Iterator<Item = (&str, &str, u64)> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| {
        let limit = volume["emptyDir"]["sizeLimit"].as_str()?;
        Some((text(&volume["name"]), limit, quantity::units(limit)?))
    })
}

fn is_limited(pod: &Value) -> bool {
    containers(pod).any(|container| limit(container).is_some()) || size_limits(pod).next().is_some()
}

/// Returns what of a pod is more than it may be.
fn exceeded(pod: &Value, usage: &Usage) -> Option<String> {
    for (name, limit, most) in size_limits(pod) {
        if usage.volumes.get(name).is_some_and(|used| *used > most) {
            return Some(format!(
                "Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}. "
            ));
        }
    }
    let together = |container: &&Value| is_main(pod, container) || is_sidecar(container);
    let limits: Vec<u64> =
        containers(pod).filter(together).filter_map(|c| Some(limit(c)?.1)).collect();
    let total = limits.iter().fold(0, |sum: u64, limit| sum.saturating_add(*limit));
    if !limits.is_empty() && self::total(usage) > total {
        let total = quantity::bytes(total);
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
        ));
    }
    containers(pod).find_map(|container| {
        let (name, (limit, most)) = (text(&container["name"]), limit(container)?);
        usage.containers.get(name).filter(|used| **used > most)?;
        Some(format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. "))
    })
}

fn is_main(pod: &Value, container: &Value) -> bool {
    let mut mains = pod["spec"]["containers"].as_array().into_iter().flatten();
    mains.any(|main| main["name"] == container["name"])
}

/// Returns all that a pod has written.
pub(crate) fn total(usage: &Usage) -> u64 {
    usage.volumes.values().chain(usage.containers.values()).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usage(volume: u64, main: u64, side: u64) -> Usage {
        let of = |all: &[(&str, u64)]| {
            all.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()
        };
        Usage { volumes: of(&[("v", volume)]), containers: of(&[("c", main), ("s", side)]) }
    }

    #[test]
    fn the_first_limit_that_is_exceeded_is_named() {
        let limits = |limit: &str| json!({"limits": {"ephemeral-storage": limit}});
        let pod = json!({"spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}],
            "initContainers": [{"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "c", "resources": limits("2Mi")}]}});
        let said = |volume: u64, main: u64, side: u64| {
            exceeded(&pod, &usage(volume << 20, main << 20, side << 20))
        };
        assert!(is_limited(&pod) && !is_limited(&json!({"spec": {"containers": [{}]}})));
        assert_eq!(said(1, 1, 0), None);
        let volume = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
        assert_eq!(said(2, 9, 0).as_deref(), Some(volume));
        let all = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ";
        assert_eq!(said(0, 1, 2).as_deref(), Some(all));
        let mut alone = pod.clone();
        alone["spec"]["initContainers"][0]["resources"] = limits("9Mi");
        let said = exceeded(&alone, &usage(0, 3 << 20, 0));
        let main = "Container c exceeded its local ephemeral storage limit \"2Mi\". ";
        assert_eq!(said.as_deref(), Some(main));
    }
}
