//! Small questions about pods.

use std::collections::HashMap;

use jiff::Timestamp;
use pod_runtime::spec::{ContainerState, ContainerStatus, PodStatus};
use serde_json::Value;

use crate::clock;

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn is_over(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

pub(crate) fn field(container: &str) -> String {
    format!("spec.containers{{{container}}}")
}

pub(crate) fn container_field(pod: &Value, name: &str) -> String {
    let inits = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    match inits.into_iter().any(|container| container["name"] == name) {
        true => format!("spec.initContainers{{{name}}}"),
        false => field(name),
    }
}

/// Whether an init container runs beside the others.
pub(crate) fn is_sidecar(init: &Value) -> bool {
    init["restartPolicy"] == "Always"
}

/// Returns a pod's name as the kubelet writes it in messages.
pub(crate) fn full_name(pod: &Value) -> String {
    let meta = &pod["metadata"];
    format!("{}_{}({})", text(&meta["name"]), text(&meta["namespace"]), text(&meta["uid"]))
}

pub(crate) fn image_of<'a>(pod: &'a Value, name: &str) -> &'a str {
    let list = |list: &str| pod["spec"][list].as_array().into_iter().flatten();
    let mut all = list("initContainers").chain(list("containers"));
    all.find(|container| container["name"] == name).map_or("", |c| text(&c["image"]))
}

/// Returns the names of the containers that have run, by the object's status.
pub(crate) fn started_containers(pod: &Value) -> impl Iterator<Item = &str> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
        .filter(|container| {
            let again = container["restartCount"].as_u64().is_some_and(|count| count > 0);
            again
                || container["lastState"].get("terminated").is_some()
                || container["state"].get("waiting").is_none()
        })
        .map(|container| text(&container["name"]))
}

/// Returns the containers whose start has been told, and how often they had been started again.
pub(crate) fn told_starts(pod: &Value) -> HashMap<String, u32> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let all = lists.iter().flat_map(|list| pod["status"][*list].as_array().into_iter().flatten());
    let restarts = |name: &str| {
        let mut all = all.clone();
        let status = all.find(|container| container["name"] == name);
        status.and_then(|status| status["restartCount"].as_u64()).unwrap_or(0)
    };
    let count = |name: &str| u32::try_from(restarts(name)).unwrap_or(u32::MAX);
    started_containers(pod).map(|name| (name.to_owned(), count(name))).collect()
}

/// Returns the seconds that a deletion leaves, if there is one.
pub(crate) fn remaining_grace(object: &Value, now: Timestamp) -> Option<u64> {
    let meta = &object["metadata"];
    let until = meta["deletionTimestamp"].as_str().and_then(clock::parse)?;
    let grace = meta["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
    // The timestamp has whole seconds: a second more is within what was asked for.
    Some((clock::seconds_between(now, until) + 1).min(grace))
}

/// Whether nothing more will come of a pod. Shims of earlier builds do not say it: theirs never
/// start anything again.
pub(crate) fn is_final(seen: &PodStatus) -> bool {
    if let Some(over) = seen.over {
        return over;
    }
    let runs = |c: &ContainerStatus| matches!(c.state, ContainerState::Running { .. });
    let code = |c: &ContainerStatus| match &c.state {
        ContainerState::Terminated { exit_code, .. } => Some(*exit_code),
        ContainerState::Waiting { .. } | ContainerState::Running { .. } => None,
    };
    let failed = seen.init_containers.iter().filter_map(code).any(|code| code != 0);
    !seen.containers.iter().chain(&seen.init_containers).any(runs)
        && (failed || seen.reason.is_some() || seen.containers.iter().all(|c| code(c).is_some()))
}

/// Whether no container has run yet and nothing was decided: the daemon died while its shim began,
/// and that one ended with it.
pub(crate) fn never_ran(seen: &PodStatus) -> bool {
    let waits =
        |c: &ContainerStatus| matches!(c.state, ContainerState::Waiting { .. }) && c.last.is_none();
    seen.reason.is_none() && seen.init_containers.iter().chain(&seen.containers).all(waits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Set back, it makes no end later than was asked; set forward, SIGTERM still comes first.
    #[test]
    fn a_clock_that_is_set_lengthens_no_grace() {
        let pod = json!({"metadata": {
            "deletionTimestamp": "2026-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30,
        }});
        let at = |text: &str| remaining_grace(&pod, text.parse().unwrap());
        assert_eq!(at("2026-01-01T12:00:10Z"), Some(21), "the whole second more");
        assert_eq!(at("2026-01-01T07:00:00Z"), Some(30), "five hours back");
        assert_eq!(at("2026-01-01T17:00:00Z"), Some(1), "five hours forward");
        assert_eq!(
            remaining_grace(&json!({"metadata": {}}), "2026-01-01T17:00:00Z".parse().unwrap()),
            None
        );
    }
}
