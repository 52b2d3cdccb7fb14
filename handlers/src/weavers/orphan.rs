//! A pod whose maker never learns of it is deleted again.

use std::time::Duration;

use cluster::{Cluster, Deletion, Guard};
use weaver::WeaverId;

use crate::App;

/// When its deletion is tried: a create that was cut off may still take effect a little later.
const ATTEMPTS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(20)];

/// Deletes the weaver when dropped: the caller went away, the deadline came, the cluster's answer
/// was lost. Only for ids that no other request can have.
pub(crate) struct Orphan(Option<(App, WeaverId)>);

impl Orphan {
    pub(crate) fn new(app: &App, id: WeaverId) -> Self {
        Self(Some((app.clone(), id)))
    }

    /// Leaves the weaver alone: somebody knows of it, or it was never made.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let Some((app, id)) = self.0.take() else { return };
        metrics::counter!("loom_orphans_total").increment(1);
        let (cluster, shutdown) = (app.cluster().clone(), app.shutdown().clone());
        app.cleaning().spawn(async move {
            for pause in ATTEMPTS {
                // When we are leaving there is one last attempt, and the janitor after that.
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
                if delete(&cluster, id).await {
                    return;
                }
                if shutdown.is_cancelled() {
                    break;
                }
            }
        });
    }
}

/// Returns whether the pod was there and is deleted now.
async fn delete(cluster: &Cluster, id: WeaverId) -> bool {
    match cluster.delete(id, &Guard::default()).await {
        Ok(Deletion::Deleted) => {
            tracing::info!(weaver = %id, "Deleted a weaver that nobody was told of");
            true
        }
        Ok(Deletion::Gone | Deletion::Changed) => false,
        Err(error) => {
            tracing::warn!(weaver = %id, %error, "A weaver that nobody was told of may be left");
            false
        }
    }
}
