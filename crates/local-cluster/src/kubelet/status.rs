//! From what the runtime says of a pod to Kubernetes' status.

use jiff::Timestamp;
use pod_runtime::spec::{ContainerState, ContainerStatus, PodStatus};
use serde_json::{Value, json};

use super::about::{full_name, is_sidecar};
use super::scheduler::condition;
use super::{phase, pressure};
use crate::clock;

/// Sets one condition; the time of its last change stays while its status does.
pub(crate) fn set_condition(
    status: &mut Value,
    kind: &str,
    is: bool,
    why: Option<(&str, &str)>,
    now: Timestamp,
) {
    let word = if is { "True" } else { "False" };
    let mut all = status["conditions"].as_array().cloned().unwrap_or_default();
    let old = all.iter().find(|c| c["type"] == kind && c["status"] == word);
    let since = old.and_then(|c| c["lastTransitionTime"].as_str()).map(str::to_owned);
    let new = condition(kind, is, why, &since.unwrap_or_else(|| clock::text(now)));
    match all.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => *old = new,
        None => all.push(new),
    }
    status["conditions"] = all.into();
}

/// A pod that is on its way: why each of its containers waits.
pub(crate) fn waiting(pod: &Value, blocked: Option<(&str, &str, &str)>, now: Timestamp) -> Value {
    let mut status = pod["status"].clone();
    status["phase"] = "Pending".into();
    if status["startTime"].is_null() {
        status["startTime"] = clock::text(now).into();
    }
    let spec = &pod["spec"];
    let init = spec["initContainers"].as_array().is_some_and(|all| !all.is_empty());
    for (list, field) in LISTS {
        let containers = spec[*list].as_array().into_iter().flatten();
        let states: Vec<Value> = containers
            .map(|container| {
                let default = if init { "PodInitializing" } else { "ContainerCreating" };
                let state = match blocked {
                    Some((name, reason, message)) if container["name"] == name => {
                        json!({"waiting": {"reason": reason, "message": message}})
                    }
                    _ => json!({"waiting": {"reason": default}}),
                };
                container_status(pod, container, &state, false, false)
            })
            .collect();
        if !states.is_empty() {
            status[*field] = states.into();
        }
    }
    conditions(&mut status, pod, now);
    status
}

pub(super) const LISTS: &[(&str, &str)] =
    &[("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")];

/// A pod that the runtime has.
pub(crate) fn running(pod: &Value, seen: &PodStatus, host: &str, now: Timestamp) -> Value {
    let mut status = pod["status"].clone();
    if status["startTime"].is_null() {
        status["startTime"] = clock::text(seen.started_at).into();
    }
    status["hostIP"] = host.into();
    status["hostIPs"] = json!([{"ip": host}]);
    if let Some(ip) = seen.ip {
        status["podIP"] = ip.to_string().into();
        status["podIPs"] = json!([{"ip": ip.to_string()}]);
    }
    for ((list, field), states) in LISTS.iter().zip([&seen.init_containers, &seen.containers]) {
        let init = *list == "initContainers";
        let containers = pod["spec"][*list].as_array().into_iter().flatten();
        let written: Vec<Value> = containers
            .zip(states)
            .map(|(container, state)| seen_status(pod, container, state, init))
            .collect();
        if !written.is_empty() {
            status[*field] = written.into();
        }
    }
    status["phase"] = phase::of(pod, seen).into();
    if let Some((reason, message)) = &seen.reason {
        status["reason"] = reason.as_str().into();
        status["message"] = message.as_str().into();
        if pressure::ended(reason, message) {
            let why = Some(("TerminationByKubelet", message.as_str()));
            set_condition(&mut status, "DisruptionTarget", true, why, now);
        }
    }
    conditions(&mut status, pod, now);
    if let Some(why) = &seen.limits_not_enforced {
        let why = Some(("NotSupported", why.as_str()));
        set_condition(&mut status, "LimitsEnforced", false, why, now);
    }
    status
}

/// A pod whose processes are gone without a word.
pub(crate) fn vanished(pod: &Value, reason: &str, message: &str, now: Timestamp) -> Value {
    let mut status = pod["status"].clone();
    status["phase"] = "Failed".into();
    status["reason"] = reason.into();
    status["message"] = message.into();
    let at = clock::text(now);
    for (list, field) in LISTS {
        let containers = pod["spec"][*list].as_array().into_iter().flatten();
        let written: Vec<Value> = containers
            .enumerate()
            .map(|(index, container)| {
                let old = &pod["status"][*field][index]["state"];
                if old.get("terminated").is_some() {
                    return pod["status"][*field][index].clone();
                }
                let began = old["running"]["startedAt"].as_str();
                let state = json!({"terminated": {
                    "exitCode": 137, "reason": "ContainerStatusUnknown",
                    "message": "The container could not be located when the pod was terminated",
                    "startedAt": began, "finishedAt": at,
                }});
                container_status(pod, container, &state, false, false)
            })
            .collect();
        if !written.is_empty() {
            status[*field] = written.into();
        }
    }
    conditions(&mut status, pod, now);
    status
}

