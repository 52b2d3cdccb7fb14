//! How the doctor's findings are shown: a line each as they come, or JSON at the end.

use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use cluster::doctor::{Check, State};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;
use crate::out;
use crate::printable::printable;

/// What takes longer is shown to be under way.
const QUICK: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Report {
    /// Whether nothing has to be changed.
    ok: bool,
    checks: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    /// `ok`, `warning` or `failed`.
    state: &'static str,
    detail: String,
    fix: Option<String>,
}

/// What was found so far.
pub(super) struct Show {
    json: bool,
    found: Vec<Check>,
}

impl Show {
    pub(super) fn new(json: bool) -> Self {
        Self { json, found: Vec::new() }
    }

    /// Tells whether nothing has to be changed so far.
    pub(super) fn is_ok(&self) -> bool {
        self.found.iter().all(|check| check.state != State::Failed)
    }

    pub(super) fn add(&mut self, checks: Vec<Check>) -> Result<(), Failure> {
        if !self.json {
            out::print(&checks.iter().map(line).collect::<String>())?;
        }
        self.found.extend(checks);
        Ok(())
    }

    /// Says what it all comes to.
    pub(super) fn end(self) -> Result<(), Failure> {
        let ok = self.is_ok();
        if self.json {
            let checks = self.found.into_iter().map(Row::of).collect();
            return out::print_json(&Report { ok, checks });
        }
        let warned = self.found.iter().any(|check| check.state == State::Warning);
        out::print(match (ok, warned) {
            (true, false) => "the cluster is fit for weavers\n",
            (true, true) => "the cluster is fit for weavers, as far as it could be found out\n",
            (false, _) => "something has to be changed: see what failed\n",
        })
    }
}

impl Row {
    fn of(check: Check) -> Self {
        let state = word(check.state);
        Self { name: check.name, state, detail: check.detail, fix: check.fix }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Failed => "failed",
    }
}

fn line(check: &Check) -> String {
    let mut line =
        format!("{:<8} {:<16} {}\n", word(check.state), check.name, printable(&check.detail));
    if let Some(fix) = &check.fix {
        line.push_str(&format!("{:<25} -> {}\n", "", printable(fix)));
    }
    line
}

/// Does something, and shows that it is under way when it takes long. What is done may say how far it
/// is.
pub(super) async fn during<T, F: Future<Output = T>>(
    what: &str,
    work: impl FnOnce(Step) -> F,
) -> T {
    let step = Step::new();
    let mut work = pin!(work(step.clone()));
    match tokio::time::timeout(QUICK, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            step.begin(what);
            let done = work.await;
            step.bar.finish_and_clear();
            done
        }
    }
}

/// One thing under way: a spinner, or a line where nobody looks at a terminal.
#[derive(Clone)]
pub(super) struct Step {
    bar: ProgressBar,
}

impl Step {
    fn new() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    fn begin(&self, what: &str) {
        if !std::io::stderr().is_terminal() {
            eprintln!("loom: {what}");
            return;
        }
        let style = ProgressStyle::with_template("{spinner} {prefix}{msg} ({elapsed})");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        self.bar.set_prefix(what.to_owned());
        self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    /// Says how far it is.
    pub(super) fn say(&self, how_far: &str) {
        self.bar.set_message(format!(": {}", printable(how_far)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_with_what_to_do() {
        let lines = [
            Check::ok("api", "seen"),
            Check::warning("rights", "not\u{1b}known", "ask"),
            Check::failed("clock", "off", "set it"),
        ];
        assert_eq!(
            lines.iter().map(line).collect::<String>(),
            "ok       api              seen\n\
             warning  rights           not\\x1bknown\n\
             \u{20}                         -> ask\n\
             failed   clock            off\n\
             \u{20}                         -> set it\n"
        );
    }

    #[test]
    fn a_warning_is_no_failure() {
        let mut show = Show::new(true);
        show.add(vec![Check::warning("a", "b", "c")]).unwrap();
        assert!(show.is_ok());
        show.add(vec![Check::failed("a", "b", "c")]).unwrap();
        assert!(!show.is_ok());
    }
}
