//! What happens to pods, told as events.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::node;
use crate::clock;
use crate::store::{Decision, Key, Object, Resource, Store, WriteError};

/// One thing worth telling.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    component: &'static str,
    kind: &'static str,
    reason: &'static str,
    message: String,
    /// The container it is about, as `spec.containers{NAME}`.
    field: String,
}

impl Note {
    /// Told by the scheduler.
    pub(crate) fn scheduler(kind: &'static str, reason: &'static str, message: String) -> Self {
        Self { component: "default-scheduler", kind, reason, message, field: String::new() }
    }

    /// Told by the kubelet of the pod as a whole.
    pub(crate) fn pod(kind: &'static str, reason: &'static str, message: String) -> Self {
        Self { component: "kubelet", kind, reason, message, field: String::new() }
    }

    /// Told by the kubelet of one container.
    pub(crate) fn container(
        kind: &'static str,
        reason: &'static str,
        message: String,
        field: String,
    ) -> Self {
        Self { component: "kubelet", kind, reason, message, field }
    }

    /// Whether `event` says the same of the same pod.
    fn tells(&self, event: &Value, uid: &Value) -> bool {
        let about = &event["involvedObject"];
        about["uid"] == *uid
            && event["reason"] == self.reason
            && event["message"] == self.message.as_str()
            && about["fieldPath"].as_str().unwrap_or_default() == self.field
    }
}

/// Records an event, or counts it again. An event that cannot be written is not worth a failure.
pub(crate) fn record(store: &Arc<Store>, pod: &Object, note: &Note) {
    let now = clock::now();
    let meta = &pod["metadata"];
    let (namespace, prefix) = (text(&meta["namespace"]), format!("{}.", text(&meta["name"])));
    let known = store.list_prefixed(Resource::Events, namespace, &prefix);
    let written = match known.iter().find(|event| note.tells(event, &meta["uid"])) {
        Some(event) => count_again(store, event, &clock::text(now)),
        None => {
            // Names sort by time, as kubectl shows what happened within a second.
            let name = format!("{prefix}{:016x}", now.as_nanosecond());
            let key = Key::new(Resource::Events, namespace, &name);
            let event = event(pod, note, &key, &clock::text(now));
            store.create(key, event).map(drop)
        }
    };
    if let Err(error) = written {
        tracing::debug!(%error, reason = note.reason, "an event was not recorded");
    }
}

/// Records an event of which there is one for each pod and reason, and which changes.
pub(crate) fn keep(store: &Arc<Store>, pod: &Object, note: &Note, annotation: (&str, String)) {
    let now = clock::text(clock::now());
    let meta = &pod["metadata"];
    let name = format!("{}.{}", text(&meta["name"]), note.reason.to_ascii_lowercase());
    let key = Key::new(Resource::Events, text(&meta["namespace"]), &name);
    let mut event = event(pod, note, &key, &now);
    event["metadata"]["annotations"] = json!({annotation.0: annotation.1});
    let changed = store.update(&key, |old| {
        let mut new = event.clone();
        new["metadata"]["uid"] = old["metadata"]["uid"].clone();
        new["metadata"]["creationTimestamp"] = old["metadata"]["creationTimestamp"].clone();
        new["firstTimestamp"] = old["firstTimestamp"].clone();
        Ok::<_, WriteError>(Decision::Put(new))
    });
    let written = match changed {
        Ok(_) => Ok(()),
        Err(_) => store.create(key, event.clone()).map(drop),
    };
    if let Err(error) = written {
        tracing::debug!(%error, reason = note.reason, "an event was not recorded");
    }
}

fn count_again(store: &Store, event: &Object, now: &str) -> Result<(), WriteError> {
    let counted = store.update(&Key::of(Resource::Events, event), |old| {
        let mut event = Value::clone(old);
        event["count"] = (old["count"].as_u64().unwrap_or(1) + 1).into();
        event["lastTimestamp"] = now.into();
        Ok::<_, WriteError>(Decision::Put(event))
    });
    counted.map(drop)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn event(pod: &Object, note: &Note, key: &Key, now: &str) -> Value {
    let meta = &pod["metadata"];
    let mut about = json!({
        "kind": "Pod", "apiVersion": "v1", "namespace": meta["namespace"], "name": meta["name"],
        "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
    });
    if !note.field.is_empty() {
        about["fieldPath"] = note.field.clone().into();
    }
    let mut source = json!({"component": note.component});
    if note.component == "kubelet" {
        source["host"] = node::NAME.into();
    }
    json!({
        "metadata": {"name": key.name, "namespace": key.namespace,
                     "uid": Uuid::new_v4().to_string(), "creationTimestamp": now},
        "involvedObject": about, "reason": note.reason, "message": note.message,
        "source": source, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        "type": note.kind, "eventTime": null, "reportingComponent": note.component,
        "reportingInstance": if note.component == "kubelet" { node::NAME } else { "" },
    })
}
