//! Why a pod has failed.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use weaver::Why;

use super::{plain, said};
use crate::pod::phase;
use crate::{keys, pod};

/// How long a program has to run so as not to have "exited at once", in seconds.
const AT_ONCE: i64 = 10;

/// Says what ended the pod.
pub(super) fn why(pod: &Pod) -> Why {
    by_cluster(pod)
        .or_else(|| {
            phase::container(pod)?
                .state
                .as_ref()?
                .terminated
                .as_ref()
                .map(|ended| by_itself(pod, ended))
        })
        .or_else(|| by_init(pod))
        .or_else(|| by_disruption(pod))
        .unwrap_or_else(|| {
            let message = pod.status.as_ref().and_then(|status| status.message.as_deref());
            said("Failed", plain(message.unwrap_or("it failed and the cluster does not say why")))
        })
}

/// The pod's own reason: the cluster ended it, whatever its program did then.
fn by_cluster(pod: &Pod) -> Option<Why> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref().filter(|reason| !reason.is_empty())?;
    let words = plain(status.message.as_deref().unwrap_or_default());
    let message = match reason {
        "DeadlineExceeded" => "its longest lifetime has passed".to_owned(),
        "Evicted" => format!("the node evicted it: {words}"),
        "Preempting" | "Preempted" => "it made way for a more important pod".to_owned(),
        "NodeRebooted" => "its node was rebooted".to_owned(),
        "NodeShutdown" | "Shutdown" | "Terminated" => "its node was shut down".to_owned(),
        "NodeLost" => "its node went away".to_owned(),
        "OutOfcpu" | "OutOfmemory" | "OutOfpods" | "OutOfephemeral-storage" => {
            format!("its node has not enough {} left", &reason["OutOf".len()..])
        }
        _ if words.is_empty() => format!("the cluster ended it ({reason})"),
        _ => format!("the cluster ended it: {words}"),
    };
    Some(said(reason, message))
}

/// A weaver's init containers bring the tools: without them nothing can start.
pub(super) fn by_init(pod: &Pod) -> Option<Why> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let ended = statuses.iter().find_map(|status| {
        let terminated = status.state.as_ref()?.terminated.as_ref()?;
        (terminated.exit_code != 0).then_some((status, terminated))
    });
    let (status, terminated) = ended?;
    let code = terminated.exit_code;
    let message = format!("its init container {} ended with exit code {code}", status.name);
    Some(said("InitFailed", message))
}

fn by_disruption(pod: &Pod) -> Option<Why> {
    let condition = phase::condition(pod, "DisruptionTarget")?;
    if condition.status != "True" {
        return None;
    }
    let reason = condition.reason.as_deref().unwrap_or("DisruptionTarget");
    let words = plain(condition.message.as_deref().unwrap_or(reason));
    Some(said(reason, format!("the cluster ended it: {words}")))
}

fn by_itself(pod: &Pod, ended: &ContainerStateTerminated) -> Why {
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let words = ended.message.as_deref().unwrap_or_default();
    match (reason, ended.exit_code) {
        ("OOMKilled", _) => said(reason, out_of_memory(pod)),
        ("StartError" | "ContainerCannotRun" | "ContainerStatusUnknown", _) => {
            start_error(reason, words)
        }
        ("Error" | "Completed", code) => said(reason, exited(pod, ended, code)),
        (_, code) => said(reason, format!("it ended with exit code {code}: {}", plain(words))),
    }
}

fn out_of_memory(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let mut containers = spec.iter().flat_map(|spec| &spec.containers);
    let limit = containers
        .find(|container| container.name == keys::CONTAINER)
        .and_then(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory"));
    match limit {
        Some(limit) => format!("it used more memory than its limit of {}", limit.0),
        None => "it used more memory than there is".to_owned(),
    }
}

fn exited(pod: &Pod, ended: &ContainerStateTerminated, code: i32) -> String {
    if pod::has_command(pod) {
        return format!("its command ended with exit code {code}{}", signal(code));
    }
    let span = ended.started_at.as_ref().zip(ended.finished_at.as_ref());
    // A clock that was set back meanwhile tells nothing.
    let at_once = span.is_some_and(|(start, end)| {
        (0..AT_ONCE).contains(&(end.0.as_second() - start.0.as_second()))
    });
    if at_once {
        return format!("it exited at once with exit code {code}: it has no long-running process");
    }
    format!("its program ended with exit code {code}{}", signal(code))
}

/// Shells and container runtimes add 128 to the number of the signal that killed a program.
fn signal(code: i32) -> String {
    match code {
        137 => " (killed)".to_owned(),
        143 => " (asked to end)".to_owned(),
        129..=192 => format!(" (signal {})", code - 128),
        _ => String::new(),
    }
}

/// Says why a container could not be started at all.
pub(super) fn start_error(reason: &str, words: &str) -> Why {
    let of_tools = words.contains(keys::HOST_PROGRAM);
    let message = if of_tools && words.contains("permission denied") {
        "the cluster mounts the tools image without execute permission: \
         the server needs LOOM_SERVER_TOOLS_MOUNT=init"
            .to_owned()
    } else if of_tools && words.contains("no such file") {
        "the tools image holds no loom-host: the server's LOOM_SERVER_TOOLS_IMAGE is wrong"
            .to_owned()
    } else {
        format!("its container cannot be started: {}", plain(words))
    };
    said(reason, message)
}
