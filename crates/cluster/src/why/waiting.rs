//! Why a pod is Pending.

use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, Pod};
use weaver::Why;

use super::{ended, image, plain, said};
use crate::pod::phase;

/// The reasons of pods that are only not there yet.
pub(super) const ON_ITS_WAY: [&str; 3] = ["Scheduling", "ContainerCreating", "Starting"];

/// Of the local cluster: a port of this machine is somebody else's.
pub(super) const NO_PORT: &str = "HostPortUnavailable";

/// What both container runtimes and the local cluster say of an image without ENTRYPOINT and CMD.
const NO_PROGRAM: &str = "no command specified";
/// Our word for such an image.
pub(super) const NOTHING_TO_RUN: &str = "NoEntrypoint";

fn no_program(image: &str) -> Why {
    let message = format!(
        "image {image} has no program of its own, neither ENTRYPOINT nor CMD: leave out \
         --keep-entrypoint, or give one behind --"
    );
    said(NOTHING_TO_RUN, message)
}

/// Says what the pod waits for.
pub(super) fn why(pod: &Pod) -> Why {
    unscheduled(pod)
        .or_else(|| stuck(pod))
        .or_else(|| ended::by_init(pod))
        .unwrap_or_else(|| on_its_way(pod))
}

fn unscheduled(pod: &Pod) -> Option<Why> {
    let condition = phase::condition(pod, "PodScheduled")?;
    if condition.status == "True" {
        return None;
    }
    let reason = condition.reason.as_deref().unwrap_or("Unschedulable");
    let message = condition.message.as_deref().unwrap_or_default();
    let lacking = insufficient(message);
    if !lacking.is_empty() {
        let lacking = lacking.join(" and ");
        return Some(said(
            reason,
            format!("the cluster has not enough {lacking} left for it; it waits for some"),
        ));
    }
    // What preemption could or could not do is of no help to a user.
    let cause = message.split(" preemption:").next().unwrap_or_default();
    Some(said(reason, format!("no node takes it: {}", plain(cause))))
}

/// Returns what the scheduler calls insufficient, each once.
fn insufficient(message: &str) -> Vec<&str> {
    let mut lacking = Vec::new();
    for rest in message.split("Insufficient ").skip(1) {
        let word = rest.split([',', '.', ' ']).next().unwrap_or_default();
        if !word.is_empty() && !lacking.contains(&word) {
            lacking.push(word);
        }
    }
    if message.contains("Too many pods") {
        lacking.push("room for pods");
    }
    lacking
}

fn stuck(pod: &Pod) -> Option<Why> {
    waiting(pod).find_map(|(status, waiting)| of_container(pod, status, waiting))
}

/// Tells whether a container waits for this reason.
pub(super) fn has_reason(pod: &Pod, reason: &str) -> bool {
    waiting(pod).any(|(_, waiting)| waiting.reason.as_deref() == Some(reason))
}

/// Returns what the node says about containers that wait.
pub(super) fn messages(pod: &Pod) -> impl Iterator<Item = &str> {
    waiting(pod).filter_map(|(_, waiting)| waiting.message.as_deref())
}

fn waiting(pod: &Pod) -> impl Iterator<Item = (&ContainerStatus, &ContainerStateWaiting)> {
    pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        let all = init.chain(status.container_statuses.iter().flatten());
        all.filter_map(|status| Some((status, status.state.as_ref()?.waiting.as_ref()?)))
    })
}

fn of_container(
    pod: &Pod,
    status: &ContainerStatus,
    waiting: &ContainerStateWaiting,
) -> Option<Why> {
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    match reason {
        "" | "ContainerCreating" | "PodInitializing" => None,
        _ if message.contains(NO_PROGRAM) => Some(no_program(wanted_image(pod, status))),
        image::FAILED | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            Some(image::why(pod, reason, message, wanted_image(pod, status)))
        }
        image::INVALID_NAME => {
            let image = wanted_image(pod, status);
            Some(said(reason, format!("{image} is not the name of an image")))
        }
        image::NEVER_PULL => Some(image::never(wanted_image(pod, status), message)),
        NO_PORT => Some(said(reason, plain(message))),
        "CreateContainerConfigError" => Some(said(
            reason,
            format!("its container's configuration cannot be used: {}", plain(message)),
        )),
        _ => Some(ended::start_error(reason, message)),
    }
}

/// Returns the image that was asked for: the status may still be without one.
fn wanted_image<'a>(pod: &'a Pod, status: &'a ContainerStatus) -> &'a str {
    let spec = pod.spec.as_ref();
    let init = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let mut all = spec.iter().flat_map(|spec| &spec.containers).chain(init);
    let wanted = all.find(|container| container.name == status.name);
    wanted.and_then(|container| container.image.as_deref()).unwrap_or(&status.image)
}

/// Nothing is wrong: says how far it has come.
fn on_its_way(pod: &Pod) -> Why {
    let state = phase::container(pod).and_then(|status| status.state.as_ref());
    if state.is_some_and(|state| state.running.is_some()) {
        return said("Starting", "its program has started and does not answer yet");
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    match node {
        Some(_) => said("ContainerCreating", "its image is being fetched and its container made"),
        None => said("Scheduling", "it waits for a node"),
    }
}
