//! What users write, as a fuzzer writes it.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::{Branch, Image, OrgId, OwnerId, Publish, RepoUrl, Tags, Ttl};
use crate::{WeaverId, WeaverName, Workdir};

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("fields", fields), ("specs", specs)];

/// What is taken says what it was taken from, and cannot harm a terminal or a command line.
fn fields(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for taken in [
        same::<Image>(text),
        same::<RepoUrl>(text),
        same::<Branch>(text),
        same::<WeaverName>(text),
        same::<Workdir>(text),
        same::<OrgId>(text),
        same::<OwnerId>(text),
    ]
    .into_iter()
    .flatten()
    {
        assert_eq!(taken, text);
        assert!(!text.starts_with('-'), "{text:?} would be an option");
        assert!(!text.contains(|c: char| c.is_control()), "{text:?} holds what terminals obey");
    }
    same::<WeaverId>(text);
    same::<Publish>(text);
    same::<Ttl>(text);
    if let Ok(tags) = text.parse::<Tags>() {
        let (key, value) = tags.iter().next().expect("one was read");
        assert_eq!(format!("{key}={value}"), text);
    }
}

/// Returns how a value is written, which is read as the same value.
fn same<T: FromStr + Display + Debug + PartialEq>(text: &str) -> Option<String> {
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    assert_eq!(written.parse().ok(), Some(value));
    Some(written)
}

/// JSON of what is stored on pods.
fn specs(bytes: &[u8]) {
    fn same<T>(bytes: &[u8])
    where
        T: serde::Serialize + for<'de> serde::Deserialize<'de> + Debug + PartialEq,
    {
        if let Ok(value) = serde_json::from_slice::<T>(bytes) {
            let written = serde_json::to_vec(&value).expect("what was read is written");
            assert_eq!(serde_json::from_slice::<T>(&written).ok(), Some(value));
        }
    }
    same::<Tags>(bytes);
    same::<crate::Env>(bytes);
    same::<Publish>(bytes);
    same::<Ttl>(bytes);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
