//! Follows all pods: wakes the scheduler, gives each bound pod a worker.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::node::Capacity;
use super::worker::Worker;
use super::{Pods, scheduler};
use crate::store::{Change, Object, Resource, Store};

/// The one that looks at every pod.
pub(crate) struct Manager {
    store: Arc<Store>,
    pods: Pods,
    host: String,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    allocatable: Capacity,
    /// By uid: how a pod's worker hears of its object; `None` once that is gone.
    workers: HashMap<String, watch::Sender<Option<Object>>>,
}

const BATCH: usize = 1024;

impl Manager {
    pub(crate) fn new(
        store: &Arc<Store>,
        pods: Pods,
        host: IpAddr,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            store: store.clone(),
            pods,
            host: host.to_string(),
            tasks,
            shutdown,
            allocatable: Capacity::measure().allocatable(),
            workers: HashMap::new(),
        }
    }

    /// Ends and removes pods whose objects are gone.
    pub(crate) async fn remove_orphans(&self) {
        let (objects, _) = self.store.list(Resource::Pods, "");
        let known: HashSet<String> = objects.iter().map(|pod| uid(pod)).collect();
        let runtime = self.pods.runtime.clone();
        let removing = tokio::task::spawn_blocking(move || {
            for id in runtime.list().unwrap_or_default() {
                if !known.contains(&id)
                    && let Err(error) = runtime.remove(&id)
                {
                    tracing::warn!(%error, id, "an orphaned pod could not be removed");
                }
            }
        });
        if let Err(error) = removing.await {
            tracing::warn!(%error, "looking for orphaned pods failed");
        }
    }

    /// Runs until shut down.
    pub(crate) async fn run(mut self) {
        let mut wake = self.store.subscribe();
        let mut version = self.resync();
        loop {
            wake.borrow_and_update();
            version = self.catch_up(version);
            scheduler::schedule(&self.store, self.allocatable);
            if version < self.store.version() {
                continue;
            }
            tokio::select! {
                changed = wake.changed() => if changed.is_err() { return },
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    /// Looks at every pod there is and returns the version that was seen.
    fn resync(&mut self) -> u64 {
        let (pods, version) = self.store.list(Resource::Pods, "");
        let present: HashSet<String> = pods.iter().map(|pod| uid(pod)).collect();
        self.workers.retain(|uid, worker| {
            let stays = present.contains(uid);
            if !stays {
                worker.send_replace(None);
            }
            stays
        });
        pods.iter().for_each(|pod| self.tell(pod));
        version
    }

    fn catch_up(&mut self, mut version: u64) -> u64 {
        loop {
            let Ok(changes) = self.store.since(version, BATCH) else { return self.resync() };
            let Some(last) = changes.last() else { return version };
            version = last.version;
            changes.iter().for_each(|change| self.apply(change));
        }
    }

    fn apply(&mut self, change: &Change) {
        if change.key.resource != Resource::Pods {
            return;
        }
        if change.deleted {
            if let Some(worker) = self.workers.remove(&uid(&change.object)) {
                worker.send_replace(None);
            }
        } else {
            self.tell(&change.object);
        }
    }

    /// Tells a bound pod's worker of its object, and makes the worker first if need be.
    fn tell(&mut self, pod: &Object) {
        if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
            return;
        }
        let uid = uid(pod);
        if let Some(worker) = self.workers.get(&uid) {
            worker.send_replace(Some(pod.clone()));
            return;
        }
        let (sender, receiver) = watch::channel(Some(pod.clone()));
        let worker = Worker::new(
            self.store.clone(),
            self.pods.clone(),
            self.host.clone(),
            pod.clone(),
            receiver,
        );
        self.workers.insert(uid, sender);
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = worker.run() => {}
            }
        });
    }
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}
