//! Flags and variables of `loom-janitor`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use service::LogArgs;

use crate::SweepOptions;

/// Deletes weavers whose deadline has come
#[derive(Debug, Clone, Parser)]
#[command(name = "loom-janitor", version)]
pub struct Args {
    /// Sweep for one minute, as a CronJob does, and exit
    #[arg(long)]
    pub once: bool,
    /// How a report is written on stdout
    #[arg(long = "report", env = "LOOM_JANITOR_REPORT", value_enum, default_value = "text")]
    pub report: ReportFormat,
    /// Address of /metrics and /healthz, which need no token; none without it, or with --once
    #[arg(long, env = "LOOM_JANITOR_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// How it sweeps.
    #[command(flatten)]
    pub janitor: JanitorArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: cluster::ClusterArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// One line for people.
    Text,
    /// One object a line.
    Json,
}

/// How it sweeps, wherever it runs.
#[derive(Debug, Clone, clap::Args)]
pub struct JanitorArgs {
    /// Seconds between two sweeps
    #[arg(long, env = "LOOM_SERVER_WEAVER_CLEANUP_INTERVAL_SECS", default_value = "60",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub weaver_cleanup_interval_secs: u64,
    /// Most deletions at once
    #[arg(long, env = "LOOM_SERVER_WEAVER_CLEANUP_CONCURRENCY", default_value = "16",
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub weaver_cleanup_concurrency: u16,
    /// Most seconds that one sweep may take
    #[arg(long, env = "LOOM_SERVER_WEAVER_CLEANUP_DEADLINE_SECS", default_value = "300",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub weaver_cleanup_deadline_secs: u64,
}

impl JanitorArgs {
    /// Returns the time between two sweeps.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.weaver_cleanup_interval_secs)
    }

    /// Returns the bounds of a sweep.
    #[must_use]
    pub fn options(&self) -> SweepOptions {
        SweepOptions {
            concurrency: usize::from(self.weaver_cleanup_concurrency),
            deadline: Duration::from_secs(self.weaver_cleanup_deadline_secs),
        }
    }

    /// Returns how many sweeps a CronJob's minute holds.
    pub(crate) fn sweeps_a_minute(&self) -> u64 {
        (60 / self.weaver_cleanup_interval_secs).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_as_many_sweeps_as_fit() {
        for (interval, sweeps) in [("60", 1), ("30", 2), ("45", 1), ("7", 8), ("3600", 1)] {
            let flag = "--weaver-cleanup-interval-secs";
            let args = Args::parse_from(["loom-janitor", flag, interval]);
            assert_eq!(args.janitor.sweeps_a_minute(), sweeps, "{interval}");
        }
    }
}
