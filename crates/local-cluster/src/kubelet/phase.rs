//! A pod's phase.

use pod_runtime::spec::{ContainerState, ContainerStatus, PodStatus};
use serde_json::Value;

use super::about::{is_final, is_sidecar};

/// How a container counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Waiting,
    Running,
    /// By its exit code; one that waits to be started again has ended too.
    Ended(i32),
}

/// Kubernetes' `getPhase`.
pub(crate) fn of(pod: &Value, seen: &PodStatus) -> &'static str {
    let spec = &pod["spec"];
    let never = spec["restartPolicy"] == "Never";
    let runs = seen.containers.iter().any(|c| count(c) == Count::Running);
    if seen.reason.is_some() && !runs {
        return "Failed";
    }
    let inits = spec["initContainers"].as_array().into_iter().flatten().zip(&seen.init_containers);
    let plain = inits.clone().filter(|(init, _)| !is_sidecar(init)).map(|(_, seen)| count(seen));
    let failed = |count: Count| matches!(count, Count::Ended(code) if code != 0);
    if plain.clone().any(failed) && (never || is_final(seen)) {
        return "Failed";
    }
    let counts: Vec<Count> = seen.containers.iter().map(count).collect();
    let mut sidecars = inits.filter(|(init, _)| is_sidecar(init));
    let gated = sidecars.any(|(_, sidecar)| !sidecar.started && sidecar.restarts == 0);
    let begun = counts.iter().any(|count| *count != Count::Waiting);
    if plain.into_iter().any(|count| count != Count::Ended(0)) || gated && !begun {
        return "Pending";
    }
    if counts.contains(&Count::Waiting) {
        return "Pending";
    }
    match counts.contains(&Count::Running) {
        true => "Running",
        false if !is_final(seen) => "Running",
        false if counts.iter().all(|count| *count == Count::Ended(0)) => "Succeeded",
        false => "Failed",
    }
}

fn count(container: &ContainerStatus) -> Count {
    let of = |state: &ContainerState| match state {
        ContainerState::Waiting { .. } => Count::Waiting,
        ContainerState::Running { .. } => Count::Running,
        ContainerState::Terminated { exit_code, .. } => Count::Ended(*exit_code),
    };
    match (of(&container.state), &container.last) {
        (Count::Waiting, Some(last)) => of(last),
        (now, _) => now,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use pod_runtime::spec::Network;
    use serde_json::json;

    use super::*;

    fn container(state: ContainerState, last: Option<ContainerState>) -> ContainerStatus {
        let restarts = u32::from(last.is_some());
        ContainerStatus { name: "c".into(), state, started: true, ready: true, restarts, last }
    }

    fn ended(exit_code: i32) -> ContainerState {
        let (reason, message) = (String::new(), String::new());
        let (started_at, finished_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let signal = None;
        ContainerState::Terminated { exit_code, signal, reason, message, started_at, finished_at }
    }

    fn runs() -> ContainerState {
        ContainerState::Running { started_at: Timestamp::UNIX_EPOCH }
    }

    fn waits() -> ContainerState {
        ContainerState::Waiting { reason: String::new(), message: String::new() }
    }

    fn phase(
        policy: &str,
        side: ContainerState,
        main: ContainerStatus,
        over: bool,
    ) -> &'static str {
        let pod = json!({"spec": {"restartPolicy": policy, "containers": [{}],
                                  "initContainers": [{"restartPolicy": "Always"}]}});
        let mut side = container(side, None);
        side.started = matches!(side.state, ContainerState::Running { .. });
        let status = PodStatus {
            started_at: Timestamp::UNIX_EPOCH,
            ip: None,
            network: Network::None,
            limits_not_enforced: None,
            init_containers: vec![side],
            containers: vec![main],
            reason: None,
            over: Some(over),
            notes: Vec::new(),
        };
        of(&pod, &status)
    }

    #[test]
    fn a_sidecar_does_not_hold_the_phase_and_its_end_does_not_count() {
        let main = |state| container(state, None);
        assert_eq!(phase("Never", waits(), main(waits()), false), "Pending");
        assert_eq!(phase("Never", runs(), main(runs()), false), "Running");
        assert_eq!(phase("Never", runs(), main(ended(0)), false), "Running");
        assert_eq!(phase("Never", ended(143), main(ended(0)), true), "Succeeded");
        assert_eq!(phase("Never", ended(0), main(ended(1)), true), "Failed");
    }

    #[test]
    fn a_pod_that_comes_back_runs() {
        let waiting = || container(waits(), Some(ended(1)));
        assert_eq!(phase("Always", runs(), waiting(), false), "Running");
        assert_eq!(phase("OnFailure", runs(), container(ended(1), None), false), "Running");
        assert_eq!(phase("OnFailure", ended(0), container(ended(0), None), true), "Succeeded");
    }
}
