//! What the relay asks of the cluster, as functions, so that tests can answer in its place.

use std::io;
use std::sync::Arc;

use cluster::{Cluster, ExecRequest, Found};
use futures::future::{BoxFuture, FutureExt};
use service::Guard;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use weaver::{Phase, WeaverId};
use wire::problem::Code;

use crate::app::Relay;
use crate::close::End;
use crate::exec::{Ask, Program};
use crate::links::Serve;
use crate::problem::Refusal;
use crate::{hub, main_process};

/// Whose program a weaver's viewers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// What its host runs, which keeps the session.
    Host,
    /// The image's own, which only Kubernetes can be asked for.
    Own {
        /// Whether it has a terminal.
        tty: bool,
    },
}

/// Tells what there is to attach to, now or soon.
pub(crate) type Find =
    dyn Fn(WeaverId) -> BoxFuture<'static, Result<Session, Refusal>> + Send + Sync;

/// Reaches an image's own program once it runs; who made it, if that is told, also gives it its
/// input.
pub(crate) type Own =
    dyn Fn(WeaverId, bool) -> BoxFuture<'static, Result<Program, End>> + Send + Sync;

/// Runs a program in a weaver.
pub(crate) type Run =
    dyn Fn(WeaverId, Ask) -> BoxFuture<'static, Result<Program, Refusal>> + Send + Sync;

/// The questions.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) find: Arc<Find>,
    pub(crate) run: Arc<Run>,
    pub(crate) own: Arc<Own>,
}

impl Doors {
    /// Asks Kubernetes.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let [one, two, three] = [(); 3].map(|()| cluster.clone());
        let find = move |id| {
            let cluster = one.clone();
            async move { attachable(cluster.get(id).await?).map(|found| session(&found)) }.boxed()
        };
        let run = move |id, ask| run(two.clone(), id, ask).boxed();
        let own = move |id, first| main_process::reach(three.clone(), id, first).boxed();
        Self { find: Arc::new(find), run: Arc::new(run), own: Arc::new(own) }
    }
}

impl Relay {
    /// Makes the state of a relay that reaches hosts by `open` instead of Kubernetes: every weaver
    /// is there, and nothing can be run beside its session. For tests with real hosts.
    #[doc(hidden)]
    pub fn over_streams<R, W>(
        guard: Guard,
        shutdown: CancellationToken,
        open: impl Fn(WeaverId) -> io::Result<(R, W)> + Send + Sync + 'static,
    ) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let nothing = |_, _| async { Err(Refusal::no_such_weaver()) }.boxed();
        let doors = Doors {
            find: Arc::new(|_| async { Ok(Session::Host) }.boxed()),
            run: Arc::new(nothing),
            own: Arc::new(|_, _| async { Err(End::Broken) }.boxed()),
        };
        let serve = move |id, joins| hub::over(open(id), joins).boxed();
        Self::over(doors, Box::new(serve), guard, shutdown)
    }
}

fn session(found: &Found) -> Session {
    let spec = &found.weaver.spec;
    if spec.keep_entrypoint { Session::Own { tty: spec.tty } } else { Session::Host }
}

async fn run(cluster: Cluster, id: WeaverId, ask: Ask) -> Result<Program, Refusal> {
    let found = attachable(cluster.get(id).await?)?;
    let request = ExecRequest { argv: ask.argv, stdin: true, tty: ask.tty };
    let exec = cluster.exec(&found, &request).await?;
    Ok(Program::new(exec, request.argv.first().map_or("", String::as_str)))
}

/// Serves links by Kubernetes exec.
pub(crate) fn by_exec(cluster: Cluster) -> Box<Serve> {
    Box::new(move |id, joins| hub::serve(cluster.clone(), id, joins).boxed())
}

fn attachable(found: Option<Found>) -> Result<Found, Refusal> {
    let found = found.ok_or_else(Refusal::no_such_weaver)?;
    let id = found.weaver.id;
    let code = found.weaver.exit_code.map(|code| format!(" with exit code {code}"));
    let why = found.weaver.why.as_ref().map(|why| format!(": {}", why.message));
    let words = match found.weaver.phase {
        Phase::Succeeded => format!("{id} has ended{}", code.unwrap_or_default()),
        Phase::Failed => format!("{id} has ended{}", code.or(why).unwrap_or_default()),
        _ if found.pod.deleting => format!("{id} is being deleted"),
        Phase::Pending | Phase::Running | Phase::Unknown => return Ok(found),
    };
    Err(Refusal::new(Code::Conflict, words))
}
