//! Why a weaver is not running, in words a user understands.
//!
//! Pure: a pod in, a reason and a sentence out. The reason is Kubernetes' own word where it has
//! one; the sentence says what happened and, where somebody can do something, what.

mod ended;
mod hope;
mod image;
mod waiting;

use k8s_openapi::api::core::v1::Pod;
use weaver::Why;

use crate::pod::phase;

pub(crate) use hope::Hope;

/// Returns why the pod is not running; `None` when it runs or has ended well.
pub(crate) fn why(pod: &Pod) -> Option<Why> {
    let word = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = phase::container(pod)
        .and_then(|status| status.state.as_ref()?.terminated.as_ref())
        .map(|terminated| terminated.exit_code);
    match (word, ended) {
        (Some("Succeeded"), _) => None,
        (Some("Failed"), _) => Some(ended::why(pod)),
        (Some("Unknown"), _) => Some(out_of_contact(pod)),
        _ if is_out_of_contact(pod) => Some(out_of_contact(pod)),
        _ if pod.metadata.deletion_timestamp.is_some() => Some(going()),
        (_, Some(0)) => None,
        (_, Some(_)) => Some(ended::why(pod)),
        _ if phase::is_started(pod) => None,
        _ => Some(waiting::why(pod)),
    }
}

/// Kubernetes shows it as a status; with us a weaver keeps its own until it is gone.
const GOING: &str = "Terminating";

fn going() -> Why {
    Why { reason: GOING.to_owned(), message: "it is being deleted".to_owned() }
}

/// Tells whether something is wrong, and not just under way.
pub(crate) fn is_trouble(why: &Why) -> bool {
    why.reason != GOING && !waiting::ON_ITS_WAY.contains(&why.reason.as_str())
}

/// Tells whether Kubernetes has lost the pod's node, or says that it is taking the pod away
/// because of it.
pub(crate) fn is_out_of_contact(pod: &Pod) -> bool {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    reason == Some("NodeLost") || disruption(pod).is_some() || is_silent(pod)
}

/// Conditions that speak of a node that went away, not of somebody's wish.
fn disruption(pod: &Pod) -> Option<&str> {
    let condition = phase::condition(pod, "DisruptionTarget")?;
    let reason = condition.reason.as_deref().unwrap_or_default();
    let lost = matches!(reason, "DeletionByTaintManager" | "DeletionByPodGC");
    (condition.status == "True" && lost).then(|| condition.message.as_deref().unwrap_or(reason))
}

/// The node controller marks the pods of a silent node not ready and leaves their containers as
/// the node last reported them: ready.
fn is_silent(pod: &Pod) -> bool {
    let ready = phase::condition(pod, "Ready");
    let marked = ready.is_some_and(|condition| {
        condition.status != "True"
            && !matches!(condition.reason.as_deref(), Some("ContainersNotReady" | "PodCompleted"))
    });
    marked
        && pod.metadata.deletion_timestamp.is_none()
        && phase::is_started(pod)
        && phase::container(pod).is_some_and(|status| status.ready)
}

fn out_of_contact(pod: &Pod) -> Why {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("its node");
    let more = disruption(pod).map(|more| format!(" ({})", plain(more))).unwrap_or_default();
    said("NodeUnreachable", format!("Kubernetes has lost contact with {node}{more}"))
}

fn said(reason: &str, message: impl Into<String>) -> Why {
    Why { reason: reason.to_owned(), message: message.into() }
}

/// Returns a foreign message fit for a terminal: one line, no control characters, 400 at most.
fn plain(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