/// A pod that failed as a whole before its containers ran.
pub(crate) fn failed(pod: &Value, reason: &str, message: &str, now: Timestamp) -> Value {
    let mut status = pod["status"].clone();
    status["phase"] = "Failed".into();
    status["reason"] = reason.into();
    status["message"] = message.into();
    conditions(&mut status, pod, now);
    status
}

fn seen_status(pod: &Value, container: &Value, seen: &ContainerStatus, init: bool) -> Value {
    let plain_init = init && !is_sidecar(container);
    let ready = match &seen.state {
        ContainerState::Waiting { .. } => false,
        ContainerState::Running { .. } => seen.started && seen.ready && !plain_init,
        // An init container is ready once it has succeeded.
        ContainerState::Terminated { exit_code, .. } => plain_init && *exit_code == 0,
    };
    let state = state(pod, container, &seen.state);
    let mut status = container_status(pod, container, &state, ready, seen.started);
    status["restartCount"] = seen.restarts.into();
    if let Some(last) = &seen.last {
        status["lastState"] = self::state(pod, container, last);
        status["containerID"] = container_id(pod, container).into();
        status["imageID"] = container["image"].clone();
    }
    status
}

fn state(pod: &Value, container: &Value, seen: &ContainerState) -> Value {
    match seen {
        ContainerState::Waiting { reason, message } => {
            let mut waiting = json!({"reason": reason});
            if reason == "CrashLoopBackOff" {
                let name = container["name"].as_str().unwrap_or_default();
                waiting["message"] = format!("{message}={name} pod={}", full_name(pod)).into();
            } else if !message.is_empty() {
                waiting["message"] = message.as_str().into();
            }
            json!({"waiting": waiting})
        }
        ContainerState::Running { started_at } => {
            json!({"running": {"startedAt": clock::text(*started_at)}})
        }
        ContainerState::Terminated {
            exit_code,
            signal,
            reason,
            message,
            started_at,
            finished_at,
        } => {
            let mut ended = json!({
                "exitCode": exit_code, "reason": reason,
                "startedAt": clock::text(*started_at), "finishedAt": clock::text(*finished_at),
                "containerID": container_id(pod, container),
            });
            if let Some(signal) = signal {
                ended["signal"] = (*signal).into();
            }
            if !message.is_empty() {
                ended["message"] = message.as_str().into();
            }
            json!({"terminated": ended})
        }
    }
}

fn container_id(pod: &Value, container: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("loom://{}/{}", text(&pod["metadata"]["uid"]), text(&container["name"]))
}

fn container_status(
    pod: &Value,
    container: &Value,
    state: &Value,
    ready: bool,
    started: bool,
) -> Value {
    let exists = state.get("waiting").is_none();
    let mut status = json!({
        "name": container["name"], "image": container["image"],
        "imageID": if exists { container["image"].clone() } else { json!("") },
        "state": state, "lastState": {}, "ready": ready, "restartCount": 0,
        "started": started && state.get("running").is_some(),
    });
    if exists {
        status["containerID"] = container_id(pod, container).into();
    }
    status
}

fn sidecars(pod: &Value) -> Vec<Value> {
    let inits = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    inits.filter(|init| is_sidecar(init)).map(|init| init["name"].clone()).collect()
}

