//! What Kubernetes reports, and what a user is told: one row each.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use weaver::Phase;

use super::*;
use crate::settings::Settings;

/// Returns the sample weaver's pod with this status.
fn pod(status: Value) -> Pod {
    let sample = weaver::Weaver::sample();
    let mut spec = sample.spec.clone();
    spec.image = "debian:12".parse().unwrap();
    let admitted = weaver::Policy::default().admit(sample.id, spec).unwrap();
    let tools_image = Some("example.com/tools:1".to_owned());
    let settings = Settings { tools_image, ..Settings::default() };
    let mut pod = crate::pod::render(&admitted, sample.created_at, &settings);
    pod.status = Some(serde_json::from_value(status).unwrap());
    pod
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "weaver", "ready": false,
        "restartCount": 0, "image": "", "imageID": "",
        "state": {"waiting": {"reason": reason, "message": message}}}]})
}

fn running(started: bool, ready: bool) -> Value {
    json!({"phase": "Running", "containerStatuses": [{"name": "weaver", "ready": ready,
        "started": started, "restartCount": 0, "image": "", "imageID": "",
        "state": {"running": {"startedAt": "2025-03-03T10:00:01Z"}}}]})
}

fn ended(phase: &str, reason: &str, code: i32, seconds: i64) -> Value {
    json!({"phase": phase, "containerStatuses": [{"name": "weaver", "ready": false,
        "restartCount": 0, "image": "", "imageID": "",
        "state": {"terminated": {"reason": reason, "exitCode": code,
            "startedAt": "2025-03-03T10:00:01Z",
            "finishedAt": format!("2025-03-03T10:00:{:02}Z", 1 + seconds)}}}]})
}

fn with(mut status: Value, more: Value) -> Value {
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    status
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": status, "reason": reason, "message": message}]})
}

#[track_caller]
fn says(status: Value, phase: Phase, reason: &str, message: &str) {
    let found = crate::pod::read(&pod(status)).unwrap().weaver;
    let why = found.why.unwrap_or_else(|| panic!("no reason, expected {reason}"));
    assert_eq!((found.phase, why.reason.as_str(), why.message.as_str()), (phase, reason, message));
}

const CANNOT_RESOLVE: &str = "failed to pull and unpack image \"docker.io/library/debian:12\": \
    failed to resolve reference \"docker.io/library/debian:12\": ";

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn images() {
    let gone = "image debian:12 does not exist, or is private and needs a login: `docker login`, or a pull secret";
    for cause in [
        "docker.io/library/debian:12: not found",
        "pull access denied, repository does not exist or may require authorization",
        "unexpected status from HEAD request: 403 Forbidden",
    ] {
        let text = format!("{CANNOT_RESOLVE}{cause}");
        says(waiting("ErrImagePull", &text), Phase::Pending, "ErrImagePull", gone);
    }
    let back_off = "Back-off pulling image \"debian:12\"";
    says(waiting("ImagePullBackOff", back_off), Phase::Pending, "ErrImagePull", gone);
    let with_cause = format!("{back_off}: ErrImagePull: unexpected EOF");
    let cause = "image debian:12 cannot be fetched: unexpected EOF";
    says(waiting("ImagePullBackOff", &with_cause), Phase::Pending, "ErrImagePull", cause);
    says(
        waiting("ErrImagePull", "dial tcp: lookup debian:12 on 10.0.0.1:53: no such host"),
        Phase::Pending,
        "ErrImagePull",
        "the registry of image debian:12 cannot be reached: \
         dial tcp: lookup debian:12 on 10.0.0.1:53: no such host",
    );
    says(
        waiting("ErrImagePull", "429 Too Many Requests - toomanyrequests: limit reached"),
        Phase::Pending,
        "ErrImagePull",
        "the registry of image debian:12 limits how often it may be asked",
    );
    says(
        waiting("ErrImagePull", "failed to resolve \"example.com/tools:1\": not found"),
        Phase::Pending,
        "ErrImagePull",
        "image example.com/tools:1 does not exist, or is private and needs a login: `docker login`, or a pull secret",
    );
    says(
        waiting("InvalidImageName", "couldn't parse"),
        Phase::Pending,
        "InvalidImageName",
        "debian:12 is not the name of an image",
    );
    says(
        waiting("ErrImageNeverPull", ""),
        Phase::Pending,
        "ErrImageNeverPull",
        "the node has no image debian:12 and may not fetch it",
    );
    let never = "Container image \"debian:12\" is not present with pull policy of Never";
    says(
        waiting("ErrImageNeverPull", never),
        Phase::Pending,
        "ErrImageNeverPull",
        "the node has no image debian:12 and may not fetch it",
    );
    says(
        waiting("ErrImageNeverPull", "this cluster cannot pull images yet"),
        Phase::Pending,
        "ErrImageNeverPull",
        "image debian:12 cannot be had: this cluster cannot pull images yet",
    );
}

