//! An image's own program (`--keep-entrypoint`): there is no host, so Kubernetes' attach is all there
//! is. Every viewer has a stream of its own, from when it comes; nothing is kept for the next.
//!
//! Without a terminal the output is that of the log, which is whole; attach gives the input then.

use std::time::Duration;

use cluster::{Cluster, Exec, Found, LogQuery};
use futures::future::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use service::Task;
use tokio_util::io::StreamReader;
use weaver::WeaverId;
use wire::frame::Size;
use wire::link::Open;

use crate::app::Relay;
use crate::close::End;
use crate::exec::{self, Program};
use crate::hub;
use crate::link::{self, Seat};
use crate::watch::{WHY, Watch};

/// How long the cluster may take to note the exit code of a program whose output has ended.
const NOTED: Duration = Duration::from_secs(30);

/// Takes a seat opposite of the program as soon as it runs.
pub(crate) async fn sit(relay: Relay, id: WeaverId, open: Open, tty: bool) -> Result<Seat, End> {
    let program = (relay.doors.own)(id, open.from_start).await?;
    let (seat, far) = link::seat();
    let size = open.size.and_then(|(rows, cols)| Size::new(rows, cols));
    relay.tasks.spawn(program.run(far, tty, size));
    Ok(seat)
}

/// What was opened to a program.
enum Opened {
    Terminal(Exec),
    Log(BoxStream<'static, cluster::Result<bytes::Bytes>>, Option<Exec>),
}

/// Waits until the program runs, and joins it; `first` is who made the weaver.
pub(crate) async fn reach(cluster: Cluster, id: WeaverId, first: bool) -> Result<Program, End> {
    let mut watch = Watch::new(&cluster, id);
    let opened = {
        let cluster = cluster.clone();
        move |found: Found| open(cluster.clone(), found, first).boxed()
    };
    match watch.reach(opened).await {
        Ok(Opened::Terminal(exec)) => Ok(on_terminal(exec, watch)),
        Ok(Opened::Log(log, input)) => Ok(by_log(log, input, watch)),
        Err(end @ End::Exited(_)) => match hub::written(&cluster, id).await {
            Some((_, written)) => Ok(over(written, end)),
            None => Err(end),
        },
        Err(end) => Err(end),
    }
}

async fn open(cluster: Cluster, found: Found, first: bool) -> cluster::Result<Opened> {
    if found.weaver.spec.tty {
        return cluster.attach(&found).await.map(Opened::Terminal);
    }
    let follow = LogQuery { follow: true, ..LogQuery::default() };
    let log = cluster.logs(found.weaver.id, follow).await?.boxed();
    let input = if first { Some(cluster.attach(&found).await?) } else { None };
    Ok(Opened::Log(log, input))
}

fn on_terminal(exec: Exec, mut watch: Watch) -> Program {
    let status = exec.status();
    let end = async move {
        // An orderly end is the container's; of a broken stream the weaver may know nothing.
        let patience = if status.await.is_ok() { NOTED } else { WHY };
        watch.why(patience).await
    };
    Program {
        stdin: exec.stdin.map(|stdin| Box::new(stdin) as _),
        stdout: Box::new(exec.stdout),
        stderr: None,
        resize: exec.resizer.map(exec::resize),
        end: end.boxed(),
        is_main: true,
    }
}

fn by_log(
    log: BoxStream<'static, cluster::Result<bytes::Bytes>>,
    input: Option<Exec>,
    mut watch: Watch,
) -> Program {
    let log = StreamReader::new(log.map(|piece| piece.map_err(std::io::Error::other)));
    let (stdin, rest) = input.map(only_input).unzip();
    let end = async move {
        let end = watch.why(NOTED).await;
        drop(rest);
        end
    };
    Program {
        stdin: stdin.flatten(),
        stdout: Box::new(log),
        stderr: None,
        resize: None,
        end: end.boxed(),
        is_main: true,
    }
}

type Input = Box<dyn tokio::io::AsyncWrite + Send + Unpin>;

/// Lets go what the log brings too; unread, it would hold the program up.
fn only_input(exec: Exec) -> (Option<Input>, Task) {
    let Exec { stdin, mut stdout, stderr, .. } = exec;
    let rest = Task::spawn(async move {
        let mut nowhere = tokio::io::sink();
        let out = tokio::io::copy(&mut stdout, &mut nowhere);
        let errors = async {
            if let Some(mut stderr) = stderr {
                // How the stream ends is of no interest: the log and the pod tell.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
        };
        let _ = tokio::join!(out, errors);
    });
    (stdin.map(|stdin| Box::new(stdin) as _), rest)
}

/// A program that had ended before it could be joined: its log is all there is.
fn over(written: bytes::Bytes, end: End) -> Program {
    Program {
        stdin: None,
        stdout: Box::new(std::io::Cursor::new(written)),
        stderr: None,
        resize: None,
        end: async { end }.boxed(),
        is_main: true,
    }
}
