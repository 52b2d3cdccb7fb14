//! Create, update, patch, delete, delete a collection.

use http::StatusCode;
use serde_json::{Value, json};

use super::decode::{self, Decoded, Format, Validation};
use super::kinds::{self, Kind};
use super::request::{Query, Target};
use super::respond::{self, Answer, tagged, untagged, warned};
use super::status::{self, Refusal};
use super::{Api, apply as managed, patch, prepare};
use crate::clock;
use crate::store::{Decision, Key, Object, Resource, Store, Updated, WriteError};

/// A refusal, or a failed write that has yet to be worded.
enum Failure {
    Refused(Box<Refusal>),
    Write(WriteError),
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl Failure {
    fn refusal(self, kind: &Kind, name: &str) -> Refusal {
        match self {
            Self::Refused(refusal) => *refusal,
            Self::Write(error) => Refusal::of_write(error, kind, name),
        }
    }
}

/// Creates an object.
pub(crate) fn create(
    api: &Api,
    target: &Target,
    query: &Query,
    body: &[u8],
    format: Format,
) -> Result<Answer, Refusal> {
    let validation = Validation::parse(query.get("fieldValidation"))?;
    let Decoded { object, warnings } = decode::object(target.kind, body, format, validation)?;
    let mut object = untagged(object);
    if target.kind.namespaced && target.namespace.is_empty() {
        return Err(Refusal::bad_request("an empty namespace may not be set during creation"));
    }
    if target.kind.resource == Resource::Nodes {
        let why = "the local cluster has the one node it makes itself";
        return Err(Refusal::forbidden(target.kind, &target.name, why));
    }
    prepare::create(target, &mut object)?;
    let answer = store_new(api, target, query, object)?;
    Ok(warned(answer, &warnings))
}

/// Stores an object that is ready.
pub(super) fn store_new(
    api: &Api,
    target: &Target,
    query: &Query,
    object: Value,
) -> Result<Answer, Refusal> {
    let key = Key::of(target.kind.resource, &object);
    check_namespace(api, target, &key)?;
    let stored = if query.dry_run()? {
        if api.store.get(&key).is_some() {
            return Err(Refusal::exists(target.kind, &key.name));
        }
        Object::new(object)
    } else {
        let name = key.name.clone();
        let created = api.store.create(key, object);
        created.map_err(|error| Refusal::of_write(error, target.kind, &name))?
    };
    if target.kind.resource == Resource::Namespaces && !query.dry_run()? {
        crate::controllers::default_service_account(&api.store, &stored);
    }
    Ok(respond::json(StatusCode::CREATED, &tagged(target.kind, &stored)))
}

fn check_namespace(api: &Api, target: &Target, key: &Key) -> Result<(), Refusal> {
    if !target.kind.namespaced {
        return Ok(());
    }
    let namespace = api.store.get(&Key::new(Resource::Namespaces, "", &key.namespace));
    let namespaces = kinds::of(Resource::Namespaces);
    let namespace = namespace.ok_or_else(|| Refusal::not_found(namespaces, &key.namespace))?;
    if namespace["metadata"].get("deletionTimestamp").is_some() {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            key.namespace
        );
        return Err(Refusal::forbidden(target.kind, &key.name, &why));
    }
    Ok(())
}

/// Replaces an object.
pub(crate) fn update(
    api: &Api,
    target: &Target,
    query: &Query,
    body: &[u8],
    format: Format,
) -> Result<Answer, Refusal> {
    let validation = Validation::parse(query.get("fieldValidation"))?;
    let Decoded { object, warnings } = decode::object(target.kind, body, format, validation)?;
    let updated = replace(api, target, query, true, |_| Ok(untagged(object.clone())))?;
    let answer = respond::json(StatusCode::OK, &tagged(target.kind, &updated.object));
    Ok(warned(answer, &warnings))
}

/// Changes an object by a patch.
pub(crate) fn patch(
    api: &Api,
    target: &Target,
    query: &Query,
    body: &[u8],
    media_type: &str,
) -> Result<Answer, Refusal> {
    let style = patch::Style::of_media_type(media_type)?;
    let validation = Validation::parse(query.get("fieldValidation"))?;
    let (change, duplicates) = decode::parse(body, Format::Json)?;
    let mut warnings = Vec::new();
    let updated = replace(api, target, query, true, |old| {
        let patched = style.apply(&tagged(target.kind, old), &change)?;
        let decoded = decode::checked(target.kind, patched, duplicates.clone(), validation)?;
        warnings = decoded.warnings;
        Ok(untagged(decoded.object))
    })?;
    let answer = respond::json(StatusCode::OK, &tagged(target.kind, &updated.object));
    Ok(warned(answer, &warnings))
}

/// Keeps everything but the status as it is.
fn only_status(old: &Value, new: &Value) -> Value {
    let mut object = old.clone();
    object["status"] = new["status"].clone();
    object
}

/// Writes what `change` makes of an object; with `track` its managers follow.
pub(super) fn replace(
    api: &Api,
    target: &Target,
    query: &Query,
    track: bool,
    change: impl FnOnce(&Value) -> Result<Value, Refusal>,
) -> Result<Updated, Refusal> {
    let key = Key::new(target.kind.resource, &target.namespace, &target.name);
    let dry_run = query.dry_run()?;
    let mut preview = None;
    let updated = api.store.update(&key, |old| -> Result<Decision, Failure> {
        let mut new = change(old)?;
        if target.subresource == "status" {
            new = only_status(old, &new);
        } else {
            prepare::update(target.kind, old, &mut new)?;
        }
        if track {
            managed::track(target.kind, old, &mut new, query.manager(), &clock::now_text());
        }
        if dry_run {
            preview = Some(Object::new(new));
            return Ok(Decision::Keep);
        }
        Ok(if may_vanish(&new) { Decision::Delete } else { Decision::Put(new) })
    });
    let updated = updated.map_err(|failure| failure.refusal(target.kind, &target.name))?;
    Ok(match preview {
        Some(object) => Updated { object, deleted: false },
        None => updated,
    })
}

/// Whether nothing holds a deleted object any longer: no finalizer, no grace, no content.
fn may_vanish(object: &Value) -> bool {
    let meta = &object["metadata"];
    meta.get("deletionTimestamp").is_some()
        && finalizers(object) == 0
        && meta["deletionGracePeriodSeconds"].as_u64().unwrap_or(0) == 0
        && object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
}

/// What a delete asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    grace: Option<u64>,
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
        Ok(Self { grace, uid: text("uid"), version: text("resourceVersion"), dry_run })
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
        Ok(if options.dry_run { Decision::Keep } else { deletion(kind, old, options.grace) })
    });
    updated.map_err(|failure| failure.refusal(kind, &key.name))
}

fn deletion(kind: &Kind, old: &Object, grace: Option<u64>) -> Decision {
    let grace = if kind.resource == Resource::Pods { pod_grace(old, grace) } else { 0 };
    let held = old["spec"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    if grace == 0 && finalizers(old) == 0 && !held {
        return Decision::Delete;
    }
    let meta = &old["metadata"];
    let shorter = meta["deletionGracePeriodSeconds"].as_u64().is_none_or(|before| grace < before);
    if meta.get("deletionTimestamp").is_some() && !shorter {
        return Decision::Keep;
    }
    let mut new = Value::clone(old);
    let at = clock::now() + jiff::SignedDuration::from_secs(grace.try_into().unwrap_or(i64::MAX));
    if kind.resource == Resource::Pods || meta.get("deletionTimestamp").is_none() {
        new["metadata"]["deletionTimestamp"] = clock::text(at).into();
    }
    new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
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
