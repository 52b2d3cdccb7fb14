//! Delete, delete a collection, let go.

use http::StatusCode;
use serde_json::{Value, json};

use super::decode::{self, Format};
use super::kinds::Kind;
use super::request::{Query, Target};
use super::respond::{self, Answer, tagged};
use super::status::{self, FieldError, Refusal};
use super::write::Failure;
use super::{Api, prepare};
use crate::store::{Decision, Key, Object, Resource, Store, Updated};
use crate::{clock, collect};

/// What a delete asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    grace: Option<u64>,
    /// Holds the object until its dependents are dealt with.
    finalizer: Option<&'static str>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

const DELETE_FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "dryRun",
    "gracePeriodSeconds",
    "orphanDependents",
    "preconditions",
    "propagationPolicy",
];

impl DeleteOptions {
    /// Reads the query and, before it, the body.
    pub(crate) fn parse(query: &Query, body: &[u8], format: Format) -> Result<Self, Refusal> {
        let body = if body.is_empty() { json!({}) } else { decode::parse(body, format)?.0 };
        Self::of(query, &body)
    }

    fn of(query: &Query, body: &Value) -> Result<Self, Refusal> {
        let unknown = |fields: &serde_json::Map<String, Value>| {
            fields.keys().find(|name| !DELETE_FIELDS.contains(&name.as_str())).cloned()
        };
        if let Some(unknown) = body.as_object().and_then(unknown) {
            let why = format!("strict decoding error: unknown field {unknown:?}");
            return Err(Refusal::bad_request(why));
        }
        let grace = match &body["gracePeriodSeconds"] {
            Value::Null => query.number("gracePeriodSeconds")?,
            number => Some(number.as_u64().ok_or_else(|| {
                Refusal::bad_request("gracePeriodSeconds must be a non-negative integer")
            })?),
        };
        let text = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
        let dry_run = query.dry_run()? || body["dryRun"].as_array().is_some_and(|d| !d.is_empty());
        let finalizer = propagation(query, body)?;
        Ok(Self { grace, finalizer, uid: text("uid"), version: text("resourceVersion"), dry_run })
    }

    fn check(&self, kind: &Kind, name: &str, object: &Value) -> Result<(), Refusal> {
        let meta = &object["metadata"];
        if let Some(uid) = self.uid.as_ref().filter(|uid| meta["uid"] != **uid) {
            return Err(Refusal::conflict(kind, name, &prepare::uid_differs(uid, &meta["uid"])));
        }
        let version = self.version.as_ref();
        if let Some(version) = version.filter(|version| meta["resourceVersion"] != **version) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion \
                 in object meta: {}",
                meta["resourceVersion"].as_str().unwrap_or_default()
            );
            return Err(Refusal::conflict(kind, name, &why));
        }
        Ok(())
    }
}

/// Reads what is to become of dependents.
fn propagation(query: &Query, body: &Value) -> Result<Option<&'static str>, Refusal> {
    let policy = body["propagationPolicy"].as_str().or(query.get("propagationPolicy"));
    let orphan = body["orphanDependents"]
        .as_bool()
        .or_else(|| query.get("orphanDependents").map(|_| query.flag("orphanDependents")));
    let invalid = |error| Refusal::invalid_of("DeleteOptions.meta.k8s.io", "", &[error]);
    if policy.is_some() && orphan.is_some() {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        return Err(invalid(FieldError::invalid("propagationPolicy", &json!(policy), why)));
    }
    match (policy, orphan) {
        (Some("Orphan"), _) | (None, Some(true)) => Ok(Some(collect::ORPHAN)),
        (Some("Foreground"), _) => Ok(Some(collect::FOREGROUND)),
        (Some("Background"), _) | (None, _) => Ok(None),
        (Some(other), _) => {
            let known = &["Foreground", "Background", "Orphan", "nil"];
            Err(invalid(FieldError::unsupported("propagationPolicy", other, known)))
        }
    }
}

/// Removes a finalizer, and the object if nothing else holds it.
pub(crate) fn release(
    store: &Store,
    kind: &Kind,
    key: &Key,
    finalizer: &str,
) -> Result<(), Refusal> {
    let updated = store.update(key, |old| -> Result<Decision, Failure> {
        let mut new = Value::clone(old);
        if let Some(held) = new["metadata"]["finalizers"].as_array_mut() {
            held.retain(|name| name != finalizer);
        }
        prepare::drop_empty(&mut new);
        Ok(if may_vanish(&new) { Decision::Delete } else { Decision::Put(new) })
    });
    updated.map(drop).map_err(|failure| failure.refusal(kind, &key.name))
}

/// Deletes one object.
pub(crate) fn delete(
    api: &Api,
    target: &Target,
    options: &DeleteOptions,
) -> Result<Answer, Refusal> {
    let key = Key::new(target.kind.resource, &target.namespace, &target.name);
    let updated = delete_key(&api.store, target.kind, &key, options)?;
    // Kubernetes returns the pods and namespaces themselves, of other kinds that they are gone.
    let whole = matches!(target.kind.resource, Resource::Pods | Resource::Namespaces);
    let answer = if whole || !updated.deleted && !options.dry_run {
        tagged(target.kind, &updated.object)
    } else {
        let uid = &updated.object["metadata"]["uid"];
        status::success(
            &json!({"name": key.name, "group": target.kind.group, "kind": target.kind.plural, "uid": uid}),
        )
    };
    Ok(respond::json(StatusCode::OK, &answer))
}

