//! Volumes: empty folders, images, and files out of secrets, config maps, fields and tokens.

use std::collections::BTreeMap;

use pod_runtime::spec::{FileContent, Volume};
use serde_json::Value;

use super::about::text;
use super::env::{Source, field};
use super::refused::Blocked;
use crate::pod::quantity;
use crate::store::Resource;

/// The files of a volume.
pub(crate) type Files = BTreeMap<String, FileContent>;

/// Where files come from, by the field that says so.
const OF_OBJECTS: [(Resource, &str); 2] =
    [(Resource::Secrets, "secret"), (Resource::ConfigMaps, "configMap")];

/// Resolves every volume of a pod.
pub(crate) fn volumes(source: &Source<'_>) -> Result<BTreeMap<String, Volume>, Blocked> {
    let volumes = source.pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.map(|given| Ok((text(&given["name"]).to_owned(), volume(source, given)?))).collect()
}

fn volume(source: &Source<'_>, given: &Value) -> Result<Volume, Blocked> {
    if let Some(image) = given.get("image") {
        let first = text(&source.pod["spec"]["containers"][0]["name"]);
        let found = source.image(text(&image["reference"]), first)?;
        return Ok(Volume::Image(found.image()));
    }
    if let Some(files) = files(source, given) {
        return files.map(Volume::Files).map_err(|why| failed(given, &why));
    }
    let empty = &given["emptyDir"];
    let size_limit = empty["sizeLimit"].as_str().and_then(quantity::units);
    Ok(Volume::EmptyDir { memory: empty["medium"] == "Memory", size_limit })
}

/// Whether what a volume holds may change while its pod runs.
pub(crate) fn is_live(given: &Value) -> bool {
    ["secret", "configMap", "downwardAPI", "projected"].iter().any(|kind| given.get(kind).is_some())
}

/// Returns the files that a volume should hold now; nothing if it is not made of files.
pub(crate) fn files(source: &Source<'_>, given: &Value) -> Option<Result<Files, String>> {
    if !is_live(given) {
        return None;
    }
    let volume = text(&given["name"]);
    let Some(projected) = given.get("projected") else {
        let own = ["secret", "configMap", "downwardAPI"].iter().find_map(|kind| given.get(*kind));
        let mode = mode(&own?["defaultMode"], 0o644);
        return Some(part(source, volume, given, mode));
    };
    let default = mode(&projected["defaultMode"], 0o644);
    let parts = projected["sources"].as_array().into_iter().flatten();
    let mut all = Files::new();
    for given in parts {
        match part(source, volume, given, default) {
            Ok(files) => all.extend(files),
            Err(why) => return Some(Err(why)),
        }
    }
    Some(Ok(all))
}

/// Returns the files of one source.
fn part(source: &Source<'_>, volume: &str, given: &Value, default: u32) -> Result<Files, String> {
    let mut files = Files::new();
    for (resource, name) in OF_OBJECTS {
        if let Some(from) = given.get(name) {
            let data = source.data(resource, from)?;
            files.extend(picked(resource, from, data, default)?);
        }
    }
    for item in given["downwardAPI"]["items"].as_array().into_iter().flatten() {
        let value = field(source.pod, text(&item["fieldRef"]["fieldPath"]), source.host);
        let mode = mode(&item["mode"], default);
        files.insert(path(item)?, FileContent { data: value.into_bytes(), mode });
    }
    if let Some(wanted) = given.get("serviceAccountToken") {
        let token = source.token(volume, wanted)?;
        // Whoever the containers run as can read it; where there is but one of them Kubernetes
        // makes it theirs alone.
        let mode = default;
        files.insert(path(wanted)?, FileContent { data: token.into_bytes(), mode });
    }
    Ok(files)
}

/// Picks the items that are asked for, or all.
fn picked(
    resource: Resource,
    from: &Value,
    mut data: BTreeMap<String, Vec<u8>>,
    default: u32,
) -> Result<Files, String> {
    let Some(items) = from["items"].as_array().filter(|items| !items.is_empty()) else {
        let whole = |(key, data)| (key, FileContent { data, mode: default });
        return Ok(data.into_iter().map(whole).collect());
    };
    let mut files = Files::new();
    for item in items {
        let key = text(&item["key"]);
        match data.remove(key) {
            Some(data) => {
                let mode = mode(&item["mode"], default);
                files.insert(path(item)?, FileContent { data, mode });
            }
            None if from["optional"] == true => {}
            None if resource == Resource::Secrets => {
                return Err(format!("references non-existent secret key: {key}"));
            }
            None => return Err(format!("configmap references non-existent config key: {key}")),
        }
    }
    Ok(files)
}

fn path(item: &Value) -> Result<String, String> {
    let path = text(&item["path"]);
    let outside = path.starts_with('/') || path.split('/').any(|part| part == "..");
    match outside || path.is_empty() {
        true => Err(format!("invalid path {path:?}")),
        false => Ok(path.to_owned()),
    }
}

fn mode(given: &Value, default: u32) -> u32 {
    given.as_u64().map_or(default, |mode| u32::try_from(mode & 0o777).unwrap_or(default))
}

fn failed(given: &Value, why: &str) -> Blocked {
    let name = text(&given["name"]);
    Blocked::Volume { message: format!("MountVolume.SetUp failed for volume {name:?} : {why}") }
}
