//! One weaver's link in life: wait until it runs, exec `loom-host connect`, carry, tell why it ended.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cluster::{Cluster, Exec, ExecRequest, LogQuery};
use futures::future::FutureExt;
use futures::stream::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use weaver::WeaverId;
use wire::frame::{Frame, Hello, Size};

use crate::close::End;
use crate::link::{self, Ears, Join, Mouth, Over, Seat};
use crate::watch::{WHY, Watch};

/// What runs in the weaver's container and joins its session.
const CONNECT: [&str; 2] = ["/run/loom/tools/loom-host", "connect"];
/// How long a link outlives its last viewer.
const IDLE: Duration = Duration::from_secs(5);
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
    let connect = {
        let cluster = cluster.clone();
        let argv = CONNECT.map(str::to_owned).to_vec();
        let request = ExecRequest { argv, stdin: true, tty: false };
        move |found| {
            let (cluster, request) = (cluster.clone(), request.clone());
            async move { cluster.exec(&found, &request).await }.boxed()
        }
    };
    match watch.reach(connect).await {
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
            watch.why(WHY).await
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
    let Some((lost, bytes)) = written(cluster, id).await else { return Vec::new() };
    let hello = Hello { session: [0; 16], input: 0, tty: true, size: Size::default() };
    let mut frames = vec![Frame::Hello { offset: lost, hello }];
    if lost > 0 {
        frames.push(Frame::Gap { offset: lost, lost });
    }
    frames.extend(pieces(lost, bytes));
    frames
}

/// Returns the end of a weaver's log, and how many bytes before it are left out.
pub(crate) async fn written(cluster: &Cluster, id: WeaverId) -> Option<(u64, Bytes)> {
    let log = cluster.logs(id, LogQuery::default()).await.ok()?;
    let mut log = std::pin::pin!(log);
    let mut bytes = BytesMut::new();
    let mut lost = 0;
    while let Some(Ok(piece)) = log.next().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LOG {
            lost += bytes.split_to(bytes.len() - LOG).len() as u64;
        }
    }
    Some((lost, bytes.freeze()))
}

fn pieces(mut offset: u64, mut bytes: Bytes) -> impl Iterator<Item = Frame> {
    std::iter::from_fn(move || {
        let data = bytes.split_to(PIECE.min(bytes.len()));
        let frame = Frame::Output { offset, data: data.clone() };
        offset += data.len() as u64;
        (!data.is_empty()).then_some(frame)
    })
}