/// Derives the conditions from everything else.
fn conditions(status: &mut Value, pod: &Value, now: Timestamp) {
    let phase = status["phase"].as_str().unwrap_or_default().to_owned();
    let over = match phase.as_str() {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let sidecars = sidecars(pod);
    let uninit = uninitialized(status, &sidecars);
    let initialized = uninit.is_empty() || begun(status) || phase == "Succeeded";
    let incomplete = format!("containers with incomplete status: [{}]", uninit.join(" "));
    let unready = unready(status, &sidecars);
    let known = status["containerStatuses"].as_array().is_some_and(|all| !all.is_empty());
    let ready = known && unready.is_empty() && over.is_none();
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    let sandbox = status.get("hostIP").is_some_and(Value::is_string) && over.is_none();
    set_condition(status, "PodReadyToStartContainers", sandbox, None, now);
    let why = match (initialized, over) {
        (true, Some("PodCompleted")) => Some(("PodCompleted", "")),
        (true, _) => None,
        (false, _) => Some(("ContainersNotInitialized", incomplete.as_str())),
    };
    set_condition(status, "Initialized", initialized, why, now);
    let why = match over {
        Some(over) => Some((over, "")),
        None if ready => None,
        None => Some(("ContainersNotReady", message.as_str())),
    };
    set_condition(status, "Ready", ready, why, now);
    set_condition(status, "ContainersReady", ready, why, now);
    if pod["spec"]["nodeName"].is_string() {
        set_condition(status, "PodScheduled", true, None, now);
    }
}

fn uninitialized(status: &Value, sidecars: &[Value]) -> Vec<String> {
    names(status, "initContainerStatuses", |c| {
        let serves = sidecars.contains(&c["name"]) && c["started"] == true;
        c["state"]["terminated"]["exitCode"] != 0 && !serves
    })
}

/// Whether a container of the pod proper has started: a sidecar that is started again changes
/// nothing then.
fn begun(status: &Value) -> bool {
    status["containerStatuses"].as_array().into_iter().flatten().any(|container| {
        container["restartCount"].as_u64() > Some(0) || container["state"].get("waiting").is_none()
    })
}

fn unready(status: &Value, sidecars: &[Value]) -> Vec<String> {
    let mut unready = names(status, "initContainerStatuses", |c| {
        sidecars.contains(&c["name"]) && c["ready"] != true
    });
    unready.extend(names(status, "containerStatuses", |c| c["ready"] != true));
    unready
}

fn names(status: &Value, list: &str, which: impl Fn(&Value) -> bool) -> Vec<String> {
    let all = status[list].as_array().into_iter().flatten();
    let name = |c: &Value| c["name"].as_str().unwrap_or_default().to_owned();
    all.filter(|container| which(container)).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn pod() -> Value {
        json!({"metadata": {"uid": "u"}, "status": {},
               "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}],
                        "initContainers": [{"name": "i", "image": "i"}]}})
    }

    fn seen(init: ContainerState, main: ContainerState) -> PodStatus {
        let status = |name: &str, state| ContainerStatus {
            name: name.into(),
            state,
            started: true,
            ready: true,
            restarts: 0,
            last: None,
        };
        PodStatus {
            started_at: at(),
            ip: None,
            network: pod_runtime::spec::Network::None,
            limits_not_enforced: None,
            init_containers: vec![status("i", init)],
            containers: vec![status("c", main)],
            reason: None,
            over: None,
            notes: Vec::new(),
        }
    }

    fn ended(exit_code: i32) -> ContainerState {
        ContainerState::Terminated {
            exit_code,
            signal: None,
            reason: "x".into(),
            message: String::new(),
            started_at: at(),
            finished_at: at(),
        }
    }

    fn waits() -> ContainerState {
        ContainerState::Waiting { reason: "PodInitializing".into(), message: String::new() }
    }

    #[test]
    fn a_pod_that_only_waited_never_ran() {
        use super::super::about::never_ran;
        assert!(never_ran(&seen(waits(), waits())));
        assert!(!never_ran(&seen(ended(0), waits())));
        assert!(!never_ran(&seen(ContainerState::Running { started_at: at() }, waits())));
        let decided = Some(("DeadlineExceeded".to_owned(), String::new()));
        assert!(!never_ran(&PodStatus { reason: decided, ..seen(waits(), waits()) }));
    }

    #[test]
    fn phases_are_those_of_kubernetes() {
        let runs = || ContainerState::Running { started_at: at() };
        for (init, main, expected) in [
            (runs(), waits(), "Pending"),
            (ended(0), waits(), "Pending"),
            (ended(1), waits(), "Failed"),
            (ended(0), runs(), "Running"),
            (ended(0), ended(0), "Succeeded"),
            (ended(0), ended(7), "Failed"),
        ] {
            let status = running(&pod(), &seen(init, main), "h", at());
            assert_eq!(status["phase"], expected, "{status}");
        }
    }

    #[test]
    fn ready_follows_the_containers() {
        let ready = |status: &Value| {
            let all = status["conditions"].as_array().unwrap().clone();
            all.into_iter().find(|c| c["type"] == "Ready").unwrap()
        };
        let runs = seen(ended(0), ContainerState::Running { started_at: at() });
        assert_eq!(ready(&running(&pod(), &runs, "h", at()))["status"], "True");
        let over = seen(ended(0), ended(0));
        assert_eq!(ready(&running(&pod(), &over, "h", at()))["reason"], "PodCompleted");
    }
}
