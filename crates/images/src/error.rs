//! What can go wrong on an image's way here, in a user's words.

use std::io;

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image is called like this.
    #[error("{reference:?} is no name of an image: {why}")]
    Name {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry has none of this name.
    #[error("{0}: not found")]
    NotFound(String),
    /// The registry wants to know who asks, or does not let them.
    #[error(
        "{0}: not authorized: it does not exist, or is private and wants `docker login` or an imagePullSecret"
    )]
    Unauthorized(String),
    /// The registry has been asked too often.
    #[error("{0}: the registry has been asked too often (429); it may answer later")]
    RateLimited(String),
    /// The registry does not answer, or breaks off.
    #[error("{registry}: {why}")]
    Unreachable {
        /// Its host.
        registry: String,
        /// What it did.
        why: String,
    },
    /// What came is not what was named.
    #[error("{what}: {why}")]
    Lies {
        /// The blob.
        what: String,
        /// In what they differ.
        why: String,
    },
    /// What came is nothing that can be used.
    #[error("{0}")]
    Unsupported(String),
    /// It has none for this machine.
    #[error("{0}: no image for this machine (linux/{arch})", arch = std::env::consts::ARCH)]
    NoPlatform(String),
    /// It is more than is allowed.
    #[error("the image is too large: {0}")]
    TooLarge(String),
    /// This machine's disk.
    #[error("{doing}: {source}")]
    Disk {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Tells whether trying again can only give the same.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Name { .. }
            | Self::NotFound(_)
            | Self::Unauthorized(_)
            | Self::Unsupported(_)
            | Self::NoPlatform(_)
            | Self::TooLarge(_) => true,
            Self::RateLimited(_)
            | Self::Unreachable { .. }
            | Self::Lies { .. }
            | Self::Disk { .. } => false,
        }
    }
}

/// Says what was being done when the system refused.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Disk { doing: what(), source: error.into() })
    }
}
