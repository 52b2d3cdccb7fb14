//! One sweep over all weavers.

use std::collections::HashSet;
use std::time::Duration;

use cluster::{Cluster, Deletion, Error, Found, Page, Query};
use futures::stream::{self, StreamExt};
use weaver::WeaverId;

use crate::decide::{Verdict, decide};
use crate::report::Report;

/// How often a list that the cluster forgot in the middle is begun again.
const RESTARTS: usize = 3;
/// How often a weaver that changed just now is looked at again.
const LOOKS: usize = 5;
/// How often a call is tried again when the cluster asks to wait.
const WAITS: usize = 3;

/// Bounds of a sweep.
#[derive(Debug, Clone, Copy)]
pub struct SweepOptions {
    /// Most deletions at once.
    pub concurrency: usize,
    /// Most time for the whole.
    pub deadline: Duration,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self { concurrency: 16, deadline: Duration::from_secs(300) }
    }
}

/// A sweep that did not come to its end; what it deleted until then is deleted.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The weavers cannot be listed.
    #[error("weavers cannot be listed")]
    List(#[source] Error),
    /// The API server's time is not known.
    #[error("the API server's time is not known")]
    Clock(#[source] Error),
    /// It took too long.
    #[error("the sweep took longer than {} s", .0.as_secs())]
    Deadline(Duration),
}

/// Deletes every weaver whose deadline has come.
///
/// # Errors
/// When it cannot look at all of them. That one cannot be deleted is counted in the report.
pub async fn sweep(cluster: &Cluster, options: SweepOptions) -> Result<Report, SweepError> {
    let begun = service::clock::monotonic();
    let whole = tokio::time::timeout(options.deadline, whole(cluster, options.concurrency)).await;
    let swept = whole.unwrap_or(Err(SweepError::Deadline(options.deadline)));
    let mut report = swept.inspect_err(|_| {
        metrics::counter!("loom_janitor_sweeps_failed_total").increment(1);
    })?;
    report.took(begun.elapsed());
    report.count();
    Ok(report)
}

async fn whole(cluster: &Cluster, concurrency: usize) -> Result<Report, SweepError> {
    let (mut report, mut query, mut seen) = (Report::default(), Query::default(), HashSet::new());
    let mut restarts = 0;
    loop {
        report.calls += 1;
        let page = match patiently(|| cluster.list(&query)).await {
            Err(Error::CursorExpired) if restarts < RESTARTS => {
                restarts += 1;
                query.cursor = None;
                continue;
            }
            page => page.map_err(SweepError::List)?,
        };
        query.cursor = page.next.clone();
        one_page(cluster, page, concurrency, &mut seen, &mut report).await?;
        if query.cursor.is_none() {
            return Ok(report);
        }
    }
}

async fn one_page(
    cluster: &Cluster,
    page: Page,
    concurrency: usize,
    seen: &mut HashSet<WeaverId>,
    report: &mut Report,
) -> Result<(), SweepError> {
    // The list's own answer has just told the time, so this asks nobody.
    let now = cluster.now().await.map_err(SweepError::Clock)?;
    report.listed += page.skipped.len() as u64;
    report.skipped += page.skipped.len() as u64;
    let mut owed = Vec::new();
    for found in page.found {
        if !seen.insert(found.weaver.id) {
            continue;
        }
        report.listed += 1;
        match decide(&found, now) {
            Verdict::Keep => report.kept += 1,
            Verdict::Ending => report.ending += 1,
            Verdict::Delete => owed.push(found),
        }
    }
    let mut ends =
        stream::iter(owed).map(|found| end(cluster, found)).buffer_unordered(concurrency.max(1));
    while let Some(ended) = ends.next().await {
        ended.add_to(report);
    }
    Ok(())
}

/// How the end of one weaver went.
#[derive(Debug, Default)]
struct Ended {
    calls: u64,
    outcome: Outcome,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Outcome {
    Deleted,
    Kept,
    Ending,
    #[default]
    Failed,
}

impl Ended {
    fn add_to(&self, report: &mut Report) {
        report.expired += 1;
        report.calls += self.calls;
        match self.outcome {
            Outcome::Deleted => report.deleted += 1,
            Outcome::Kept => report.kept += 1,
            Outcome::Ending => report.ending += 1,
            Outcome::Failed => report.failed += 1,
        }
    }
}

/// Deletes exactly what was read. When somebody changed it meanwhile it is read and decided anew:
/// an extension keeps it, a status that the kubelet wrote does not.
async fn end(cluster: &Cluster, mut found: Found) -> Ended {
    let id = found.weaver.id;
    let mut calls = 0;
    for _ in 0..LOOKS {
        calls += 1;
        let guard = found.guard();
        let outcome = match patiently(|| cluster.delete(id, &guard)).await {
            Ok(Deletion::Deleted) => {
                tracing::info!(weaver = %id, deadline = %found.weaver.expires_at(), "Deleted an expired weaver");
                Outcome::Deleted
            }
            Ok(Deletion::Gone) => Outcome::Ending,
            Ok(Deletion::Changed) => {
                calls += 1;
                match look_again(cluster, id).await {
                    Ok(newer) => {
                        found = newer;
                        continue;
                    }
                    Err(outcome) => outcome,
                }
            }
            Err(error) => failed(id, &error),
        };
        return Ended { calls, outcome };
    }
    tracing::warn!(weaver = %id, "An expired weaver changes all the time");
    Ended { calls, outcome: Outcome::Failed }
}

/// Returns the weaver if it is still to be deleted, else what became of it.
async fn look_again(cluster: &Cluster, id: WeaverId) -> Result<Found, Outcome> {
    let found = patiently(|| cluster.get(id)).await.map_err(|error| failed(id, &error))?;
    let found = found.ok_or(Outcome::Ending)?;
    let now = cluster.now().await.map_err(|error| failed(id, &error))?;
    match decide(&found, now) {
        Verdict::Delete => Ok(found),
        Verdict::Keep => Err(Outcome::Kept),
        Verdict::Ending => Err(Outcome::Ending),
    }
}

fn failed(id: WeaverId, error: &Error) -> Outcome {
    tracing::warn!(weaver = %id, %error, "An expired weaver cannot be deleted");
    Outcome::Failed
}

/// Does a call, and waits as told when the cluster is overloaded.
async fn patiently<T, F>(mut call: impl FnMut() -> F) -> cluster::Result<T>
where
    F: Future<Output = cluster::Result<T>>,
{
    for _ in 0..WAITS {
        match call().await {
            Err(Error::TooMany { retry_after }) => tokio::time::sleep(retry_after).await,
            result => return result,
        }
    }
    call().await
}
