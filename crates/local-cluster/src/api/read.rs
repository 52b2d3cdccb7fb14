//! Get and list: selectors, pages of one moment, tables.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::request::{Query, Shape, Target};
use super::respond::{self, Answer, tagged};
use super::status::Refusal;
use super::{Api, table};
use crate::store::{Key, Object};

/// Answers with one object.
pub(crate) fn get(
    api: &Api,
    target: &Target,
    query: &Query,
    shape: Shape,
) -> Result<Answer, Refusal> {
    let key = Key::new(target.kind.resource, &target.namespace, &target.name);
    let object = api.store.get(&key);
    let object = object.ok_or_else(|| Refusal::not_found(target.kind, &target.name))?;
    let body = match shape {
        Shape::Object => tagged(target.kind, &object),
        Shape::Metadata => respond::metadata_only(&object),
        Shape::Table => {
            let meta = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            table::table(target.kind.resource, &[object], &meta, table::Include::of(query)?, true)
        }
    };
    Ok(respond::json(StatusCode::OK, &body))
}

/// Where the next page begins.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Continue {
    version: u64,
    after: Key,
}

/// Objects of one moment.
struct Moment {
    objects: Vec<Object>,
    version: u64,
}

/// Answers with a page of objects.
pub(crate) fn list(
    api: &Api,
    target: &Target,
    query: &Query,
    shape: Shape,
) -> Result<Answer, Refusal> {
    let selector = query.selector(target)?;
    let limit = query.number::<usize>("limit")?.filter(|limit| *limit > 0);
    let next = query.get("continue").filter(|text| !text.is_empty()).map(parse_continue);
    let next = next.transpose()?;
    let Moment { mut objects, version } = moment(api, target, query, next.as_ref())?;
    let resource = target.kind.resource;
    if let Some(next) = &next {
        objects.retain(|object| Key::of(resource, object) > next.after);
    }
    objects.retain(|object| selector.matches(object));
    let mut meta = json!({"resourceVersion": version.to_string()});
    if let Some(limit) = limit.filter(|limit| objects.len() > *limit) {
        if selector.is_empty() {
            meta["remainingItemCount"] = (objects.len() - limit).into();
        }
        objects.truncate(limit);
        let after = objects.last().map(|last| Key::of(resource, last));
        meta["continue"] = after.map(|after| continue_text(&Continue { version, after })).into();
    }
    let body = match shape {
        Shape::Object => json!({
            "apiVersion": target.kind.group_version(), "kind": format!("{}List", target.kind.kind), "metadata": meta,
            "items": objects.iter().map(|object| Value::clone(object)).collect::<Vec<_>>(),
        }),
        Shape::Metadata => json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": meta,
            "items": objects.iter().map(|o| respond::metadata_only(o)).collect::<Vec<_>>(),
        }),
        Shape::Table => table::table(resource, &objects, &meta, table::Include::of(query)?, true),
    };
    Ok(respond::json(StatusCode::OK, &body))
}

/// Finds the moment that is asked for: the present one, or a page's.
fn moment(
    api: &Api,
    target: &Target,
    query: &Query,
    next: Option<&Continue>,
) -> Result<Moment, Refusal> {
    let resource = target.kind.resource;
    let asked = query.version()?;
    let exact = query.get("resourceVersionMatch") == Some("Exact");
    let matched = query.get("resourceVersionMatch").is_some_and(|word| !word.is_empty());
    if matched && query.get("resourceVersion").is_none_or(str::is_empty) {
        let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        return Err(Refusal::list_options("resourceVersionMatch", why));
    }
    if let Some(next) = next {
        if asked.is_some() {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Refusal::bad_request(message));
        }
        return past(api, target, next.version);
    }
    match asked {
        Some(version) if version > api.store.version() => {
            Err(Refusal::too_new(version, api.store.version()))
        }
        Some(version) if exact => past(api, target, version),
        _ => {
            let (objects, version) = api.store.list(resource, &target.namespace);
            Ok(Moment { objects, version })
        }
    }
}

fn past(api: &Api, target: &Target, version: u64) -> Result<Moment, Refusal> {
    let objects = api.store.list_at(target.kind.resource, &target.namespace, version);
    let objects = objects.map_err(|_| {
        Refusal::expired(
            "The provided continue parameter is too old to display a consistent list result. You \
             must start a new list without the continue parameter.",
        )
    })?;
    Ok(Moment { objects, version })
}

fn continue_text(next: &Continue) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(next).unwrap_or_default())
}

pub(super) fn parse_continue(text: &str) -> Result<Continue, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| Refusal::bad_request("continue key is not valid"))
}
