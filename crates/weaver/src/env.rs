//! The environment that a user gives to a weaver.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::FieldError;

/// Most variables a weaver may be given.
pub const MAX_VARIABLES: usize = 512;
/// Most bytes of one value.
pub const MAX_VALUE: usize = 32 * 1024;
/// Most bytes of all names and values together.
pub const MAX_TOTAL: usize = 256 * 1024;

/// The error of an environment; always about the field `env`.
pub type EnvError = FieldError;

/// Checked environment variables, each name once, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// Returns the variables.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns the names that look as if their value were a secret, e.g. `GITHUB_TOKEN`.
    ///
    /// Such a value is visible in the pod's spec, so the command line warns.
    pub fn secret_looking(&self) -> impl Iterator<Item = &str> {
        const MARKS: [&str; 5] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY"];
        self.0.keys().map(String::as_str).filter(|key| {
            let key = key.to_ascii_uppercase();
            MARKS.iter().any(|mark| key.ends_with(mark)) || key.ends_with("_KEY")
        })
    }
}

impl TryFrom<BTreeMap<String, String>> for Env {
    type Error = EnvError;

    fn try_from(variables: BTreeMap<String, String>) -> Result<Self, EnvError> {
        let wrong = |why: String| Err(FieldError::new("env", why));
        if variables.len() > MAX_VARIABLES {
            return wrong(format!("has more than {MAX_VARIABLES} variables"));
        }
        let total: usize = variables.iter().map(|(key, value)| key.len() + value.len()).sum();
        if total > MAX_TOTAL {
            return wrong(format!("has more than {} KiB in all", MAX_TOTAL / 1024));
        }
        for (key, value) in &variables {
            check_key(key)?;
            if value.len() > MAX_VALUE {
                return wrong(format!("has a value of more than {} KiB: {key}", MAX_VALUE / 1024));
            }
            if value.contains('\0') {
                return wrong(format!("has a value with a NUL byte: {key}"));
            }
        }
        Ok(Self(variables))
    }
}

impl From<Env> for BTreeMap<String, String> {
    fn from(env: Env) -> Self {
        env.0
    }
}

fn check_key(key: &str) -> Result<(), EnvError> {
    let wrong = |why: String| Err(FieldError::new("env", why));
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let fits = key.len() <= 253 && key.chars().all(inside);
    if key.is_empty() || !fits || key.starts_with(|c: char| c.is_ascii_digit()) {
        let shown: String = key.escape_debug().take(60).collect();
        return wrong(format!(
            "has a name that is not letters, digits, '_', '.' or '-': \"{shown}\""
        ));
    }
    if key.starts_with("LOOM_") {
        return wrong(format!("may not set LOOM_ variables: {key}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Result<Env, EnvError> {
        Env::try_from(BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn usual_names_pass() {
        for key in ["NODE_ENV", "debug", "LD_PRELOAD", "BASH_ENV", "GIT_SSH", "a.b-c", "LOOMX"] {
            assert!(one(key, "x=y\nz").is_ok(), "{key}");
        }
    }

    #[test]
    fn abuse_env_keys() {
        for key in ["", "a=b", "a\0", "a b", " ", "1a", "LOOM_WEAVER_ID", "LOOM_", "é", "a\n"] {
            assert_eq!(one(key, "").map_err(|error| error.field), Err("env"), "{key:?}");
        }
    }

    #[test]
    fn abuse_env_sizes() {
        assert!(one("A", &"x".repeat(MAX_VALUE)).is_ok());
        assert!(one("A", &"x".repeat(MAX_VALUE + 1)).is_err());
        assert!(one("A", "\0").is_err());
        let many = |count: usize, size: usize| {
            Env::try_from(
                (0..count).map(|n| (format!("K{n}"), "x".repeat(size))).collect::<BTreeMap<_, _>>(),
            )
        };
        assert!(many(1000, 0).is_err());
        assert!(many(9, 30 * 1024).is_err());
        assert!(many(8, 30 * 1024).is_ok());
    }

    #[test]
    fn secrets_are_noticed() {
        let env = Env::try_from(BTreeMap::from(
            [("GITHUB_TOKEN", ""), ("DEBUG", ""), ("AWS_SECRET_ACCESS_KEY", "")]
                .map(|(k, v)| (k.to_owned(), v.to_owned())),
        ));
        assert_eq!(
            env.unwrap().secret_looking().collect::<Vec<_>>(),
            ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"]
        );
    }
}
