//! Small checked fields, and the one error that names a field.

use std::fmt;
use std::str::FromStr;

use crate::id::as_str;

/// A field that cannot be taken, and why, in words that follow the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct FieldError {
    /// The field as it is called in the JSON of the API.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl FieldError {
    /// Makes the error of `field`; `why` continues a sentence that begins with its name.
    pub fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// Tells whether `text` can be the value of a Kubernetes label and is not empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63
        && text.chars().all(inside)
        && edge(text.chars().next())
        && edge(text.chars().next_back())
}

/// A name that a person gives to a weaver: a DNS label, so that it can also be a host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeaverName(String);

impl WeaverName {
    /// Returns the name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WeaverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WeaverName {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if is_label_value(text) && text.chars().all(lower) {
            return Ok(Self(text.to_owned()));
        }
        let why =
            "must be 1 to 63 lower-case letters, digits or '-', and not begin or end with '-'";
        Err(FieldError::new("name", why))
    }
}

/// The folder in which a command starts: an absolute path without `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workdir(String);

impl Workdir {
    /// Returns the path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Workdir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Workdir {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let climbs = text.split('/').any(|part| part == "..");
        if text.starts_with('/')
            && text.len() <= 1024
            && !climbs
            && !text.contains(char::is_control)
        {
            return Ok(Self(text.to_owned()));
        }
        Err(FieldError::new("workdir", "must be an absolute path without '..'"))
    }
}

as_str!(WeaverName, Workdir);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert!("api-2".parse::<WeaverName>().is_ok());
        for text in ["", "-", "-a", "a-", "A", "a_b", "a b", "\u{1b}[31m", &"a".repeat(64)] {
            assert!(text.parse::<WeaverName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn workdirs_are_absolute() {
        assert!("/workspace/a".parse::<Workdir>().is_ok());
        for text in ["", "a", "/a/../b", "/a\nb"] {
            assert!(text.parse::<Workdir>().is_err(), "{text:?}");
        }
    }
}
