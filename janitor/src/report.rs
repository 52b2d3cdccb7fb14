//! What a sweep did, in one line.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Pods that were looked at, the unreadable ones included.
    pub listed: u64,
    /// Weavers whose deadline had come.
    pub expired: u64,
    /// Those of them that were deleted now.
    pub deleted: u64,
    /// Weavers that stay: their deadline has not come, or was moved meanwhile.
    pub kept: u64,
    /// Weavers that were on their way out already, or gone when their turn came.
    pub ending: u64,
    /// Pods that look like weavers and cannot be read. They are left alone.
    pub skipped: u64,
    /// Weavers that should have been deleted and could not be.
    pub failed: u64,
    /// Calls to Kubernetes.
    pub calls: u64,
    /// How long it took.
    pub milliseconds: u64,
}

impl Report {
    pub(crate) fn took(&mut self, time: Duration) {
        self.milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    }

    pub(crate) fn count(&self) {
        let pods = |what: &'static str, many: u64| {
            metrics::counter!("loom_janitor_pods_total", "result" => what).increment(many);
        };
        pods("deleted", self.deleted);
        pods("kept", self.kept);
        pods("ending", self.ending);
        pods("skipped", self.skipped);
        pods("failed", self.failed);
        metrics::counter!("loom_janitor_sweeps_total").increment(1);
        metrics::counter!("loom_janitor_calls_total").increment(self.calls);
        let seconds = Duration::from_millis(self.milliseconds).as_secs_f64();
        metrics::histogram!("loom_janitor_sweep_seconds").record(seconds);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listed, expired, deleted, kept, ending, skipped, failed, calls, milliseconds } =
            self;
        write!(
            f,
            "listed {listed}, expired {expired}, deleted {deleted}, kept {kept}, ending {ending}, \
             skipped {skipped}, failed {failed}, {calls} calls, {milliseconds} ms"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line() {
        let report = Report { listed: 3, expired: 1, deleted: 1, kept: 2, ..Report::default() };
        insta::assert_snapshot!(report, @"listed 3, expired 1, deleted 1, kept 2, ending 0, skipped 0, failed 0, 0 calls, 0 ms");
        insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"listed":3,"expired":1,"deleted":1,"kept":2,"ending":0,"skipped":0,"failed":0,"calls":0,"milliseconds":0}"#);
    }
}
