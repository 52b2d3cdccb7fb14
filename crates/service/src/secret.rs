//! Values that nobody may see: tokens and keys, from a file or a variable.

use std::convert::Infallible;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Most bytes of a secret's file.
const MAX: u64 = 64 * 1024;

/// A secret text. It prints as `[redacted]`.
#[derive(Clone)]
pub struct Secret(String);

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error("cannot read the secret in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its file holds nothing, or far too much.
    #[error("{path} does not hold a secret: it is {what}")]
    Size {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Both the value and a file are given.
    #[error("{name} and {name}_FILE are both set: keep one")]
    Both {
        /// The variable's name.
        name: &'static str,
    },
}

impl Secret {
    /// Takes a text; white space around it does not count.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Reads a file; white space around its content does not count.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or is larger than 64 KiB.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let mut text = String::new();
        let open = std::fs::File::open(path);
        let read = open.and_then(|file| file.take(MAX + 1).read_to_string(&mut text));
        let size =
            read.map_err(|source| SecretError::Read { path: path.to_owned(), source })? as u64;
        let secret = Self::new(&text);
        let wrong = |what| Err(SecretError::Size { path: path.to_owned(), what });
        match size {
            _ if secret.0.is_empty() => wrong("empty"),
            size if size > MAX => wrong("larger than 64 KiB"),
            _ => Ok(secret),
        }
    }

    /// Takes the value or the file's content, whichever is given; `name` is the variable's.
    ///
    /// # Errors
    /// Both are given, or the file does not hold a secret.
    pub fn either(
        value: Option<&Self>,
        file: Option<&Path>,
        name: &'static str,
    ) -> Result<Option<Self>, SecretError> {
        match (value, file) {
            (Some(_), Some(_)) => Err(SecretError::Both { name }),
            (Some(value), None) => Ok(Some(value.clone())),
            (None, Some(file)) => Self::from_file(file).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Returns the secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether `guess` is the secret, in a time that says nothing about where it differs.
    #[must_use]
    pub fn matches(&self, guess: &[u8]) -> bool {
        // What a comparison of digests may give away is of no use without their preimages.
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(guess)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new(" hush\n");
        assert_eq!(format!("{secret:?} {secret}"), "[redacted] [redacted]");
        assert_eq!(secret.expose(), "hush");
        assert!(secret.matches(b"hush"));
        assert!(!secret.matches(b"hus") && !secret.matches(b"") && !secret.matches(b"hushh"));
    }

    #[test]
    fn files_hold_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let read = |content: &[u8]| {
            std::fs::write(&file, content).unwrap();
            Secret::from_file(&file)
        };
        assert_eq!(read(b"hush\n").unwrap().expose(), "hush");
        assert!(matches!(read(b" \n"), Err(SecretError::Size { what: "empty", .. })));
        assert!(matches!(read(&[b'a'; 70_000]), Err(SecretError::Size { .. })));
        assert!(matches!(read(&[0xff]), Err(SecretError::Read { .. })));
        let missing = Secret::either(None, Some(&folder.path().join("none")), "X");
        assert!(matches!(missing, Err(SecretError::Read { .. })));
        let both = Secret::either(Some(&Secret::new("a")), Some(&file), "X");
        assert_eq!(both.unwrap_err().to_string(), "X and X_FILE are both set: keep one");
    }
}
