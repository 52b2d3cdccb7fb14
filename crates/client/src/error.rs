//! Why a call failed, in words that say what to do.

use wire::problem::{Code, Problem};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address cannot be used.
    #[error("the server address {url:?} cannot be used: {why}")]
    Address {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody answers at the server's address.
    #[error("cannot reach the server at {url}; is it running, and is the address right?")]
    Connect {
        /// The server.
        url: String,
        /// What the machine says.
        #[source]
        source: reqwest::Error,
    },
    /// The server did not answer in time.
    #[error("the server at {url} did not answer in time; try again")]
    Timeout {
        /// The server.
        url: String,
    },
    /// The server does not know the caller.
    #[error("not logged in at {url}; run `loom login` first")]
    LoggedOut {
        /// The server.
        url: String,
    },
    /// The server says no, and why.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// The server answered with something else than Loom's API does.
    #[error("the server at {url} answered {status} without Loom's words; is it a Loom server?")]
    Answer {
        /// The server.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The connection broke in the middle.
    #[error("the connection to the server broke")]
    Broken(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// The server broke a rule of the protocol.
    #[error("the server sent {0}")]
    Protocol(&'static str),
    /// No client can be made on this machine.
    #[error("cannot set up a connection")]
    Setup(#[source] reqwest::Error),
}

impl Error {
    /// Returns the server's problem, if it sent one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Returns the problem's code, if the server sent one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::LoggedOut { .. } => Some(Code::Unauthenticated),
            _ => self.problem().map(|problem| problem.code),
        }
    }

    /// Tells whether the same call may do better later: nothing was refused.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken(_) => true,
            Self::Problem(problem) => {
                matches!(problem.code, Code::Unavailable | Code::Timeout | Code::TooMany)
            }
            Self::Address { .. }
            | Self::LoggedOut { .. }
            | Self::Answer { .. }
            | Self::Protocol(_)
            | Self::Setup(_) => false,
        }
    }

    pub(crate) fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken(Some(error.into()))
    }
}
