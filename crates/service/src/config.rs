//! A program's settings as a table, read from its command line.

use std::fmt::Write;

/// Renders every flag that has a variable as one row of a Markdown table, in the order they stand.
#[must_use]
pub fn config_table(command: &clap::Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut table = String::from("| variable | flag | default | what |\n|---|---|---|---|\n");
    for arg in command.get_arguments() {
        let Some(variable) = arg.get_env() else { continue };
        let flag = arg.get_long().map_or_else(String::new, |long| format!("`--{long}`"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {flag} | {} | {} |",
            variable.to_string_lossy(),
            default(arg),
            what(arg)
        );
    }
    table
}

fn default(arg: &clap::Arg) -> String {
    let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    let text = values.collect::<Vec<_>>().join(",");
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn what(arg: &clap::Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let choices: Vec<_> =
        arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
    // clap prints true and false as the choices of every flag without a value.
    let choices = if choices == ["true", "false"] { String::new() } else { choices.join("`, `") };
    let mut text = help.replace('\n', " ").replace('|', "\\|");
    if !choices.is_empty() {
        let _ = write!(text, ": `{choices}`");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::{GuardArgs, LogArgs};

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        log: LogArgs,
        #[command(flatten)]
        guard: GuardArgs,
        /// Has no variable
        #[arg(long)]
        once: bool,
    }

    #[test]
    fn settings_are_a_table() {
        insta::assert_snapshot!(super::config_table(&Program::command()), @r"
        | variable | flag | default | what |
        |---|---|---|---|
        | `LOOM_LOG` | `--log` | `info` | What is logged, e.g. info or cluster=debug,warn |
        | `LOOM_LOG_FORMAT` | `--log-format` | `text` | How a line is written: `text`, `json` |
        | `LOOM_SERVER_TOKEN` | `--token` |  | Token that every caller must show |
        | `LOOM_SERVER_TOKEN_FILE` | `--token-file` |  | File that holds the token |
        | `LOOM_SERVER_ALLOWED_HOSTS` | `--allowed-hosts` |  | Host names under which this server may be called, separated by commas; any without it, or loopback names only where it listens on loopback |
        | `LOOM_SERVER_ALLOWED_ORIGINS` | `--allowed-origins` |  | Web pages that may call this server, e.g. https://loom.example, separated by commas |
        ");
    }
}
