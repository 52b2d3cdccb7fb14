//! The command line, read by hand: a parser would be a third of the binary.

use std::ffi::OsString;
use std::path::PathBuf;

/// How the program is called.
pub(crate) const USAGE: &str = "usage: loom-host run [--repo URL] [--branch B] [--workdir DIR] \
[--no-tty] [-- CMD ARGS…] | connect | ready | install FOLDER | version";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Args {
    Run(Plan),
    Connect,
    Ready,
    Install(PathBuf),
    /// What a login shell goes on as: the `PATH` that must not be lost, and the shell.
    Shell(OsString, PathBuf),
    Version,
}

/// What a weaver runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) repo: Option<OsString>,
    pub(crate) branch: Option<OsString>,
    pub(crate) workdir: Option<PathBuf>,
    pub(crate) no_tty: bool,
    /// Empty: the user's shell.
    pub(crate) command: Vec<OsString>,
}

/// Why the arguments make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error("a subcommand is missing")]
    Missing,
    #[error("{0:?} is not known here")]
    Unknown(OsString),
    #[error("{0} needs a value")]
    Value(&'static str),
}

impl Args {
    pub(crate) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, ArgsError> {
        let verb = args.next().ok_or(ArgsError::Missing)?;
        let parsed = match verb.to_str() {
            Some("run") => return Plan::parse(args).map(Self::Run),
            Some("connect") => Self::Connect,
            Some("ready") => Self::Ready,
            Some("install") => {
                Self::Install(args.next().ok_or(ArgsError::Value("install"))?.into())
            }
            Some("shell") => {
                let mut value = || args.next().ok_or(ArgsError::Value("shell"));
                Self::Shell(value()?, value()?.into())
            }
            Some("version" | "--version") => Self::Version,
            _ => return Err(ArgsError::Unknown(verb)),
        };
        args.next().map_or(Ok(parsed), |more| Err(ArgsError::Unknown(more)))
    }
}

impl Plan {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, ArgsError> {
        let mut plan = Self::default();
        while let Some(arg) = args.next() {
            let mut value = |of| args.next().ok_or(ArgsError::Value(of));
            match arg.to_str() {
                Some("--repo") => plan.repo = Some(value("--repo")?),
                Some("--branch") => plan.branch = Some(value("--branch")?),
                Some("--workdir") => plan.workdir = Some(value("--workdir")?.into()),
                Some("--no-tty") => plan.no_tty = true,
                Some("--") => {
                    plan.command = args.collect();
                    break;
                }
                _ => return Err(ArgsError::Unknown(arg)),
            }
        }
        Ok(plan)
    }

    /// Says whether the user gave no command.
    pub(crate) fn is_shell(&self) -> bool {
        self.command.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, ArgsError> {
        Args::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_command_is_taken_as_it_stands() {
        let Ok(Args::Run(plan)) =
            parse("run --no-tty --repo u --branch b --workdir /w -- sh --repo -- x")
        else {
            panic!("not a plan");
        };
        assert_eq!(plan.command, ["sh", "--repo", "--", "x"]);
        assert!(plan.no_tty && plan.repo == Some("u".into()) && plan.branch == Some("b".into()));
        assert_eq!(plan.workdir, Some("/w".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse(""), Err(ArgsError::Missing));
        assert_eq!(parse("run ls"), Err(ArgsError::Unknown("ls".into())));
        assert_eq!(parse("run --repo"), Err(ArgsError::Value("--repo")));
        assert_eq!(parse("install"), Err(ArgsError::Value("install")));
        assert_eq!(parse("ready now"), Err(ArgsError::Unknown("now".into())));
    }
}