#[test]
fn scheduling() {
    let lacking = "0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory. \
        preemption: 0/3 nodes are available: 3 No preemption victims found.";
    says(
        with(
            json!({"phase": "Pending"}),
            condition("PodScheduled", "False", "Unschedulable", lacking),
        ),
        Phase::Pending,
        "Unschedulable",
        "the cluster has not enough cpu and memory left for it; it waits for some",
    );
    let tainted = "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: true}. \
        preemption: no.";
    says(
        with(
            json!({"phase": "Pending"}),
            condition("PodScheduled", "False", "Unschedulable", tainted),
        ),
        Phase::Pending,
        "Unschedulable",
        "no node takes it: 0/1 nodes are available: 1 node(s) had untolerated taint {gpu: true}.",
    );
    says(json!({}), Phase::Pending, "Scheduling", "it waits for a node");
}

#[test]
fn starting() {
    says(
        running(false, false),
        Phase::Pending,
        "Starting",
        "its program has started and does not answer yet",
    );
    says(
        waiting("CreateContainerConfigError", "secret \"x\" not found"),
        Phase::Pending,
        "CreateContainerConfigError",
        "its container's configuration cannot be used: secret \"x\" not found",
    );
    let noexec = "exec: \"/run/loom/tools/loom-host\": permission denied";
    says(
        with_message("StartError", 128, noexec),
        Phase::Failed,
        "StartError",
        "the cluster mounts the tools image without execute permission: \
         the server needs LOOM_SERVER_TOOLS_MOUNT=init",
    );
    says(
        with_message(
            "StartError",
            128,
            "exec: \"/run/loom/tools/loom-host\": no such file or directory",
        ),
        Phase::Failed,
        "StartError",
        "the tools image holds no loom-host: the server's LOOM_SERVER_TOOLS_IMAGE is wrong",
    );
}

