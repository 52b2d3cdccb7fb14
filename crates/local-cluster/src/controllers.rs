//! What goes on without being asked: namespaces are emptied, dependents collected, old
//! events forgotten.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api;
use crate::clock;
use crate::collect::Collector;
use crate::store::{Decision, Key, Object, Resource, Store, WriteError};

const EVENT_LIFETIME_SECONDS: u64 = 3600;
const MAX_EVENTS: usize = 10_000;
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Makes the namespaces that every cluster has.
pub(crate) fn seed(store: &Store) -> Result<(), WriteError> {
    for name in ["default", "kube-system"] {
        let key = Key::new(Resource::Namespaces, "", name);
        if store.get(&key).is_none() {
            let namespace = json!({
                "metadata": metadata(name, json!({"kubernetes.io/metadata.name": name})),
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            store.create(key, namespace)?;
        }
    }
    let (namespaces, _) = store.list(Resource::Namespaces, "");
    namespaces.iter().for_each(|namespace| default_service_account(store, namespace));
    Ok(())
}

fn metadata(name: &str, labels: Value) -> Value {
    json!({"name": name, "uid": Uuid::new_v4().to_string(), "labels": labels,
           "creationTimestamp": clock::now_text()})
}

/// Gives a namespace its service account `default`.
pub(crate) fn default_service_account(store: &Store, namespace: &Object) {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    let key = Key::new(Resource::ServiceAccounts, name, "default");
    if store.get(&key).is_some() || is_terminating(namespace) {
        return;
    }
    let mut meta = metadata("default", json!({}));
    meta["namespace"] = name.into();
    if let Err(error) = store.create(key, json!({"metadata": meta})) {
        tracing::warn!(%error, "a service account could not be made");
    }
}

/// Runs until shut down.
pub(crate) async fn run(store: Arc<Store>, shutdown: CancellationToken) {
    let mut wake = store.subscribe();
    let mut collector = Collector::new(&store);
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        wake.borrow_and_update();
        empty_namespaces(&store);
        collector.step(&store);
        tokio::select! {
            _ = wake.changed() => {}
            _ = sweep.tick() => forget_events(&store, clock::now()),
            () = shutdown.cancelled() => return,
        }
    }
}

fn is_terminating(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

fn empty_namespaces(store: &Store) {
    let (namespaces, _) = store.list(Resource::Namespaces, "");
    for namespace in namespaces.iter().filter(|namespace| is_terminating(namespace)) {
        let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
        if delete_contents(store, name) == 0 {
            finish_namespace(store, name);
        }
    }
}

/// Asks for the deletion of everything in a namespace and returns how much is left. Events go
/// last: pods write some when they end.
fn delete_contents(store: &Store, namespace: &str) -> usize {
    let order = [
        Resource::Pods,
        Resource::Secrets,
        Resource::ConfigMaps,
        Resource::ServiceAccounts,
        Resource::Leases,
        Resource::Events,
    ];
    let mut left = 0;
    for resource in order {
        if resource == Resource::Events && left > 0 {
            return left;
        }
        let (objects, _) = store.list(resource, namespace);
        for object in &objects {
            if !is_terminating(object)
                && let Err(refusal) = api::delete(store, &Key::of(resource, object))
            {
                tracing::warn!(refusal = %refusal.body(), "a namespace cannot be emptied");
            }
        }
        left += store.list(resource, namespace).0.len();
    }
    left
}

/// Lets go of an empty namespace, unless a user's finalizer holds it.
fn finish_namespace(store: &Store, name: &str) {
    let key = Key::new(Resource::Namespaces, "", name);
    let finished = store.update(&key, |namespace| -> Result<Decision, WriteError> {
        let held = namespace["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if !held {
            return Ok(Decision::Delete);
        }
        let mut released = Value::clone(namespace);
        released["spec"] = json!({});
        Ok(Decision::Put(released))
    });
    if let Err(error) = finished {
        tracing::warn!(%error, "a namespace could not be removed");
    }
}

/// Deletes events that are old, and the oldest when there are too many.
fn forget_events(store: &Store, now: Timestamp) {
    let (mut events, _) = store.list(Resource::Events, "");
    events.sort_by_key(|event| crate::store::version_of(event));
    let surplus = events.len().saturating_sub(MAX_EVENTS);
    for (at, event) in events.iter().enumerate() {
        let last = event["lastTimestamp"].as_str().or(event["eventTime"].as_str());
        let last = last.or(event["metadata"]["creationTimestamp"].as_str());
        let seen = last.and_then(clock::parse).unwrap_or(now);
        let old = clock::seconds_between(seen, now) > EVENT_LIFETIME_SECONDS;
        if (old || at < surplus)
            && let Err(refusal) = api::delete(store, &Key::of(Resource::Events, event))
        {
            tracing::debug!(refusal = %refusal.body(), "an old event stays");
        }
    }
}
