//! Sweeps again and again, by tokio-cron-scheduler.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::Cluster;
use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::{Report, SweepOptions, sweep};

/// The scheduler cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("sweeps cannot be scheduled")]
pub struct ScheduleError(#[from] JobSchedulerError);

/// What the ticks share. Whoever holds the lock sweeps; a tick that finds it taken does nothing.
struct Sweeper {
    cluster: Cluster,
    interval: Duration,
    options: SweepOptions,
    last: Mutex<Option<Instant>>,
}

/// Sweeps every `interval` until `shutdown`, and lets a sweep that has begun come to its end.
///
/// One job ticks every second and acts when a sweep is due: the scheduler's repeated jobs never
/// fire again after the machine was suspended.
///
/// # Errors
/// The scheduler cannot be started.
pub async fn run_every(
    cluster: Cluster,
    interval: Duration,
    options: SweepOptions,
    shutdown: CancellationToken,
) -> Result<(), ScheduleError> {
    let sweeper = Arc::new(Sweeper { cluster, interval, options, last: Mutex::default() });
    let mut scheduler = JobScheduler::new().await?;
    let ticking = Arc::clone(&sweeper);
    let job = Job::new_async("* * * * * *", move |_, _| {
        let sweeper = Arc::clone(&ticking);
        Box::pin(async move { sweeper.tick(service::clock::monotonic()).await })
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    shutdown.cancelled().await;
    scheduler.shutdown().await?;
    drop(sweeper.last.lock().await);
    Ok(())
}

impl Sweeper {
    async fn tick(&self, now: Instant) {
        let Ok(mut last) = self.last.try_lock() else { return };
        if !is_due(*last, now, self.interval) {
            return;
        }
        *last = Some(now);
        tell(&sweep(&self.cluster, self.options).await);
    }
}

fn is_due(last: Option<Instant>, now: Instant, interval: Duration) -> bool {
    // A tick comes a little early or late; half a second of the interval is its own.
    let slack = Duration::from_millis(500);
    last.is_none_or(|last| now.saturating_duration_since(last) + slack >= interval)
}

/// Logs a sweep: loudly only when there was something to do.
pub(crate) fn tell(swept: &Result<Report, crate::SweepError>) {
    match swept {
        Ok(report) if report.expired + report.failed > 0 => tracing::info!(%report, "Swept"),
        Ok(report) => tracing::debug!(%report, "Swept"),
        Err(error) => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, "A sweep failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_due_when_its_interval_has_passed() {
        let now = service::clock::monotonic();
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        let minute = Duration::from_secs(60);
        assert!(is_due(None, now, minute));
        assert!(!is_due(Some(now), after(58), minute));
        assert!(is_due(Some(now), after(60), minute));
        assert!(is_due(Some(now), after(7200), minute), "a suspended machine sweeps at once");
    }
}
