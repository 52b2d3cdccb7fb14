//! A weaver whose program is to be reached, and how it ended if that is not to be.

use std::time::Duration;

use cluster::{Cluster, Error, Found};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use weaver::{Phase, WeaverId, Why};

use crate::close::End;

/// How long the cluster may take to say why a stream broke.
pub(crate) const WHY: Duration = Duration::from_secs(3);
/// How soon a container that runs and cannot be entered yet is tried again, if nothing changes.
const RETRY: Duration = Duration::from_millis(250);
/// How many failures in a row are waited out.
const FAILURES: u32 = 4;
/// How far our reading of the API server's clock may be behind the janitor's.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// A weaver under watch.
pub(crate) struct Watch {
    pub(crate) id: WeaverId,
    changes: BoxStream<'static, cluster::Result<Option<Found>>>,
    latest: Option<Found>,
    failures: u32,
    /// Whose clock tells an expiry from a deletion: the one that the deadline was written by.
    cluster: Cluster,
    /// When the last change was seen, on that clock.
    seen: Timestamp,
}

impl Watch {
    pub(crate) fn new(cluster: &Cluster, id: WeaverId) -> Self {
        let changes = cluster.watch_one(id).boxed();
        let (cluster, seen) = (cluster.clone(), service::clock::now());
        Self { id, changes, latest: None, failures: 0, cluster, seen }
    }

    /// Waits for the next change. It may be dropped and called again.
    async fn change(&mut self) -> Result<(), End> {
        let next = self.changes.next().await;
        self.seen = self.cluster.last_seen_time().unwrap_or_else(service::clock::now);
        match next {
            Some(Ok(Some(found))) => {
                self.failures = 0;
                self.latest = Some(found);
                Ok(())
            }
            Some(Ok(None)) | None => Err(self.gone()),
            Some(Err(error)) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &Error) -> Result<(), End> {
        self.failures += 1;
        if error.is_transient() && self.failures < FAILURES {
            return Ok(());
        }
        Err(End::Unavailable(error.to_string()))
    }

    /// Waits until the program can be reached, and reaches it.
    pub(crate) async fn reach<T>(
        &mut self,
        open: impl Fn(Found) -> BoxFuture<'static, cluster::Result<T>>,
    ) -> Result<T, End> {
        let mut wait = Duration::MAX;
        loop {
            if let Ok(change) = tokio::time::timeout(wait, self.change()).await {
                change?;
            }
            let Some(found) = &self.latest else { continue };
            if let Some(end) = end_of(found, self.seen) {
                return Err(end);
            }
            wait = Duration::MAX;
            if found.pod.phase != "Running" {
                continue;
            }
            tracing::debug!(weaver = %self.id, "container runs");
            match open(found.clone()).await {
                Ok(opened) => {
                    tracing::debug!(weaver = %self.id, "program reached");
                    return Ok(opened);
                }
                // It has just started, or just ended, or another pod has its name: a change says.
                Err(Error::NotRunning { .. } | Error::Changed { .. } | Error::NotFound { .. }) => {}
                Err(error) => self.failed(&error)?,
            }
            wait = RETRY;
        }
    }

    /// Waits until somebody deletes the weaver: its program's end is told by its host.
    pub(crate) async fn doomed(&mut self) -> End {
        loop {
            match self.change().await {
                Err(End::Unavailable(_)) | Ok(()) => {}
                Err(end) => return end,
            }
            if let Some(found) = &self.latest
                && found.pod.deleting
            {
                return self.gone();
            }
        }
    }

    /// Says why the stream ended, as soon as the cluster knows and at most after `patience`.
    pub(crate) async fn why(&mut self, patience: Duration) -> End {
        let known = async {
            loop {
                if let Some(end) = self.latest.as_ref().and_then(|found| end_of(found, self.seen)) {
                    return end;
                }
                if let Err(end) = self.change().await {
                    return end;
                }
            }
        };
        tokio::time::timeout(patience, known).await.unwrap_or(End::Broken)
    }

    fn gone(&self) -> End {
        self.latest.as_ref().map_or(End::Deleted, |found| deleted(found, self.seen))
    }
}

/// Returns how a weaver has ended, if it has. What a deletion does to the program is no exit: one
/// that came before it was told by the host.
fn end_of(found: &Found, now: Timestamp) -> Option<End> {
    let weaver = &found.weaver;
    match (weaver.phase, weaver.exit_code) {
        _ if found.pod.deleting => Some(deleted(found, now)),
        (Phase::Succeeded | Phase::Failed, Some(code)) => Some(End::Exited(code)),
        (Phase::Succeeded, None) => Some(End::Exited(0)),
        (Phase::Failed, None) => Some(End::Failed(weaver.why.clone().unwrap_or_else(unknown))),
        (Phase::Pending | Phase::Running | Phase::Unknown, _) => None,
    }
}

fn deleted(found: &Found, now: Timestamp) -> End {
    if found.weaver.is_expired(now + SLACK) { End::Expired } else { End::Deleted }
}

fn unknown() -> Why {
    Why { reason: "Failed".to_owned(), message: "the cluster does not say why".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::PodFacts;
    use weaver::Weaver;

    fn found(phase: Phase, exit_code: Option<i32>, deleting: bool) -> Found {
        let weaver = Weaver { phase, exit_code, ..Weaver::sample() };
        Found { weaver, pod: PodFacts { deleting, ..PodFacts::default() } }
    }

    #[test]
    fn a_program_that_a_deletion_has_ended_is_no_exit() {
        let deadline = Weaver::sample().expires_at();
        let end = |phase, code, deleting| end_of(&found(phase, code, deleting), deadline);
        for phase in [Phase::Running, Phase::Failed] {
            assert_eq!(end(phase, Some(143), true), Some(End::Expired), "{phase}");
            let early =
                end_of(&found(phase, Some(143), true), deadline - SignedDuration::from_secs(3));
            assert_eq!(early, Some(End::Deleted), "{phase}");
        }
        assert_eq!(end(Phase::Failed, Some(7), false), Some(End::Exited(7)));
        assert_eq!(end(Phase::Succeeded, Some(0), false), Some(End::Exited(0)));
        assert_eq!(end(Phase::Running, None, false), None);
    }
}
