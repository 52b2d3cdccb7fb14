//! Container image references, as the distribution project writes them.

use std::fmt;
use std::str::FromStr;

use crate::FieldError;
use crate::id::as_str;

/// A checked image reference: `[host[:port]/]path[:tag][@digest]`.
///
/// Names without a registry pass as they are: which registry they mean is the cluster's business.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Image(String);

impl Image {
    /// Returns the reference as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Image {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let wrong = |why: &str| Err(FieldError::new("image", why));
        if text.is_empty() {
            return wrong("is empty; for example debian:12 or ghcr.io/owner/name:tag");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if name.len() > 255 {
            return wrong("has a name of more than 255 characters");
        }
        if !is_name(name) {
            return wrong("is not an image name such as debian:12 or ghcr.io/owner/name:tag");
        }
        if !tag.is_none_or(is_tag) {
            return wrong("has a tag that is not 1 to 128 letters, digits, '_', '.' or '-'");
        }
        if !digest.is_none_or(is_digest) {
            return wrong("has a digest that is not sha256: and 64 hexadecimal digits");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Splits off the tag: what follows a colon behind the last slash.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

fn is_name(name: &str) -> bool {
    match name.split_once('/') {
        Some((host, path)) if is_host(host) => path.split('/').all(is_component),
        _ => name.split('/').all(is_component),
    }
}

/// A first part is a registry when it has a dot, a port, or is `localhost`.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let looks_like_host = port.is_some() || host.contains('.') || host == "localhost";
    looks_like_host && port_fits && host.split('.').all(label)
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let edges = text.starts_with(alphanumeric) && text.ends_with(alphanumeric);
    let separators = text
        .split(alphanumeric)
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.chars().all(|c| c == '-'));
    edges && separators
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    })
}

as_str!(Image);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_references_pass() {
        let digest = format!("debian@sha256:{}", "0a".repeat(32));
        for text in [
            "debian",
            "debian:12",
            "library/debian:12",
            "my-org/custom-dev-env:v1.0",
            "ghcr.io/ghuntley/loom/weaver:latest",
            "localhost/x",
            "localhost:5000/a/b:c",
            "127.0.0.1:5000/a",
            "loom.local/host",
            "a__b.c--d/e",
            digest.as_str(),
        ] {
            assert_eq!(text.parse::<Image>().map(|image| image.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn abuse_image_names() {
        let long = "a".repeat(500);
        for text in [
            "",
            &long,
            "a b",
            " a",
            "--flag",
            "-a",
            "http://a/b",
            "a\nb",
            "a\n",
            "image@sha256:bad",
            "a:",
            ":a",
            "/a",
            "a/",
            "a//b",
            "A",
            "a..b",
            "a:b c",
            "host:99999/a",
            "a@md5:00",
            "\u{1b}]0;x\u{7}",
        ] {
            assert_eq!(
                text.parse::<Image>().map_err(|error| error.field),
                Err("image"),
                "{text:?}"
            );
        }
    }
}
