//! The ids: `W-{uuid}` for weavers, `O-…` for organizations, `U-…` for people.

use std::fmt;
use std::str::FromStr;

use serde_with_str::serde_as_str;
use uuid::Uuid;

use crate::FieldError;

mod serde_with_str {
    /// Lets a type with `FromStr` and `Display` travel as a JSON string.
    macro_rules! serde_as_str {
        ($($type:ty),+) => {$(
            impl serde::Serialize for $type {
                fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    to.collect_str(self)
                }
            }
            impl<'de> serde::Deserialize<'de> for $type {
                fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }
        )+};
    }
    pub(crate) use serde_as_str;
}
pub(crate) use serde_with_str::serde_as_str as as_str;

/// A weaver's id, `W-{uuid}`. Any UUID parses; new ones are version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeaverId(Uuid);

impl WeaverId {
    /// Takes any UUID; the caller chooses its version.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Returns the bare UUID.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.0
    }

    /// Returns the pod's name, `weaver-{uuid}`.
    #[must_use]
    pub fn pod_name(&self) -> String {
        format!("weaver-{}", self.0)
    }
}

impl fmt::Display for WeaverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "W-{}", self.0)
    }
}

impl FromStr for WeaverId {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let wrong = || FieldError::new("id", "is not W- followed by a UUID");
        let hyphenated = text.strip_prefix("W-").filter(|rest| rest.len() == 36);
        let uuid = hyphenated.and_then(|rest| Uuid::try_parse(rest).ok()).ok_or_else(wrong)?;
        Ok(Self(uuid))
    }
}

/// Makes an id of a letter, a hyphen and 1 to 61 label-safe characters.
macro_rules! labelled_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Returns the id as it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = FieldError;

            fn from_str(text: &str) -> Result<Self, FieldError> {
                let rest = text.strip_prefix($prefix).unwrap_or_default();
                if crate::fields::is_label_value(text) && !rest.is_empty() {
                    return Ok(Self(text.to_owned()));
                }
                let why = concat!("is not ", $prefix, " followed by letters, digits, '-', '_' or '.'");
                Err(FieldError::new($field, why))
            }
        }

        serde_as_str!($name);
    };
}

labelled_id!(
    /// An organization's id, `O-…`.
    OrgId, "O-", "org_id"
);
labelled_id!(
    /// A person's or robot's id, `U-…`: a hash of issuer and subject, so that it fits a label.
    OwnerId, "U-", "owner"
);
serde_as_str!(WeaverId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_uuid_parses_and_prints_the_same() {
        for text in [
            "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
            "W-00000000-0000-0000-0000-000000000000",
            "W-018e2b3c-5e6f-8a9b-0c1d-2e3f4a5b6c7d",
        ] {
            assert_eq!(text.parse::<WeaverId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in
            ["", "W-", "018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c", "W-018e2b3c4d5e7f8a9b0c1d2e3f4a5b6c"]
        {
            assert!(text.parse::<WeaverId>().is_err(), "{text}");
        }
        for text in ["", "O-", "U-1", "O-a b", "O-é", &format!("O-{}", "a".repeat(62))] {
            assert!(text.parse::<OrgId>().is_err(), "{text}");
        }
    }
}
