//! A request to apply: read, checked, merged, written.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::decode::{self, Format, Validation};
use super::super::request::{Query, Target};
use super::super::respond::{self, Answer, tagged, untagged, warned};
use super::super::status::{FieldError, Refusal};
use super::super::write::{replace, store_new};
use super::super::{Api, prepare};
use super::Applier;
use crate::clock;

/// The media type of what is applied.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// Applies an object: what it sets is its manager's from now on.
pub(crate) fn answer(
    api: &Api,
    target: &Target,
    query: &Query,
    body: &[u8],
) -> Result<Answer, Refusal> {
    let validation = Validation::parse(query.get("fieldValidation"))?;
    let (mut config, duplicates) = decode::parse(body, Format::Yaml)?;
    let warnings = decode::checked(target.kind, config.clone(), duplicates, validation)?.warnings;
    decode::drop_nulls(&mut config);
    let mut config = named(target, untagged(config))?;
    let by = Applier { subresource: target.subresource.clone(), ..applier(query)? };
    if by.subresource == "status" {
        config = json!({"metadata": {"name": target.name}, "status": config["status"]});
        decode::drop_nulls(&mut config);
    }
    let applied = replace(api, target, query, false, |old| {
        let merged = super::apply(target.kind, Some(old), &config, &by)?;
        let decoded = decode::checked(target.kind, merged, Vec::new(), Validation::Ignore)?;
        Ok(untagged(decoded.object))
    });
    let answer = match applied {
        Ok(updated) => respond::json(StatusCode::OK, &tagged(target.kind, &updated.object)),
        Err(refusal) if refusal.code == StatusCode::NOT_FOUND && by.subresource.is_empty() => {
            apply_new(api, target, query, &config, &by)?
        }
        Err(refusal) => return Err(refusal),
    };
    Ok(warned(answer, &warnings))
}

fn apply_new(
    api: &Api,
    target: &Target,
    query: &Query,
    config: &Value,
    by: &Applier,
) -> Result<Answer, Refusal> {
    let applied = super::apply(target.kind, None, config, by)?;
    let managers = applied["metadata"]["managedFields"].clone();
    let decoded = decode::checked(target.kind, applied, Vec::new(), Validation::Ignore)?;
    let mut object = untagged(decoded.object);
    prepare::create(target, &mut object)?;
    object["metadata"]["managedFields"] = managers;
    store_new(api, target, query, object)
}

/// Checks what an applied object says about itself, and names it.
fn named(target: &Target, mut config: Value) -> Result<Value, Refusal> {
    let meta = &mut config["metadata"];
    let given = meta["name"].as_str().unwrap_or_default();
    if !given.is_empty() && given != target.name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            target.name
        )));
    }
    if meta.get("managedFields").is_some() {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    meta["name"] = target.name.clone().into();
    Ok(config)
}

fn applier(query: &Query) -> Result<Applier, Refusal> {
    let Some(manager) = query.get("fieldManager").filter(|name| !name.is_empty()) else {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Refusal::invalid_of("PatchOptions.meta.k8s.io", "", &[error]));
    };
    let (manager, force) = (manager.to_owned(), query.flag("force"));
    let subresource = String::new();
    Ok(Applier { manager, force, subresource, now: clock::now_text() })
}
