//! How long a weaver lives: 1 to 48 whole hours.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::FieldError;

/// A lifetime in whole hours, 1 to 48; 4 unless something else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Ttl(u8);

impl Ttl {
    /// The longest lifetime there is.
    pub const MAX: Self = Self(48);

    /// Takes whole hours.
    ///
    /// # Errors
    /// Refuses 0 and more than 48.
    pub fn from_hours(hours: u64) -> Result<Self, FieldError> {
        let wrong = || FieldError::new("lifetime_hours", "must be 1 to 48 whole hours");
        let hours = u8::try_from(hours).map_err(|_| wrong())?;
        if (1..=Self::MAX.0).contains(&hours) { Ok(Self(hours)) } else { Err(wrong()) }
    }

    /// Returns the hours.
    #[must_use]
    pub fn hours(self) -> u64 {
        u64::from(self.0)
    }

    /// Returns the moment at which a weaver created at `created_at` ends.
    #[must_use]
    pub fn end(self, created_at: Timestamp) -> Timestamp {
        let lifetime = SignedDuration::from_hours(i64::from(self.0));
        created_at.saturating_add(lifetime).unwrap_or(Timestamp::MAX)
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self(4)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}h", self.0)
    }
}

/// Reads `4`, `4h` and `2d`.
impl FromStr for Ttl {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let (digits, unit) = match text.strip_suffix('d') {
            Some(digits) => (digits, 24),
            None => (text.strip_suffix('h').unwrap_or(text), 1),
        };
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let number = plain.then(|| digits.parse::<u64>().ok()).flatten().unwrap_or(0);
        Self::from_hours(number.saturating_mul(unit))
    }
}

impl TryFrom<u64> for Ttl {
    type Error = FieldError;

    fn try_from(hours: u64) -> Result<Self, FieldError> {
        Self::from_hours(hours)
    }
}

impl From<Ttl> for u64 {
    fn from(ttl: Ttl) -> Self {
        ttl.hours()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_are_read() {
        for (text, hours) in [("4", 4), ("4h", 4), ("1", 1), ("48", 48), ("2d", 48), ("1d", 24)] {
            assert_eq!(text.parse::<Ttl>().map(Ttl::hours), Ok(hours), "{text}");
        }
    }

    #[test]
    fn abuse_lifetimes() {
        for text in [
            "0",
            "-1",
            "49",
            "1e9",
            "",
            "h",
            "4.5",
            "3d",
            "+4",
            " 4",
            "4 h",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Ttl>().is_err(), "{text}");
        }
        assert!(Ttl::from_hours(0).is_err() && Ttl::from_hours(49).is_err());
        assert!(Ttl::from_hours(u64::MAX).is_err());
    }

    #[test]
    fn the_end_is_exact() {
        let created: Timestamp = "2025-03-03T10:00:00Z".parse().unwrap();
        assert_eq!(Ttl::default().end(created).to_string(), "2025-03-03T14:00:00Z");
    }
}
