//! One weaver's link in life: wait until it runs, exec `loom-host connect`, carry, tell why it ended.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cluster::{Cluster, Error, Exec, ExecRequest, Found, LogQuery};
use futures::stream::{BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use weaver::{Phase, WeaverId, Why};
use wire::frame::{Frame, Hello, Size};

use crate::close::End;
use crate::link::{self, Ears, Join, Mouth, Over, Seat};

/// What runs in the weaver's container and joins its session.
const CONNECT: [&str; 2] = ["/run/loom/tools/loom-host", "connect"];
/// How long a link outlives its last viewer.
const IDLE: Duration = Duration::from_secs(5);
/// How long the cluster may take to say why a link broke.
const WHY: Duration = Duration::from_secs(3);
/// How soon a container that runs and cannot be entered yet is tried again, if nothing changes.
const RETRY: Duration = Duration::from_millis(250);
/// How many failures in a row are waited out.
const FAILURES: u32 = 4;
/// How far our reading of the API server's clock may be behind the janitor's.
const SLACK: SignedDuration = SignedDuration::from_secs(2);
/// Most bytes of the log of a weaver that ended before it could be reached.
const LOG: usize = 4 * 1024 * 1024;
/// Most bytes of one frame of log.
const PIECE: usize = 64 * 1024;

/// Serves the viewers of a weaver until its link is over.
pub(crate) async fn serve(
    cluster: Cluster,
    id: WeaverId,
    mut joins: mpsc::Receiver<Join>,
) -> mpsc::Receiver<Join> {
    let mut watch = Watch::new(&cluster, id);
    match watch.reach(&cluster).await {
        Ok(exec) => carry(&cluster, exec, &mut watch, &mut joins).await,
        Err(end) => {
            let log = match end {
                End::Exited(_) => log(&cluster, id).await,
                _ => Vec::new(),
            };
            refuse(&mut joins, &log, &end);
        }
    }
    joins
}

/// Serves viewers over a stream that is there already, or could not be opened.
pub(crate) async fn over<R, W>(
    stream: io::Result<(R, W)>,
    mut joins: mpsc::Receiver<Join>,
) -> mpsc::Receiver<Join>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    match stream {
        Ok((read, write)) => {
            let (mut pump, writer) = link::start(read, write);
            let nobody = std::future::pending();
            if let Over::Broken(_) = both(pump.run(&mut joins, nobody, IDLE), writer).await {
                pump.end(&End::Broken, &[]);
            }
        }
        Err(error) => refuse(&mut joins, &[], &End::Unavailable(error.to_string())),
    }
    joins
}

/// Runs a pump beside its writer, which ends by itself only together with the stream.
async fn both(pump: impl Future<Output = Over>, writer: impl Future<Output = ()>) -> Over {
    tokio::select! {
        over = pump => over,
        () = async { writer.await; std::future::pending().await } => Over::Idle,
    }
}

/// Carries frames between the host and all viewers.
async fn carry(
    cluster: &Cluster,
    mut exec: Exec,
    watch: &mut Watch,
    joins: &mut mpsc::Receiver<Join>,
) {
    let Some(stdin) = exec.stdin.take() else { return };
    let status = exec.status();
    let (mut pump, writer) = link::start(exec.stdout, stdin);
    let end = match both(pump.run(joins, watch.doomed(), IDLE), writer).await {
        Over::Idle => return,
        // After its last word a host ends: everybody has been told.
        Over::Broken(None) if pump.is_empty() => return,
        Over::Told(end) => end,
        Over::Broken(error) => {
            let status = tokio::time::timeout(WHY, status).await;
            tracing::info!(weaver = %watch.id, ?error, ?status, "link to a host ended");
            watch.why().await
        }
    };
    // A program may end while its host is being reached: then its log has what nobody heard.
    let log = match end {
        End::Exited(_) if pump.owes_greetings() => log(cluster, watch.id).await,
        _ => Vec::new(),
    };
    pump.end(&end, &log);
}

/// Tells everybody who waits now why there is no seat, or what was written before the end.
fn refuse(joins: &mut mpsc::Receiver<Join>, log: &[Frame], end: &End) {
    while let Ok(join) = joins.try_recv() {
        let answer = if log.is_empty() {
            Err(end.clone())
        } else {
            let ears = Ears::of(log.to_vec(), end.clone());
            Ok(Seat { mouth: Mouth::deaf(), ears })
        };
        // A viewer that has left needs no answer.
        let _ = join.seat.send(answer);
    }
}

/// Returns what a weaver wrote, as frames: it ended before its host could be reached.
async fn log(cluster: &Cluster, id: WeaverId) -> Vec<Frame> {
    let Ok(log) = cluster.logs(id, LogQuery::default()).await else { return Vec::new() };
    let mut log = std::pin::pin!(log);
    let mut bytes = BytesMut::new();
    let mut lost = 0;
    while let Some(Ok(piece)) = log.next().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LOG {
            lost += bytes.split_to(bytes.len() - LOG).len() as u64;
        }
    }
    let hello = Hello { session: [0; 16], input: 0, tty: true, size: Size::default() };
    let mut frames = vec![Frame::Hello { offset: lost, hello }];
    if lost > 0 {
        frames.push(Frame::Gap { offset: lost, lost });
    }
    frames.extend(pieces(lost, bytes.freeze()));
    frames
}

fn pieces(mut offset: u64, mut bytes: Bytes) -> impl Iterator<Item = Frame> {
    std::iter::from_fn(move || {
        let data = bytes.split_to(PIECE.min(bytes.len()));
        let frame = Frame::Output { offset, data: data.clone() };
        offset += data.len() as u64;
        (!data.is_empty()).then_some(frame)
    })
}

/// A weaver under watch.
struct Watch {
    id: WeaverId,
    changes: BoxStream<'static, cluster::Result<Option<Found>>>,
    latest: Option<Found>,
    failures: u32,
    /// Whose clock tells an expiry from a deletion: the one that the deadline was written by.
    cluster: Cluster,
    /// When the last change was seen, on that clock.
    seen: Timestamp,
}

impl Watch {
    fn new(cluster: &Cluster, id: WeaverId) -> Self {
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

    /// Waits until the host can be reached, and reaches it.
    async fn reach(&mut self, cluster: &Cluster) -> Result<Exec, End> {
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
            let argv = CONNECT.map(str::to_owned).to_vec();
            match cluster.exec(found, &ExecRequest { argv, stdin: true, tty: false }).await {
                Ok(exec) => {
                    tracing::debug!(weaver = %self.id, "host reached");
                    return Ok(exec);
                }
                // It has just started, or just ended, or another pod has its name: a change says.
                Err(Error::NotRunning { .. } | Error::Changed { .. } | Error::NotFound { .. }) => {}
                Err(error) => self.failed(&error)?,
            }
            wait = RETRY;
        }
    }

    /// Waits until somebody deletes the weaver: its program's end is told by its host.
    async fn doomed(&mut self) -> End {
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

    /// Says why the link broke, as soon as the cluster knows.
    async fn why(&mut self) -> End {
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
        tokio::time::timeout(WHY, known).await.unwrap_or(End::Broken)
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