/// Deletes a pod, as who drains a node asks for it. Nothing here says how many must stay.
pub(crate) fn evict(
    api: &Api,
    target: &Target,
    query: &Query,
    body: &[u8],
    format: Format,
) -> Result<Answer, Refusal> {
    let (eviction, _) = decode::parse(body, format)?;
    let named = eviction["metadata"]["name"].as_str().unwrap_or_default();
    if !named.is_empty() && named != target.name {
        return Err(Refusal::bad_request("name in URL does not match name in Eviction object"));
    }
    let none = json!({});
    let options = eviction.get("deleteOptions").filter(|given| given.is_object());
    let options = DeleteOptions::of(query, options.unwrap_or(&none))?;
    let key = Key::new(target.kind.resource, &target.namespace, &target.name);
    delete_key(&api.store, target.kind, &key, &options)?;
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                      "code": 201});
    Ok(respond::json(StatusCode::CREATED, &done))
}

/// Deletes what a list would return.
pub(crate) fn delete_collection(
    api: &Api,
    target: &Target,
    query: &Query,
    options: &DeleteOptions,
) -> Result<Answer, Refusal> {
    let selector = query.selector(target)?;
    let (objects, version) = api.store.list(target.kind.resource, &target.namespace);
    let mut items = Vec::new();
    for object in objects.iter().filter(|object| selector.matches(object)) {
        let key = Key::of(target.kind.resource, object);
        match delete_key(&api.store, target.kind, &key, options) {
            Ok(updated) => items.push(Value::clone(&updated.object)),
            Err(refusal) if refusal.code == StatusCode::NOT_FOUND => {}
            Err(refusal) => return Err(refusal),
        }
    }
    let list = json!({
        "apiVersion": target.kind.group_version(), "kind": format!("{}List", target.kind.kind),
        "metadata": {"resourceVersion": version.to_string()}, "items": items,
    });
    Ok(respond::json(StatusCode::OK, &list))
}

/// Deletes one object, or marks it when something holds it.
pub(crate) fn delete_key(
    store: &Store,
    kind: &Kind,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Updated, Refusal> {
    let updated = store.update(key, |old| -> Result<Decision, Failure> {
        options.check(kind, &key.name, old)?;
        let protected = ["default", "kube-system"].contains(&key.name.as_str());
        if kind.resource == Resource::Nodes || kind.resource == Resource::Namespaces && protected {
            let why = "this object may not be deleted";
            return Err(Refusal::forbidden(kind, &key.name, why).into());
        }
        Ok(if options.dry_run { Decision::Keep } else { deletion(kind, old, options) })
    });
    updated.map_err(|failure| failure.refusal(kind, &key.name))
}

fn deletion(kind: &Kind, old: &Object, options: &DeleteOptions) -> Decision {
    let grace = if kind.resource == Resource::Pods { pod_grace(old, options.grace) } else { 0 };
    let held = old["spec"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    let first = old["metadata"].get("deletionTimestamp").is_none();
    let finalizer = options.finalizer.filter(|_| first);
    if grace == 0 && finalizers(old) == 0 && !held && finalizer.is_none() {
        return Decision::Delete;
    }
    let meta = &old["metadata"];
    let shorter = meta["deletionGracePeriodSeconds"].as_u64().is_none_or(|before| grace < before);
    if !first && !shorter {
        return Decision::Keep;
    }
    let mut new = Value::clone(old);
    let at = clock::now() + jiff::SignedDuration::from_secs(grace.try_into().unwrap_or(i64::MAX));
    if kind.resource == Resource::Pods || first {
        new["metadata"]["deletionTimestamp"] = clock::text(at).into();
    }
    new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    if let Some(generation) = meta["generation"].as_i64() {
        new["metadata"]["generation"] = (generation + 1).into();
    }
    if let Some(finalizer) = finalizer {
        let mut all = meta["finalizers"].as_array().cloned().unwrap_or_default();
        all.push(finalizer.into());
        new["metadata"]["finalizers"] = all.into();
    }
    if kind.resource == Resource::Namespaces {
        new["status"]["phase"] = "Terminating".into();
    }
    Decision::Put(new)
}

/// A pod that runs nowhere, or no longer, needs no grace.
fn pod_grace(pod: &Value, asked: Option<u64>) -> u64 {
    let nowhere = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if nowhere || ended {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    // A year is forever, and keeps the arithmetic in range.
    asked.unwrap_or(own).min(31_536_000)
}

/// Whether nothing holds a deleted object any longer: no finalizer, no grace, no content.
pub(super) fn may_vanish(object: &Value) -> bool {
    let meta = &object["metadata"];
    meta.get("deletionTimestamp").is_some()
        && finalizers(object) == 0
        && meta["deletionGracePeriodSeconds"].as_u64().unwrap_or(0) == 0
        && object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
}
