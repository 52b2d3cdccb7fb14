//! Tags: the user's own labels on a weaver.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::FieldError;
use crate::fields::is_label_value;

/// Most tags a weaver may have.
pub const MAX_TAGS: usize = 32;
/// Longest key: with `tag.` before it, it has to fit the 63 characters of a label's name.
pub const MAX_KEY: usize = 59;

/// Checked tags, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Returns keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Tells whether there is no tag.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<String, String>> for Tags {
    type Error = FieldError;

    fn try_from(tags: BTreeMap<String, String>) -> Result<Self, FieldError> {
        if tags.len() > MAX_TAGS {
            return Err(FieldError::new("tags", format!("are more than {MAX_TAGS}")));
        }
        tags.iter().try_for_each(|(key, value)| check(key, value))?;
        Ok(Self(tags))
    }
}

impl From<Tags> for BTreeMap<String, String> {
    fn from(tags: Tags) -> Self {
        tags.0
    }
}

/// Reads one `key=value`, as a filter or a flag gives it.
impl FromStr for Tags {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| FieldError::new("tags", "must be KEY=VALUE"))?;
        Self::try_from(BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }
}

fn check(key: &str, value: &str) -> Result<(), FieldError> {
    let wrong = |why: &str| Err(FieldError::new("tags", why));
    if key.contains('/')
        || ["loom.", "loom-", "kubernetes.", "k8s."].iter().any(|own| key.starts_with(own))
    {
        return wrong("may not use a reserved prefix");
    }
    if key.len() > MAX_KEY || !is_label_value(key) {
        return wrong("have a key that is not 1 to 59 letters, digits, '-', '_' or '.'");
    }
    if !value.is_empty() && !is_label_value(value) {
        return wrong("have a value that is not up to 63 letters, digits, '-', '_' or '.'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_tags_pass() {
        for text in ["team=web", "a.b=c-d", "empty="] {
            assert!(text.parse::<Tags>().is_ok(), "{text}");
        }
    }

    #[test]
    fn abuse_tags() {
        let long_key = format!("{}=a", "k".repeat(60));
        let long_value = format!("k={}", "v".repeat(64));
        for text in [
            "",
            "a",
            "=b",
            "loom.dev/x=y",
            "loom.dev=y",
            "kubernetes.io/a=b",
            "k8s.io=x",
            "a=b,c!=d",
            "tag=a,b!=c",
            "a in (b)=c",
            "a b=c",
            "a=b c",
            "-a=b",
            "a=-b",
            "é=b",
            "a=\u{1b}[0m",
            &long_key,
            &long_value,
        ] {
            assert_eq!(text.parse::<Tags>().map_err(|error| error.field), Err("tags"), "{text:?}");
        }
        let many = (0..33).map(|n| (format!("k{n}"), String::new())).collect::<BTreeMap<_, _>>();
        assert!(Tags::try_from(many).is_err());
    }
}
