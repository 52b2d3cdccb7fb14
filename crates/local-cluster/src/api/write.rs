//! Create, update, patch.

use http::StatusCode;
use serde_json::Value;

use super::decode::{self, Decoded, Format, Validation};
use super::delete::may_vanish;
use super::kinds::{self, Kind};
use super::request::{Query, Target};
use super::respond::{self, Answer, tagged, untagged, warned};
use super::status::Refusal;
use super::{Api, apply as managed, patch, prepare};
use crate::clock;
use crate::store::{Decision, Key, Object, Resource, Updated, WriteError};

/// A refusal, or a failed write that has yet to be worded.
pub(super) enum Failure {
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
    pub(super) fn refusal(self, kind: &Kind, name: &str) -> Refusal {
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
            let mut object = only_status(old, &new);
            // Who applies has named the managers himself.
            if let (false, Some(managers)) = (track, new["metadata"].get("managedFields")) {
                object["metadata"]["managedFields"] = managers.clone();
            }
            new = object;
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
