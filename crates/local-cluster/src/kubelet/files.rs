//! Volumes: empty folders, images, and files out of secrets, config maps and fields.

use std::collections::BTreeMap;

use pod_runtime::spec::{FileContent, Volume};
use serde_json::Value;

use super::env::{Source, field};
use super::refused::Blocked;
use crate::pod::quantity;
use crate::store::Resource;

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
    for (resource, name) in [(Resource::Secrets, "secret"), (Resource::ConfigMaps, "configMap")] {
        if let Some(from) = given.get(name) {
            let data = source.data(resource, from);
            let data = data.map_err(|why| failed(given, &why))?;
            return projected(from, data).map_err(|why| failed(given, &why)).map(Volume::Files);
        }
    }
    if let Some(from) = given.get("downwardAPI") {
        let items = from["items"].as_array().into_iter().flatten();
        let files = items.map(|item| {
            let value = field(source.pod, text(&item["fieldRef"]["fieldPath"]), source.host);
            (text(&item["path"]).to_owned(), file(value.into_bytes(), item, from))
        });
        return Ok(Volume::Files(files.collect()));
    }
    let empty = &given["emptyDir"];
    let size_limit = empty["sizeLimit"].as_str().and_then(quantity::units);
    Ok(Volume::EmptyDir { memory: empty["medium"] == "Memory", size_limit })
}

/// Picks the items that are asked for, or all.
fn projected(
    from: &Value,
    mut data: BTreeMap<String, Vec<u8>>,
) -> Result<BTreeMap<String, FileContent>, String> {
    let Some(items) = from["items"].as_array() else {
        let whole = data.into_iter().map(|(key, bytes)| (key, file(bytes, &Value::Null, from)));
        return Ok(whole.collect());
    };
    let mut files = BTreeMap::new();
    for item in items {
        let (key, path) = (text(&item["key"]), text(&item["path"]));
        let outside = path.starts_with('/') || path.split('/').any(|part| part == "..");
        if outside || path.is_empty() {
            return Err(format!("invalid path {path:?}"));
        }
        match data.remove(key) {
            Some(bytes) => {
                files.insert(path.to_owned(), file(bytes, item, from));
            }
            None if from["optional"] == true => {}
            None => return Err(format!("references non-existent secret key: {key}")),
        }
    }
    Ok(files)
}

fn file(data: Vec<u8>, item: &Value, from: &Value) -> FileContent {
    let mode = item["mode"].as_u64().or(from["defaultMode"].as_u64()).unwrap_or(0o644);
    FileContent { data, mode: u32::try_from(mode & 0o777).unwrap_or(0o644) }
}

fn failed(given: &Value, why: &str) -> Blocked {
    let name = text(&given["name"]);
    Blocked::Volume { message: format!("MountVolume.SetUp failed for volume {name:?} : {why}") }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
