//! What the fake holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::select::matches;

/// Pods, events and their history.
pub(crate) struct Store {
    inner: Mutex<Inner>,
    /// How long the history is.
    grown: watch::Sender<usize>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    objects: BTreeMap<(String, String), Value>,
    history: Vec<(u64, String, Value)>,
    logs: HashMap<String, String>,
    namespace_phase: Option<&'static str>,
}

type Answer = Result<Value, (u16, &'static str)>;

impl Default for Store {
    fn default() -> Self {
        Self { inner: Mutex::default(), grown: watch::channel(0).0 }
    }
}

impl Store {
    /// Returns all pods.
    pub(crate) fn pods(&self) -> Vec<Value> {
        let inner = self.lock();
        let pods = inner.objects.iter().filter(|((kind, _), _)| kind == "pods");
        pods.map(|(_, pod)| pod.clone()).collect()
    }

    /// Changes a pod as the kubelet would.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut inner = self.lock();
        let key = ("pods".to_owned(), name.to_owned());
        let mut pod = inner.objects[&key].clone();
        edit(&mut pod);
        inner.put("MODIFIED", key, pod);
        self.tell(inner);
    }

    /// Lets a pod run, and its host answer.
    pub(crate) fn run(&self, name: &str) {
        self.edit(name, |pod| {
            pod["spec"]["nodeName"] = json!("node");
            let started = &pod["metadata"]["creationTimestamp"];
            pod["status"] = json!({"phase": "Running", "podIP": "10.244.1.5",
                "containerStatuses": [{"name": "weaver", "ready": true, "started": true,
                    "restartCount": 0, "image": "", "imageID": "",
                    "state": {"running": {"startedAt": started}}}]});
        });
    }

    /// Reports an event about a pod's main container.
    pub(crate) fn event(&self, pod: &str, reason: &str) {
        let object = self.get("pods", pod).unwrap();
        let event = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("{pod}.{reason}"), "namespace": "loom-weavers"},
            "involvedObject": {"kind": "Pod", "name": pod, "uid": object["metadata"]["uid"],
                "fieldPath": "spec.containers{weaver}"},
            "reason": reason});
        let mut inner = self.lock();
        inner.put("ADDED", ("events".to_owned(), format!("{pod}.{reason}")), event);
        self.tell(inner);
    }

    /// Writes what a pod's program has written.
    pub(crate) fn write_log(&self, pod: &str, text: &str) {
        self.lock().logs.insert(pod.to_owned(), text.to_owned());
    }

    /// Puts a pod there that loom did not make.
    pub(crate) fn plant(&self, pod: Value) {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let mut inner = self.lock();
        inner.put("ADDED", ("pods".to_owned(), name), pod);
        self.tell(inner);
    }

    pub(super) fn namespace(&self, name: &str) -> Value {
        let phase = self.lock().namespace_phase.unwrap_or("Active");
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            "status": {"phase": phase}})
    }

    pub(super) fn log(&self, name: &str) -> Response {
        match self.lock().logs.get(name) {
            Some(text) => text.clone().into_response(),
            None => super::status(400, "BadRequest", "container \"weaver\" is waiting to start"),
        }
    }

    pub(super) fn get(&self, kind: &str, name: &str) -> Answer {
        let key = (kind.to_owned(), name.to_owned());
        self.lock().objects.get(&key).cloned().ok_or((404, "NotFound"))
    }

    pub(super) fn list(&self, kind: &str, query: &HashMap<String, String>) -> Value {
        let inner = self.lock();
        let after = query.get("continue").map_or("", String::as_str);
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let all = inner.objects.iter().filter(|((of, name), _)| of == kind && &**name > after);
        let all: Vec<_> = all.filter(|(_, object)| matches(object, query)).collect();
        let items: Vec<_> = all.iter().take(limit).map(|(_, object)| object).collect();
        let last = all.get(..limit).and_then(|page| page.last()).filter(|_| all.len() > limit);
        let next = last.map_or("", |((_, name), _)| name.as_str());
        json!({"apiVersion": "v1", "kind": "List", "items": items,
            "metadata": {"resourceVersion": inner.version.to_string(), "continue": next}})
    }

    pub(super) fn create(&self, kind: &str, mut object: Value, now: Timestamp) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (kind.to_owned(), name);
        let mut inner = self.lock();
        if inner.objects.contains_key(&key) {
            return Err((409, "AlreadyExists"));
        }
        object["metadata"]["uid"] = json!(format!("uid-{}", inner.version));
        let second = Timestamp::from_second(now.as_second()).unwrap();
        object["metadata"]["creationTimestamp"] = json!(second.to_string());
        object["status"] = json!({"phase": "Pending"});
        let made = inner.put("ADDED", key, object);
        self.tell(inner);
        Ok(made)
    }

    pub(super) fn patch(&self, name: &str, patch: &Value) -> Answer {
        let key = ("pods".to_owned(), name.to_owned());
        let mut inner = self.lock();
        let mut pod = inner.objects.get(&key).cloned().ok_or((404, "NotFound"))?;
        holds(&pod, &patch["metadata"])?;
        merge(&mut pod, patch);
        let changed = inner.put("MODIFIED", key, pod);
        self.tell(inner);
        Ok(changed)
    }

    pub(super) fn delete(&self, name: &str, options: &Value) -> Answer {
        let key = ("pods".to_owned(), name.to_owned());
        let mut inner = self.lock();
        let pod = inner.objects.get(&key).cloned().ok_or((404, "NotFound"))?;
        holds(&pod, &options["preconditions"])?;
        let gone = inner.put("DELETED", key.clone(), pod);
        inner.objects.remove(&key);
        self.tell(inner);
        Ok(gone)
    }

    pub(super) fn watch(
        self: &Arc<Self>,
        kind: &str,
        query: &HashMap<String, String>,
    ) -> impl Stream<Item = Value> + Send + use<> {
        let since = query.get("resourceVersion").and_then(|version| version.parse().ok());
        let (kind, query, since) = (kind.to_owned(), query.clone(), since.unwrap_or(0));
        let state = (Arc::clone(self), self.grown.subscribe(), 0);
        stream::unfold(state, move |(store, mut grown, mut at)| {
            let (kind, query) = (kind.clone(), query.clone());
            async move {
                loop {
                    grown.wait_for(|length| *length > at).await.ok()?;
                    let (version, event, object) = store.lock().history[at].clone();
                    at += 1;
                    let ours = object["fakeKind"] == kind.as_str() && version > since;
                    if ours && matches(&object, &query) {
                        let event = json!({"type": event, "object": object});
                        return Some((event, (store, grown, at)));
                    }
                }
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn tell(&self, inner: MutexGuard<'_, Inner>) {
        let length = inner.history.len();
        drop(inner);
        self.grown.send_modify(|grown| *grown = length.max(*grown));
    }
}

impl Inner {
    fn put(&mut self, event: &str, key: (String, String), mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let mut told = object.clone();
        told["fakeKind"] = json!(key.0);
        self.history.push((self.version, event.to_owned(), told));
        self.objects.insert(key, object.clone());
        object
    }
}

/// Compares uid and resourceVersion where they are given.
fn holds(pod: &Value, wanted: &Value) -> Result<(), (u16, &'static str)> {
    let right = ["uid", "resourceVersion"]
        .iter()
        .all(|field| wanted[*field].is_null() || wanted[*field] == pod["metadata"][*field]);
    if right { Ok(()) } else { Err((409, "Conflict")) }
}

/// JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        match change {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            change => merge(&mut target[key], change),
        }
    }
}
