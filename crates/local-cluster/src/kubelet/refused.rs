//! Why a pod cannot be started yet.

use super::image::Wanted;
use crate::pod::HOST_IMAGE;

/// Names of images that are made here; no registry is asked for them.
const OWN: &str = "loom.local/";

/// What stands in the way, for one container or for all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Blocked {
    /// An image cannot be had.
    #[error("{message}")]
    Image { container: String, reason: &'static str, message: String },
    /// A registry did not give an image; it is asked again.
    #[error("{message}")]
    Pull { container: String, image: String, message: String },
    /// A container's configuration names something that is not there.
    #[error("{message}")]
    Config { container: String, message: String },
    /// A port of this machine that is to lead into it cannot be had.
    #[error("{message}")]
    Port { container: String, message: String },
    /// A volume's source is not there.
    #[error("{message}")]
    Volume { message: String },
    /// The runtime could not start it.
    #[error("{message}")]
    Runtime { message: String },
    /// Meanwhile nobody wants it any more.
    #[error("the pod is not wanted any more")]
    Over,
}

impl Blocked {
    /// Returns the container it is shown at, the reason and the message.
    pub(crate) fn waiting(&self) -> Option<(&str, &str, &str)> {
        match self {
            Self::Image { container, reason, message, .. } => Some((container, reason, message)),
            Self::Config { container, message } => {
                Some((container, "CreateContainerConfigError", message))
            }
            Self::Port { container, message } => Some((container, "HostPortUnavailable", message)),
            Self::Pull { container, message, .. } => Some((container, "ErrImagePull", message)),
            Self::Volume { .. } | Self::Runtime { .. } | Self::Over => None,
        }
    }
}

/// Whether an image is one of those that are made here, or would be.
pub(crate) fn is_own(reference: &str) -> bool {
    reference.starts_with(OWN)
}

/// Refuses what nobody can be asked for; returns who can be.
pub(crate) fn check<T>(wanted: &Wanted, source: Option<T>) -> Result<T, Blocked> {
    let reference = &wanted.reference;
    if !is_reference(reference) {
        return Err(bad_name(wanted, "invalid reference format"));
    }
    source.ok_or_else(|| {
        let message = match is_own(reference) {
            true => format!("this machine has no image {reference}; it has {HOST_IMAGE}"),
            false => format!(
                "this local cluster cannot pull images yet; use {HOST_IMAGE}, or a server with a \
                 real cluster"
            ),
        };
        image(wanted, "ErrImageNeverPull", message)
    })
}

/// An image whose name means nothing.
pub(crate) fn bad_name(wanted: &Wanted, why: &str) -> Blocked {
    let name = &wanted.reference;
    let message = format!(
        "Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: {why}"
    );
    image(wanted, "InvalidImageName", message)
}

/// An image that is not here and may not be asked for.
pub(crate) fn never(wanted: &Wanted) -> Blocked {
    let message =
        format!("Container image {:?} is not present with pull policy of Never", wanted.reference);
    image(wanted, "ErrImageNeverPull", message)
}

fn image(wanted: &Wanted, reason: &'static str, message: String) -> Blocked {
    Blocked::Image { container: wanted.container.clone(), reason, message }
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
    fn names_that_no_registry_has_are_refused_at_once() {
        let reason = |reference: &str| {
            let (policy, container) = ("Always".to_owned(), "c".to_owned());
            match check::<()>(&Wanted { reference: reference.to_owned(), policy, container }, None)
            {
                Err(Blocked::Image { reason, .. }) => reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason("loom.local/other"), "ErrImageNeverPull");
        for bad in ["a b", "-x", "http://x", "image@sha256:bad", "a//b"] {
            assert_eq!(reason(bad), "InvalidImageName", "{bad}");
        }
    }
}
