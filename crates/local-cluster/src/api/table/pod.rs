//! The row of a pod, found as Kubernetes' printer finds it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, name, since};

/// Returns the cells of a pod, in the order of its columns.
pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let or_none = |value: &Value| value.as_str().unwrap_or("<none>").to_owned();
    let seen = Seen::of(pod);
    vec![
        name(pod),
        json!(format!("{}/{}", seen.ready, seen.all)),
        json!(seen.word),
        json!(seen.restarts(now)),
        age(pod, now),
        json!(or_none(&pod["status"]["podIP"])),
        json!(or_none(&pod["spec"]["nodeName"])),
        json!("<none>"),
        json!("<none>"),
    ]
}

/// What is counted over the containers of a pod.
struct Seen {
    ready: usize,
    all: usize,
    word: String,
    restarts: Restarts,
}

impl Seen {
    fn of(pod: &Value) -> Self {
        let all = list(&pod["spec"]["containers"]).len();
        let all = all + list(&pod["spec"]["initContainers"]).iter().filter(is_sidecar).count();
        let mut seen = Self { ready: 0, all, word: word(pod), restarts: Restarts::default() };
        let initializing = seen.look_at_init(pod);
        let initialized = list(&pod["status"]["conditions"])
            .iter()
            .any(|c| c["type"] == "Initialized" && c["status"] == "True");
        if !initializing || initialized {
            seen.look_at_containers(pod);
        }
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if !ended && pod["metadata"].get("deletionTimestamp").is_some() {
            seen.word = "Terminating".into();
        }
        seen
    }

    /// Returns whether one of the init containers keeps the pod waiting.
    fn look_at_init(&mut self, pod: &Value) -> bool {
        let specs = list(&pod["spec"]["initContainers"]);
        for (at, status) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
            let sidecar =
                specs.iter().any(|spec| spec["name"] == status["name"] && is_sidecar(&spec));
            self.restarts.count(status);
            let state = &status["state"];
            if state["terminated"]["exitCode"] == 0 {
                continue;
            }
            if sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            let reason = container_word(state).filter(|word| word != "PodInitializing");
            let reason = reason.unwrap_or_else(|| format!("{at}/{}", specs.len()));
            self.word = format!("Init:{reason}");
            return true;
        }
        false
    }

    fn look_at_containers(&mut self, pod: &Value) {
        self.restarts = Restarts::default();
        let specs = list(&pod["spec"]["initContainers"]);
        let sidecar = |name: &Value| specs.iter().any(|s| s["name"] == *name && is_sidecar(&s));
        let init = list(&pod["status"]["initContainerStatuses"]).iter();
        init.filter(|status| sidecar(&status["name"])).for_each(|s| self.restarts.count(s));
        let mut running = false;
        for status in list(&pod["status"]["containerStatuses"]).iter().rev() {
            self.restarts.count(status);
            let state = &status["state"];
            if let Some(word) = container_word(state) {
                self.word = word;
            } else if status["ready"] == true && state.get("running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.word == "Completed" && running {
            let conditions = list(&pod["status"]["conditions"]);
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            self.word = if ready { "Running" } else { "NotReady" }.into();
        }
    }

    fn restarts(&self, now: Timestamp) -> String {
        let Restarts { count, last } = &self.restarts;
        match last.as_str() {
            Some(_) if *count > 0 => {
                format!("{count} ({} ago)", since(last, now).as_str().unwrap_or_default())
            }
            _ => count.to_string(),
        }
    }
}

/// How often containers were started again, and when the last one had ended before.
#[derive(Default)]
struct Restarts {
    count: u64,
    last: Value,
}

impl Restarts {
    fn count(&mut self, status: &Value) {
        self.count += status["restartCount"].as_u64().unwrap_or(0);
        let ended = &status["lastState"]["terminated"]["finishedAt"];
        // All are written alike: the later one is the greater one.
        if ended.as_str() > self.last.as_str() {
            self.last = ended.clone();
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_sidecar(container: &&Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// What the pod itself says.
fn word(pod: &Value) -> String {
    let status = &pod["status"];
    let gated = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if list(&status["conditions"]).iter().any(gated) {
        return "SchedulingGated".into();
    }
    let reason = status["reason"].as_str().filter(|reason| !reason.is_empty());
    reason.or(status["phase"].as_str()).unwrap_or_default().to_owned()
}

fn container_word(state: &Value) -> Option<String> {
    let reason =
        |state: &Value| state["reason"].as_str().filter(|r| !r.is_empty()).map(str::to_owned);
    if let Some(word) = reason(&state["waiting"]).or_else(|| reason(&state["terminated"])) {
        return Some(word);
    }
    let ended = state.get("terminated")?;
    match ended["signal"].as_i64().unwrap_or(0) {
        0 => Some(format!("ExitCode:{}", ended["exitCode"])),
        signal => Some(format!("Signal:{signal}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// READY, STATUS and RESTARTS.
    fn shown(pod: &Value) -> [String; 3] {
        let cells = cells(pod, "2025-03-03T10:01:00Z".parse().unwrap());
        [1, 2, 3].map(|at| cells[at].as_str().unwrap().to_owned())
    }

    #[test]
    fn the_status_column_says_the_worst() {
        let waiting = json!({"spec": {"containers": [{}]}, "status": {"phase": "Pending",
            "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}});
        assert_eq!(shown(&waiting), ["0/1", "ErrImagePull", "0"]);
        let init = json!({"spec": {"containers": [{}], "initContainers": [{}, {}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"state": {"terminated": {"exitCode": 0}}}, {"state": {"running": {}}}]}});
        assert_eq!(shown(&init), ["0/1", "Init:1/2", "0"]);
        let going = json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}});
        assert_eq!(shown(&going), ["0/0", "Terminating", "0"]);
    }

    #[test]
    fn restarts_are_counted_and_the_last_is_dated() {
        let status = |restarts: u64, ended: &str| {
            json!({"restartCount": restarts,
            "ready": true, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": ended}}})
        };
        let pod = json!({"spec": {"containers": [{}, {}]}, "status": {"phase": "Running",
            "containerStatuses": [status(2, "2025-03-03T10:00:55Z"),
                                  status(1, "2025-03-03T09:00:00Z")]}});
        assert_eq!(shown(&pod), ["2/2", "Running", "3 (5s ago)"]);
    }

    #[test]
    fn a_sidecar_counts_as_a_container() {
        let sidecar = json!({"name": "side", "started": true, "ready": true, "restartCount": 1,
            "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "2025-03-03T10:00:00Z"}}});
        let pod = |containers: Value| {
            json!({
            "spec": {"containers": [{}], "initContainers":
                [{"name": "side", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "initContainerStatuses": [sidecar],
                       "containerStatuses": containers}})
        };
        let running = json!([{"ready": true, "restartCount": 0, "state": {"running": {}}}]);
        assert_eq!(shown(&pod(running)), ["2/2", "Running", "1 (60s ago)"]);
        let over = json!([{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                          {"ready": true, "state": {"running": {}}}]);
        assert_eq!(shown(&pod(over))[1], "NotReady");
    }
}
