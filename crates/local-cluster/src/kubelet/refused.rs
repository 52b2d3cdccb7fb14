//! Why a pod cannot be started yet.

use pod_runtime::spec::Image;

use crate::pod::{HOST_IMAGE, TOOLS_IMAGE};

/// What stands in the way, for one container or for all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Blocked {
    /// An image cannot be had.
    #[error("{message}")]
    Image { container: String, reason: &'static str, message: String },
    /// A container's configuration names something that is not there.
    #[error("{message}")]
    Config { container: String, message: String },
    /// A volume's source is not there.
    #[error("{message}")]
    Volume { message: String },
    /// The runtime could not start it.
    #[error("{message}")]
    Runtime { message: String },
}

impl Blocked {
    /// Returns the container it is shown at, the reason and the message.
    pub(crate) fn waiting(&self) -> Option<(&str, &str, &str)> {
        match self {
            Self::Image { container, reason, message, .. } => Some((container, reason, message)),
            Self::Config { container, message } => {
                Some((container, "CreateContainerConfigError", message))
            }
            Self::Volume { .. } | Self::Runtime { .. } => None,
        }
    }
}

/// Finds an image of this machine by its reference.
pub(crate) fn image(reference: &str, container: &str, policy: &str) -> Result<Image, Blocked> {
    let blocked = |reason, message| Blocked::Image { container: container.into(), reason, message };
    match reference.strip_suffix(":latest").unwrap_or(reference) {
        HOST_IMAGE => return Ok(Image::Host),
        TOOLS_IMAGE => return Ok(Image::Tools),
        _ => {}
    }
    if !is_reference(reference) {
        let message = format!(
            "Failed to apply default image tag {reference:?}: couldn't parse image name \
             {reference:?}: invalid reference format"
        );
        return Err(blocked("InvalidImageName", message));
    }
    if policy == "Never" {
        let message =
            format!("Container image {reference:?} is not present with pull policy of Never");
        return Err(blocked("ErrImageNeverPull", message));
    }
    let message = format!(
        "this local cluster cannot pull images yet; use {HOST_IMAGE}, or a server with a real \
         cluster"
    );
    Err(blocked("ErrImageNeverPull", message))
}

/// Whether a text looks like an image's name with tag or digest.
fn is_reference(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let digest_fine = digest.is_none_or(|digest| {
        digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        })
    });
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let parts = name.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()));
    digest_fine && parts && !name.is_empty() && name.len() <= 255 && name.chars().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_or_refused_with_kubernetes_reasons() {
        let reason = |text: &str, policy: &str| match image(text, "c", policy) {
            Ok(_) => "",
            Err(Blocked::Image { reason, .. }) => reason,
            Err(_) => "other",
        };
        assert_eq!(reason("loom.local/host", "Always"), "");
        assert_eq!(reason("loom.local/tools:latest", "Never"), "");
        for policy in ["Always", "IfNotPresent", "Never"] {
            assert_eq!(reason("debian:12", policy), "ErrImageNeverPull", "{policy}");
        }
        for bad in ["a b", "-x", "http://x", "image@sha256:bad", "a//b"] {
            assert_eq!(reason(bad, "Always"), "InvalidImageName", "{bad}");
        }
    }
}
