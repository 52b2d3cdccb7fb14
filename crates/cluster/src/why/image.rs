//! What the kubelet's words about an image mean.

use k8s_openapi::api::core::v1::Pod;
use weaver::Why;

use super::{plain, said};
use crate::keys;

/// Says why an image cannot be had; `said_by_node` is the kubelet's message.
pub(super) fn why(pod: &Pod, reason: &str, said_by_node: &str, image: &str) -> Why {
    let image = which(pod, said_by_node, image);
    let text = said_by_node.to_ascii_lowercase();
    let has = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
    let message = if has(&["too many requests", "toomanyrequests"]) {
        format!("the registry of image {image} limits how often it may be asked")
    } else if has(&["no such host", "i/o timeout", "connection refused", "no route to host"]) {
        format!("the registry of image {image} cannot be reached: {}", plain(said_by_node))
    } else if has(&["x509", "certificate"]) {
        format!("the registry of image {image} is not trusted: {}", plain(said_by_node))
    } else if has(&["no space left", "disk pressure"]) {
        format!("the node has no room for image {image}")
    } else if has(&["no match for platform", "exec format"]) {
        format!("image {image} is not made for this node's processor")
    } else if said_by_node.is_empty() || has(NOT_THERE) {
        format!("image {image} does not exist or is private")
    } else {
        format!("image {image} cannot be fetched: {}", plain(said_by_node))
    };
    said(kubernetes_word(reason), message)
}

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
    if reason == "ImagePullBackOff" { "ErrImagePull" } else { reason }
}

/// The trouble may be with the tools: their image is a volume of the same container.
fn which<'a>(pod: &'a Pod, message: &str, image: &'a str) -> &'a str {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut tools = volumes.filter(|volume| volume.name == keys::TOOLS_VOLUME);
    let tools = tools.find_map(|volume| volume.image.as_ref()?.reference.as_deref());
    tools.filter(|tools| message.contains(tools) && !message.contains(image)).unwrap_or(image)
}
