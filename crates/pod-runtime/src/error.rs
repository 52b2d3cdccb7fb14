//! What can go wrong, as a caller wants to tell it apart.

use std::io;

use crate::spec::PodStatus;

/// Why the runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be a folder's: letters, digits, `.`, `_` and `-`, at most 128.
    #[error("{0:?} cannot be the name of a pod or container")]
    Name(String),
    /// A pod of this id has a folder already.
    #[error("pod {0} exists already")]
    Exists(String),
    /// There is no folder of this id.
    #[error("there is no pod {0}")]
    NotFound(String),
    /// The pod's shim no longer lives, and so no process of the pod does.
    #[error("the pod's shim is gone")]
    Gone {
        /// What it wrote last.
        last: Option<Box<PodStatus>>,
        /// Whether the machine was started anew since then.
        rebooted: bool,
    },
    /// Its shim is only beginning and cannot be asked yet.
    #[error("pod {0} is just being started")]
    Beginning(String),
    /// This machine does not allow what pods need.
    #[error("{cause}: {fix}")]
    Unsupported {
        /// What is missing, in a few words.
        cause: String,
        /// What to do about it.
        fix: String,
    },
    /// The shim could not set the pod up.
    #[error("the pod could not be set up: {0}")]
    Setup(String),
    /// The container is not running.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The program could not be started, worded as Kubernetes does.
    #[error("{0}")]
    Program(String),
    /// The shim answered something else than was asked.
    #[error("the pod's shim answered out of turn")]
    Protocol(#[source] serde_json::Error),
    /// A file or socket failed.
    #[error("{doing}")]
    Io {
        /// What was being done, e.g. `writing the pod's spec`.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Puts what was being done onto an I/O error.
pub(crate) trait Doing<T> {
    /// Names the step that failed.
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing, source: source.into() })
    }
}
