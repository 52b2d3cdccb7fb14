//! The relay's state and routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cluster::Cluster;
use service::Guard;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::problem::Code;

use crate::doors::{self, Doors};
use crate::links::{Links, Serve};
use crate::problem::Refusal;
use crate::{attach, exec};

/// Most streams at once, unless somebody says otherwise.
pub const MAX_VIEWERS: usize = 4096;
/// How long viewers are told that the relay ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// What every request is served with. Nothing in it is missed after a restart.
#[derive(Clone)]
pub struct Relay {
    pub(crate) doors: Doors,
    pub(crate) links: Links,
    pub(crate) guard: Guard,
    pub(crate) drain: CancellationToken,
    pub(crate) tasks: TaskTracker,
    viewers: Arc<Semaphore>,
}

impl Relay {
    /// Makes the state of a relay that closes its streams when `shutdown` says so.
    #[must_use]
    pub fn new(cluster: Cluster, guard: Guard, shutdown: CancellationToken) -> Self {
        let doors = Doors::of(&cluster);
        Self::over(doors, doors::by_exec(cluster), guard, shutdown)
    }

    /// Makes the state of a relay that asks somebody else than Kubernetes.
    pub(crate) fn over(
        doors: Doors,
        serve: Box<Serve>,
        guard: Guard,
        drain: CancellationToken,
    ) -> Self {
        let (links, tasks) = (Links::new(serve), TaskTracker::new());
        Self { doors, links, guard, drain, tasks, viewers: Arc::new(Semaphore::new(MAX_VIEWERS)) }
    }

    /// Sets the most streams at once.
    #[must_use]
    pub fn with_max_viewers(self, most: usize) -> Self {
        Self { viewers: Arc::new(Semaphore::new(most)), ..self }
    }

    /// Waits until every viewer has been told, after the shutdown; one that does not read holds
    /// nobody up for long.
    pub async fn drained(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(FAREWELL, self.tasks.wait()).await;
    }

    /// Takes a place for a viewer.
    pub(crate) fn place(&self) -> Result<Place, Refusal> {
        let permit = self.viewers.clone().try_acquire_owned();
        let permit = permit
            .map_err(|_| Refusal::new(Code::TooMany, "too many streams; try again in a moment"))?;
        metrics::gauge!("loom_relay_viewers").increment(1);
        Ok(Place { _permit: permit })
    }
}

/// A viewer's place; dropping it makes room.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::gauge!("loom_relay_viewers").decrement(1);
    }
}

/// Returns the relay's routes; health and metrics are their program's.
pub fn app(relay: Relay) -> Router {
    Router::new()
        .route("/api/weavers/{id}/attach", get(attach::attach))
        .route("/api/weavers/{id}/exec", get(exec::exec))
        .with_state(relay)
}
