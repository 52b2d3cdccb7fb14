//! Ends weavers whose deadline has come: lists them, decides, deletes.
//!
//! It keeps nothing between two sweeps, so it may be killed at any time and run twice at once. It
//! never deletes early: only what it has read (uid and resourceVersion as preconditions), after the
//! deadline on the API server's own clock. What it cannot read it leaves alone and reports.
//!
//! ```text
//! --once (CronJob) --.
//! run_every (cron) --'-> sweep -> list page -> decide(weaver, now) -> delete if unchanged -> Report
//! ```

mod args;
mod decide;
mod report;
mod run;
mod schedule;
mod sweep;

pub use args::{Args, JanitorArgs, ReportFormat};
pub use decide::{Verdict, decide};
pub use report::Report;
pub use run::run;
pub use schedule::{ScheduleError, run_every};
pub use sweep::{SweepError, SweepOptions, sweep};
