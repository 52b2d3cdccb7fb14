//! What the kubelet's words about an image mean.

use k8s_openapi::api::core::v1::Pod;
use weaver::Why;

use super::{plain, said};
use crate::keys;

/// Says why an image cannot be had; `said_by_node` is the kubelet's message.
pub(super) fn why(pod: &Pod, reason: &str, said_by_node: &str, image: &str) -> Why {
    let image = which(pod, said_by_node, image);
    let said_by_node = cause(said_by_node);
    let text = said_by_node.to_ascii_lowercase();
    let has = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
    let message = if has(&["too many requests", "toomanyrequests"]) {
        format!("the registry of image {image} limits how often it may be asked")
    } else if has(UNREACHABLE) {
        format!("the registry of image {image} cannot be reached: {}", plain(said_by_node))
    } else if has(&["x509", "certificate"]) {
        format!("the registry of image {image} is not trusted: {}", plain(said_by_node))
    } else if has(&["no space left", "disk pressure"]) {
        format!("the node has no room for image {image}")
    } else if has(&["no match for platform", "exec format"]) {
        format!("image {image} is not made for this node's processor")
    } else if said_by_node.is_empty() || has(NOT_THERE) {
        format!(
            "image {image} does not exist, or is private and needs a login: `docker login`, or a pull secret"
        )
    } else {
        format!("image {image} cannot be fetched: {}", plain(said_by_node))
    };
    said(kubernetes_word(reason), message)
}

/// Says why an image that is not on the node is not asked for anywhere else.
pub(super) fn never(image: &str, said_by_node: &str) -> Why {
    let wished = said_by_node.is_empty() || said_by_node.ends_with("with pull policy of Never");
    let message = match wished {
        true => format!("the node has no image {image} and may not fetch it"),
        false => format!("image {image} cannot be had: {}", plain(said_by_node)),
    };
    said(NEVER_PULL, message)
}

/// Kubernetes' word for an image that was asked for in vain.
pub(super) const FAILED: &str = "ErrImagePull";
/// Kubernetes' word for an image that is neither there nor asked for.
pub(super) const NEVER_PULL: &str = "ErrImageNeverPull";
/// Kubernetes' word for an image whose name means nothing.
pub(super) const INVALID_NAME: &str = "InvalidImageName";

/// Returns what went wrong when the kubelet says first that it waits.
fn cause(said_by_node: &str) -> &str {
    match said_by_node.split_once(": ErrImagePull: ") {
        Some((back_off, cause)) if back_off.starts_with("Back-off pulling image") => cause,
        Some(_) | None => said_by_node,
    }
}

/// Whether a registry has answered that it has no such image, for whoever asked.
pub(super) fn is_refused(said_by_node: &str) -> bool {
    let text = cause(said_by_node).to_ascii_lowercase();
    let has = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
    has(NOT_THERE) && !has(UNREACHABLE) && !has(&["back-off pulling image"])
}

const UNREACHABLE: &[&str] = &[
    "no such host",
    "lookup address",
    "i/o timeout",
    "timed out",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "no route to host",
];

const NOT_THERE: &[&str] = &[
    "not found",
    "does not exist",
    "denied",
    "unauthorized",
    "authorization",
    "manifest unknown",
    "403 forbidden",
    "back-off pulling image",
];

/// Waiting to try again is the same trouble as the try.
fn kubernetes_word(reason: &str) -> &str {
    if reason == "ImagePullBackOff" { FAILED } else { reason }
}

/// The trouble may be with the tools: their image is a volume of the same container.
fn which<'a>(pod: &'a Pod, message: &str, image: &'a str) -> &'a str {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut tools = volumes.filter(|volume| volume.name == keys::TOOLS_VOLUME);
    let tools = tools.find_map(|volume| volume.image.as_ref()?.reference.as_deref());
    tools.filter(|tools| message.contains(tools) && !message.contains(image)).unwrap_or(image)
}
