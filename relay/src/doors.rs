//! What the relay asks of the cluster, as functions, so that tests can answer in its place.

use std::sync::Arc;

use cluster::{Cluster, ExecRequest, Found};
use futures::future::{BoxFuture, FutureExt};
use weaver::{Phase, WeaverId};
use wire::problem::Code;

use crate::exec::{Ask, Program};
use crate::hub;
use crate::links::Serve;
use crate::problem::Refusal;

/// Tells whether there is a weaver that can be attached to, now or soon.
pub(crate) type Find = dyn Fn(WeaverId) -> BoxFuture<'static, Result<(), Refusal>> + Send + Sync;

/// Runs a program in a weaver.
pub(crate) type Run =
    dyn Fn(WeaverId, Ask) -> BoxFuture<'static, Result<Program, Refusal>> + Send + Sync;

/// The questions.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) find: Arc<Find>,
    pub(crate) run: Arc<Run>,
}

impl Doors {
    /// Asks Kubernetes.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let (one, other) = (cluster.clone(), cluster.clone());
        let find = move |id| {
            let cluster = one.clone();
            async move { attachable(cluster.get(id).await?).map(drop) }.boxed()
        };
        let run = move |id, ask| run(other.clone(), id, ask).boxed();
        Self { find: Arc::new(find), run: Arc::new(run) }
    }
}

async fn run(cluster: Cluster, id: WeaverId, ask: Ask) -> Result<Program, Refusal> {
    let found = attachable(cluster.get(id).await?)?;
    let request = ExecRequest { argv: ask.argv, stdin: true, tty: ask.tty };
    Ok(cluster.exec(&found, &request).await?.into())
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
