//! The documents' five states, derived from what Kubernetes reports.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use weaver::Phase;

use crate::{keys, why};

/// Returns the weaver's state.
pub(super) fn phase(pod: &Pod) -> Phase {
    let word = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match word {
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        Some(_) | None if why::is_out_of_contact(pod) => Phase::Unknown,
        Some(_) | None => living(pod),
    }
}

/// A container that has ended decides before its pod's word follows.
fn living(pod: &Pod) -> Phase {
    match exit_code(pod) {
        Some(0) => Phase::Succeeded,
        Some(_) => Phase::Failed,
        None if is_started(pod) => Phase::Running,
        None => Phase::Pending,
    }
}

/// Tells whether the startup probe has succeeded: the host accepts connections.
pub(crate) fn is_started(pod: &Pod) -> bool {
    container(pod).is_some_and(|status| {
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        running && status.started == Some(true)
    })
}

/// Returns how the program ended.
pub(super) fn exit_code(pod: &Pod) -> Option<i32> {
    let state = container(pod)?.state.as_ref()?;
    state.terminated.as_ref().map(|terminated| terminated.exit_code)
}

/// Returns the main container's status.
pub(crate) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == keys::CONTAINER)
}

/// Returns one of the pod's conditions.
pub(crate) fn condition<'a>(pod: &'a Pod, name: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == name)
}
