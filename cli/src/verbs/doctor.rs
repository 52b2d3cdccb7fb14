//! `loom doctor`: what local weavers need on this machine, tried one by one.

use pod_runtime::Check;
use serde::Serialize;

use crate::config::Dirs;
use crate::failure::{FAILED, Failure};
use crate::out;
use crate::printable::printable;

/// Try what local weavers need on this machine, and say what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: 0 when local weavers can run here, 1 when they cannot.")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    /// Whether local weavers can run here.
    ok: bool,
    checks: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    ok: bool,
    needed: bool,
    detail: String,
    fix: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let dirs = Dirs::from_env()?;
    let report = Report::of(pod_runtime::probe(&dirs.state));
    if args.json {
        out::print_json(&report)?;
    } else {
        out::print(&report.text())?;
    }
    Ok(if report.ok { 0 } else { FAILED })
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|check| check.ok || !check.fatal);
        let row = |check: Check| Row {
            name: check.name,
            ok: check.ok,
            needed: check.fatal,
            detail: check.detail,
            fix: check.fix,
        };
        Self { ok, checks: checks.into_iter().map(row).collect() }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.checks {
            let mark = match (row.ok, row.needed) {
                (true, _) => "ok",
                (false, true) => "missing",
                (false, false) => "without",
            };
            text.push_str(&format!("{mark:<8} {:<16} {}\n", row.name, printable(&row.detail)));
            if let (false, Some(fix)) = (row.ok, &row.fix) {
                text.push_str(&format!("{:<25} -> {}\n", "", printable(fix)));
            }
        }
        text.push_str(match self.ok {
            true => "local weavers can run here: loom new --local\n",
            false => "local weavers cannot run here; see what is missing, or use --server-url\n",
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_probe_by_name_with_what_to_do() {
        let check = |name, ok, fatal| Check {
            name,
            ok,
            detail: format!("{name} seen"),
            fix: Some("do\u{1b}this".to_owned()),
            fatal,
        };
        let all = vec![
            check("mounts", true, true),
            check("tun", false, false),
            check("user-namespaces", false, true),
        ];
        let report = Report::of(all);
        assert_eq!(
            report.text(),
            "ok       mounts           mounts seen\n\
             without  tun              tun seen\n\
             \u{20}                         -> do\\x1bthis\n\
             missing  user-namespaces  user-namespaces seen\n\
             \u{20}                         -> do\\x1bthis\n\
             local weavers cannot run here; see what is missing, or use --server-url\n"
        );
        assert!(!report.ok);
    }
}
