//! What happens to pods, told as events.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
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
}

/// Records an event, or counts it again. An event that cannot be written is not worth a failure.
pub(crate) fn record(store: &Arc<Store>, pod: &Object, note: &Note) {
    let now = clock::now_text();
    let meta = &pod["metadata"];
    let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
    let identity = json!([meta["uid"], note.reason, note.message, note.field]).to_string();
    let hash: String =
        Sha256::digest(identity).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let key = Key::new(Resource::Events, namespace, &format!("{name}.{hash}"));
    let counted = store.update(&key, |old| -> Result<Decision, WriteError> {
        let mut event = Value::clone(old);
        event["count"] = (old["count"].as_u64().unwrap_or(1) + 1).into();
        event["lastTimestamp"] = now.clone().into();
        Ok(Decision::Put(event))
    });
    let written = match counted {
        Err(WriteError::Missing) => {
            let event = event(pod, note, &key, &now);
            store.create(key, event).map(drop)
        }
        other => other.map(drop),
    };
    if let Err(error) = written {
        tracing::debug!(%error, reason = note.reason, "an event was not recorded");
    }
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
