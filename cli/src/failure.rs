//! What went wrong, in one line, and what to do next.

use std::fmt;

use crate::printable::printable;

/// Our own failure of `new` and `attach`, whose other codes are the program's.
pub(crate) const FAILED_ATTACHED: u8 = 255;
/// Any other failure.
pub(crate) const FAILED: u8 = 1;
/// The command line cannot be understood.
pub(crate) const USAGE: u8 = 2;

/// A failure as it is told: one line and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    next: Option<String>,
    usage: bool,
}

impl Failure {
    /// Makes a failure of what happened.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, usage: false }
    }

    /// Makes the failure of a command line that cannot be understood: exit code 2.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(what) }
    }

    /// Makes the failure of a request; a field that the server refuses is called by its flag.
    pub(crate) fn of_field(
        error: client::Error,
        flag: impl Fn(&str) -> Option<&'static str>,
    ) -> Self {
        let client::Error::Problem(problem) = &error else { return error.into() };
        let invalid = problem.code == wire::problem::Code::Invalid;
        let why = problem.field.as_deref().filter(|_| invalid).and_then(|field| {
            let why = problem.detail.strip_prefix(field)?;
            Some(format!("{}{why}", flag(field)?))
        });
        match why {
            Some(why) => Self::usage(why),
            None => error.into(),
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// Returns the exit code: 2 for usage, else what the verb fails with.
    #[must_use]
    pub fn code(&self, failed: u8) -> u8 {
        if self.usage { USAGE } else { failed }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.what))?;
        match &self.next {
            Some(next) => write!(f, "; {}", printable(next)),
            None => Ok(()),
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let failure = Self::new(error.to_string());
        match &error {
            client::Error::LoggedOut { .. } => Self::new("the server does not take this token")
                .next("set LOOM_TOKEN or LOOM_TOKEN_FILE"),
            client::Error::Problem(problem) => of_problem(problem),
            client::Error::Broken(Some(source)) => Self::new(format!("{error}: {source}")),
            _ => failure,
        }
    }
}

fn of_problem(problem: &wire::problem::Problem) -> Failure {
    use wire::problem::Code;
    let failure = Failure::new(problem.to_string());
    match problem.code {
        Code::NotFound => failure.next("`loom ps` shows what is there"),
        Code::TooMany | Code::Unavailable | Code::Timeout => failure.next("try again in a moment"),
        _ => failure,
    }
}

impl From<weaver::FieldError> for Failure {
    fn from(error: weaver::FieldError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Says what was being done when a file or a call of the system failed.
pub(crate) trait Doing<T> {
    /// Puts `what` before the error's own words.
    fn doing(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{what}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use wire::problem::{Code, Problem};

    use super::*;

    #[test]
    fn one_line_and_what_to_do() {
        let problem = Problem::new(Code::NotFound, "no weaver \u{1b}[2J\nW-1");
        let failure = Failure::from(client::Error::Problem(Box::new(problem)));
        let text = "no weaver \\x1b[2J\\nW-1; `loom ps` shows what is there";
        assert_eq!(failure.to_string(), text);
        assert_eq!((failure.code(FAILED), failure.code(FAILED_ATTACHED)), (1, 255));
    }

    #[test]
    fn a_refused_field_is_called_by_its_flag() {
        let refused = |field: &str, detail: &str| {
            let error = client::Error::Problem(Box::new(Problem::field(field, detail)));
            Failure::of_field(error, |field| (field == "lifetime_hours").then_some("--ttl"))
        };
        let known = refused("lifetime_hours", "lifetime_hours must be at most 8 here");
        assert_eq!(known.to_string(), "--ttl must be at most 8 here");
        assert_eq!(known.code(FAILED_ATTACHED), USAGE);
        let unknown = refused("args", "args needs a command");
        assert_eq!(unknown.to_string(), "args needs a command");
        assert_eq!(unknown.code(FAILED_ATTACHED), FAILED_ATTACHED);
    }

    #[test]
    fn usage_is_2_everywhere() {
        let failure = Failure::from("a b".parse::<weaver::Image>().unwrap_err());
        assert_eq!(failure.code(FAILED_ATTACHED), USAGE);
    }
}
