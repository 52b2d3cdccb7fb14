//! One link per weaver, opened for the first viewer, shared by all, closed some time after the last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use weaver::WeaverId;
use wire::link::Open;

use crate::close::End;
use crate::link::{Join, Seat};

/// Viewers of one weaver that wait for its link before further ones wait outside.
const JOINS: usize = 64;

/// Serves the viewers of one weaver for as long as there are any, and gives their channel back.
pub(crate) type Serve = dyn Fn(WeaverId, mpsc::Receiver<Join>) -> BoxFuture<'static, mpsc::Receiver<Join>>
    + Send
    + Sync;

/// The links of this process. Clones share them.
#[derive(Clone)]
pub(crate) struct Links(Arc<Inner>);

struct Inner {
    open: Mutex<HashMap<WeaverId, mpsc::Sender<Join>>>,
    serve: Box<Serve>,
    tasks: TaskTracker,
}

impl Links {
    pub(crate) fn new(serve: Box<Serve>) -> Self {
        Self(Arc::new(Inner { open: Mutex::default(), serve, tasks: TaskTracker::new() }))
    }

    /// Returns what is counted while a link is open. Nobody waits for it when the process ends: a
    /// link without viewers has nobody to tell.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Takes a seat on a weaver's link, and opens it if need be.
    pub(crate) async fn join(&self, id: WeaverId, open: Open) -> Result<Seat, End> {
        loop {
            let (seat, seated) = oneshot::channel();
            let join = Join { open: open.clone(), seat };
            // A link that has just ended takes nobody: the next one does.
            if self.link(id).send(join).await.is_ok() {
                return seated.await.unwrap_or(Err(End::Broken));
            }
        }
    }

    fn link(&self, id: WeaverId) -> mpsc::Sender<Join> {
        let mut open = self.lock();
        if let Some(link) = open.get(&id).filter(|link| !link.is_closed()) {
            return link.clone();
        }
        let (sender, joins) = mpsc::channel(JOINS);
        open.insert(id, sender.clone());
        self.0.tasks.spawn(self.clone().keep(id, joins));
        metrics::gauge!("loom_relay_links").increment(1);
        sender
    }

    /// Serves until nobody waits any more.
    async fn keep(self, id: WeaverId, mut joins: mpsc::Receiver<Join>) {
        loop {
            joins = (self.0.serve)(id, joins).await;
            let mut open = self.lock();
            if joins.is_empty() {
                joins.close();
                open.remove(&id);
                metrics::gauge!("loom_relay_links").decrement(1);
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WeaverId, mpsc::Sender<Join>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
