//! Keeps one sandbox made ahead, so that the next pod of the usual kind starts in it.

use std::sync::Arc;
use std::time::Duration;

use pod_runtime::Runtime;
use pod_runtime::spec::{Image, Mould, Network};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::aside::blocking;
use super::render::USER;

/// The pod that took the last one comes first: both want the same processors.
const PAUSE: Duration = Duration::from_millis(30);
/// Where it failed nothing is lost but time.
const RETRY: Duration = Duration::from_secs(60);

/// Makes one at the beginning and after each start of a pod; takes it away at the end.
pub(super) async fn keep(runtime: Runtime, started: Arc<Notify>, shutdown: CancellationToken) {
    tokio::select! {
        () = keep_one(&runtime, &started) => {}
        () = shutdown.cancelled() => {}
    }
    let released = blocking(move || {
        runtime.release();
        Ok(())
    });
    released.await.ok();
}

async fn keep_one(runtime: &Runtime, started: &Notify) {
    let mould = Mould { network: Network::User, image: Image::Host, uid: USER, gid: USER };
    loop {
        let (ahead, mould) = (runtime.clone(), mould.clone());
        if let Err(error) = blocking(move || ahead.prepare(&mould)).await {
            tracing::debug!(%error, "no sandbox is made ahead");
            tokio::time::sleep(RETRY).await;
        }
        started.notified().await;
        tokio::time::sleep(PAUSE).await;
    }
}