fn with_message(reason: &str, code: i32, message: &str) -> Value {
    let mut status = ended("Failed", reason, code, 0);
    status["containerStatuses"][0]["state"]["terminated"]["message"] = json!(message);
    status
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn endings() {
    says(
        ended("Failed", "OOMKilled", 137, 30),
        Phase::Failed,
        "OOMKilled",
        "it used more memory than its limit of 2Gi",
    );
    says(
        ended("Failed", "Error", 1, 0),
        Phase::Failed,
        "Error",
        "it exited at once with exit code 1: it has no long-running process",
    );
    says(
        ended("Failed", "Error", 1, -1),
        Phase::Failed,
        "Error",
        "its program ended with exit code 1",
    );
    says(
        ended("Running", "Error", 143, 30),
        Phase::Failed,
        "Error",
        "its program ended with exit code 143 (asked to end)",
    );
    says(
        with(
            ended("Failed", "Error", 137, 30),
            json!({"reason": "DeadlineExceeded",
            "message": "Pod was active on the node longer than the specified deadline"}),
        ),
        Phase::Failed,
        "DeadlineExceeded",
        "its longest lifetime has passed",
    );
    says(
        json!({"phase": "Failed", "reason": "Evicted",
            "message": "The node was low on resource: memory. "}),
        Phase::Failed,
        "Evicted",
        "the node evicted it: The node was low on resource: memory.",
    );
    says(
        json!({"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough"}),
        Phase::Failed,
        "OutOfcpu",
        "its node has not enough cpu left",
    );
    says(
        json!({"phase": "Failed", "reason": "NodeRebooted"}),
        Phase::Failed,
        "NodeRebooted",
        "its node was rebooted",
    );
    says(
        with(
            json!({"phase": "Failed"}),
            condition(
                "DisruptionTarget",
                "True",
                "EvictionByEvictionAPI",
                "Eviction API: evicting",
            ),
        ),
        Phase::Failed,
        "EvictionByEvictionAPI",
        "the cluster ended it: Eviction API: evicting",
    );
}

#[test]
fn tools_that_could_not_be_copied() {
    for (phase, expected) in [("Failed", Phase::Failed), ("Pending", Phase::Pending)] {
        let status = json!({"phase": phase, "initContainerStatuses": [{"name": "loom-tools",
            "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}],
            "containerStatuses": waiting("PodInitializing", "")["containerStatuses"]});
        let message = "its init container loom-tools ended with exit code 2";
        says(status, expected, "InitFailed", message);
    }
}

#[test]
fn a_command_that_failed_is_told_by_its_code() {
    let mut failed = pod(ended("Failed", "Error", 7, 0));
    let container = &mut failed.spec.as_mut().unwrap().containers[0];
    container.command.as_mut().unwrap().push("make".to_owned());
    let found = crate::pod::read(&failed).unwrap().weaver;
    assert_eq!(found.why.unwrap().message, "its command ended with exit code 7");
    assert_eq!(found.exit_code, Some(7));
}

#[test]
fn lost_nodes() {
    let taint = condition(
        "DisruptionTarget",
        "True",
        "DeletionByTaintManager",
        "Taint manager: deleting due to NoExecute taint",
    );
    says(
        with(running(true, true), taint),
        Phase::Unknown,
        "NodeUnreachable",
        "Kubernetes has lost contact with its node \
         (Taint manager: deleting due to NoExecute taint)",
    );
    let lost = json!({"reason": "NodeLost"});
    let message = "Kubernetes has lost contact with its node";
    says(with(running(true, true), lost), Phase::Unknown, "NodeUnreachable", message);
    let silent = json!({"conditions": [{"type": "Ready", "status": "False"}]});
    says(with(running(true, true), silent), Phase::Unknown, "NodeUnreachable", message);
    says(json!({"phase": "Unknown"}), Phase::Unknown, "NodeUnreachable", message);
}

#[test]
fn what_runs_or_ended_well_needs_no_reason() {
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    for (status, phase) in [
        (with(running(true, true), ready), Phase::Running),
        (running(true, false), Phase::Running),
        (ended("Succeeded", "Completed", 0, 30), Phase::Succeeded),
        (ended("Running", "Completed", 0, 30), Phase::Succeeded),
    ] {
        let found = crate::pod::read(&pod(status)).unwrap().weaver;
        assert_eq!((found.phase, found.why), (phase, None));
    }
}

#[test]
fn what_is_being_deleted_says_so() {
    let mut pod = pod(running(true, true));
    let time = serde_json::from_value(json!("2025-03-03T10:01:00Z")).unwrap();
    pod.metadata.deletion_timestamp = Some(time);
    let found = crate::pod::read(&pod).unwrap();
    let why = found.weaver.why.unwrap();
    assert_eq!((why.reason.as_str(), why.message.as_str()), ("Terminating", "it is being deleted"));
    assert!(!is_trouble(&why));
}

#[test]
fn foreign_words_are_made_fit_for_a_terminal() {
    assert_eq!(plain("a\u{1b}[31m\n\tb  c"), "a [31m b c");
    assert!(plain(&"x".repeat(1000)).chars().count() == 401);
}
