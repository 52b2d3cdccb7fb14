//! The command line: verbs, flags and the help that teaches them.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;
use crate::verbs::{attach, completions, cp, delete, dev, doctor, exec, extend, logs, new, ps};

/// Remote, throw-away development environments
#[derive(Debug, Parser)]
#[command(name = "loom", version, max_term_width = 100, arg_required_else_help = true,
    after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  loom new --local                      a weaver on this machine, and your terminal in it
  loom new -- make test                 runs a program and returns its exit code
  loom ps                               what there is
  loom attach -                         back into the last one
  loom rm -                             delete it
  loom new --image debian:12 --ttl 8    on a cluster: another image, for eight hours

An ID is a whole id (W-…), a name, a unique beginning or end of an id, or - for the last one used.

Exit codes: new and attach return the program's code when it ended while you were attached,
0 when you detached, 255 when loom itself failed. exec returns the program's code. All others:
0, 1 for a failure, 2 for a command line that cannot be understood.

Environment: LOOM_SERVER_URL, LOOM_TOKEN or LOOM_TOKEN_FILE, LOOM_CONFIG_DIR, LOOM_STATE_DIR";

/// Which server is meant; before or after the verb.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Server to talk to [env: LOOM_SERVER_URL; else the current context]
    #[arg(long, global = true, value_name = "URL", conflicts_with = "local")]
    pub(crate) server_url: Option<String>,
    /// Use this machine's own cluster; it is started when it does not run
    #[arg(long, global = true)]
    pub(crate) local: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    New(new::Args),
    Attach(attach::Args),
    /// Everything about weavers: new, attach, ps, delete and more
    #[command(subcommand, arg_required_else_help = true)]
    Weaver(WeaverVerb),
    Ps(ps::Args),
    #[command(visible_alias = "delete")]
    Rm(delete::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Cp(cp::Args),
    Extend(extend::Args),
    Dev(dev::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    /// Print the version
    Version {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum WeaverVerb {
    New(new::Args),
    Attach(attach::Args),
    #[command(visible_alias = "list")]
    Ps(ps::Args),
    #[command(visible_alias = "rm")]
    Delete(delete::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Cp(cp::Args),
    Extend(extend::Args),
}

impl Verb {
    /// Turns `loom weaver VERB` into `loom VERB`, which is the same.
    pub(crate) fn plain(self) -> Self {
        let Self::Weaver(verb) = self else { return self };
        match verb {
            WeaverVerb::New(args) => Self::New(args),
            WeaverVerb::Attach(args) => Self::Attach(args),
            WeaverVerb::Ps(args) => Self::Ps(args),
            WeaverVerb::Delete(args) => Self::Rm(args),
            WeaverVerb::Logs(args) => Self::Logs(args),
            WeaverVerb::Exec(args) => Self::Exec(args),
            WeaverVerb::Cp(args) => Self::Cp(args),
            WeaverVerb::Extend(args) => Self::Extend(args),
        }
    }

    /// Tells whether the verb's exit codes belong to the program that it shows.
    pub(crate) fn is_attached(&self) -> bool {
        matches!(self, Self::New(_) | Self::Attach(_))
    }
}

/// Says what is wrong with a command line, and what to type instead.
pub(crate) fn explain(error: &clap::Error, line: &[OsString]) -> Failure {
    let usage = error.render().to_string();
    let usage = usage.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or("loom");
    let words = usage.split(' ').take_while(|word| word.starts_with(char::is_alphabetic));
    let verb = words.collect::<Vec<_>>().join(" ");
    let failure = Failure::usage(one_line(error));
    match behind_dashes(error, usage, line) {
        Some(better) => failure.next(format!("a program goes behind --: {better}")),
        None => failure.next(format!("see `{verb} --help`")),
    }
}

/// Puts `--` before the word that clap took for an argument and is the beginning of a program.
fn behind_dashes(error: &clap::Error, usage: &str, line: &[OsString]) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let takes_program = usage.contains("-- <CMD>");
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) if takes_program => {
            let at = line.iter().skip(1).position(|given| given == word.as_str())? + 1;
            let is_flag = word.starts_with('-');
            let words = line.iter().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>();
            let (before, after) = words.split_at(at);
            (!is_flag).then(|| {
                format!("loom {} -- {}", before.get(1..).unwrap_or(&[]).join(" "), after.join(" "))
            })
        }
        (ErrorKind::MissingRequiredArgument, _) if takes_program => {
            let missing = one_line(error);
            let only_program = missing.contains("<CMD>") && !missing.contains("<ID>");
            let words = line.iter().skip(1).map(|word| quoted(&word.to_string_lossy()));
            only_program.then(|| format!("loom {} -- ls", words.collect::<Vec<_>>().join(" ")))
        }
        _ => None,
    }
}

/// Writes a word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Puts clap's words for a wrong command line on one line.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let parts = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said =
        parts.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    said.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documents_lines_are_read() {
        for line in [
            "loom --server-url https://loom.ghuntley.com new --image debian:12",
            "loom new --image ghcr.io/ghuntley/loom/weaver:latest",
            "loom weaver new --org O-1 --repo https://github.com/user/project --branch main",
            "loom new -e NODE_ENV=production -e DEBUG=1 --env A=",
            "loom new --ttl 8",
            "loom --server-url https://loom.ghuntley.com weaver ps",
            "loom weaver ps --json",
            "loom ps --watch",
            "loom attach W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
            "loom weaver attach W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
            "loom weaver delete W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c",
            "loom rm -",
            "loom delete a b",
            "loom logs -f -",
            "loom exec - -t -- ls -l",
            "loom cp a -:/tmp",
            "loom extend - 8",
            "loom new --local --name a --tag a=b --cpu 0.5 --memory 1Gi --rm -- sh -c true",
            "loom dev --detach",
            "loom dev status --json",
            "loom dev reset --yes",
            "loom doctor --json",
            "loom completions bash",
            "loom version",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err().map(|e| one_line(&e)));
        }
    }

    #[test]
    fn server_flags_stand_before_or_after_the_verb() {
        for line in ["loom --local ps", "loom ps --local", "loom weaver ps --local"] {
            assert!(parse(line).unwrap().global.local, "{line}");
        }
        let after = parse("loom ps --server-url http://a").unwrap().global.server_url;
        assert_eq!(after.as_deref(), Some("http://a"));
    }

    #[test]
    fn what_to_type_instead_is_said() {
        for (line, says) in [
            ("loom new make test", "a program goes behind --: loom new -- make test"),
            ("loom new --rm a;b -x", "a program goes behind --: loom new --rm -- 'a;b' -x"),
            ("loom --local exec tour ls -l", "behind --: loom --local exec tour -- ls -l"),
            ("loom weaver exec - ls", "behind --: loom weaver exec - -- ls"),
            ("loom exec tour", "behind --: loom exec tour -- ls"),
            ("loom exec", "see `loom exec --help`"),
            ("loom new --nmae x", "see `loom new --help`"),
            ("loom ps all", "see `loom ps --help`"),
            ("loom weaver frob", "see `loom weaver --help`"),
            ("loom frob", "see `loom --help`"),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let text = explain(&parse(line).unwrap_err(), &words).to_string();
            assert!(text.ends_with(says), "{line}: {text}");
        }
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn help_is_a_verb_too() {
        for line in ["loom help", "loom help new", "loom weaver help ps", "loom help dev stop"] {
            let kind = parse(line).unwrap_err().kind();
            assert_eq!(kind, clap::error::ErrorKind::DisplayHelp, "{line}");
        }
    }

    #[test]
    fn abuse_usage_is_one_line_and_names_the_field() {
        for (line, says) in [
            ("loom new --image --flag", "--image"),
            ("loom new --image http://a/b", "image"),
            ("loom new --image a@sha256:bad", "digest"),
            ("loom new --ttl 0", "'--ttl <HOURS>': must be 1 to 48"),
            ("loom new --ttl 49", "'--ttl <HOURS>': must be 1 to 48"),
            ("loom new --ttl 4.5", "'--ttl <HOURS>': must be 1 to 48"),
            ("loom extend - 49", "'<TTL>': must be 1 to 48"),
            ("loom new --repo ssh://host/x", "https://"),
            ("loom new --repo https://u:p@host/x", "credentials"),
            ("loom new --branch -x", "branch"),
            ("loom new -e =b", "env"),
            ("loom new -e A", "KEY=VALUE"),
            ("loom new --tag loom.dev/x=1", "tag"),
            ("loom new --cpu 0", "cpu"),
            ("loom new --memory 2G", "memory"),
            ("loom frobnicate", "frobnicate"),
            ("loom ps --local --server-url http://a", "--local"),
            ("loom new --rm --no-attach", "--no-attach"),
        ] {
            let error = parse(line).unwrap_err();
            let text = one_line(&error);
            assert!(text.contains(says) && !text.contains('\n'), "{line}: {text}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
