//! Why a container or program did not start, in the words that a user reads.

use std::io;

/// What stopped a start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The program cannot be executed, worded as Kubernetes does.
    #[error("{0}")]
    Program(String),
    /// The container has ended.
    #[error("the container is not running")]
    Gone,
    /// A step of the preparation failed.
    #[error("{doing}: {source}")]
    Step { doing: String, source: io::Error },
}

/// First byte of a report.
const GONE: u8 = b'G';
const OTHER: u8 = b'E';

impl Failure {
    pub(crate) fn step(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Step { doing: doing.into(), source: source.into() }
    }

    pub(crate) fn to_report(&self) -> Vec<u8> {
        let kind = if matches!(self, Self::Gone) { GONE } else { OTHER };
        [&[kind], self.to_string().as_bytes()].concat()
    }

    /// Reads what [`Failure::to_report`] wrote.
    pub(crate) fn from_report(report: &[u8]) -> Self {
        match report.split_first() {
            Some((&GONE, _)) => Self::Gone,
            Some((_, text)) => Self::Program(String::from_utf8_lossy(text).into_owned()),
            None => Self::Program(String::new()),
        }
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    fn step(self, doing: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|source| Failure::step(doing, source))
    }
}
