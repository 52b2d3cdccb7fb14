//! A container's environment: literal values, fields, secrets, config maps, `$(NAME)`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::image::{Found, Images};
use super::node;
use super::purse::Purse;
use super::refused::Blocked;
use crate::api::base64_bytes;
use crate::store::{Key, Resource, Store};

/// The fields of a pod that a container may ask for by name.
pub(crate) const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
];
const MAPS: &[&str] = &["metadata.labels['", "metadata.annotations['"];

/// Linux gives no program a longer string (execve(2), MAX_ARG_STRLEN).
const LARGEST: usize = 128 << 10;
/// The most that all variables of a container may have, far above what Linux takes by default.
const MOST: usize = 8 << 20;

const WHOLE_MAPS: &[&str] = &["metadata.labels", "metadata.annotations"];

/// Whether a field can be asked for.
pub(crate) fn knows_field(path: &str) -> bool {
    FIELDS.contains(&path) || MAPS.iter().any(|map| path.starts_with(map) && path.ends_with("']"))
}

/// Whether a volume can show a field.
pub(crate) fn shows_field(path: &str) -> bool {
    let own = ["metadata.name", "metadata.namespace", "metadata.uid"];
    WHOLE_MAPS.contains(&path)
        || own.contains(&path)
        || path.starts_with("metadata.") && knows_field(path)
}

/// Returns a field's value.
pub(crate) fn field(pod: &Value, path: &str, host: &str) -> String {
    if WHOLE_MAPS.contains(&path) {
        return whole_map(&pod["metadata"][path.trim_start_matches("metadata.")]);
    }
    if path == "status.hostIP" {
        return host.into();
    }
    if path == "spec.nodeName" {
        return node::NAME.into();
    }
    if let Some((map, rest)) = path.split_once("['") {
        let key = rest.trim_end_matches("']");
        let map = map.trim_start_matches("metadata.");
        return pod["metadata"][map][key].as_str().unwrap_or_default().into();
    }
    let (section, name) = path.split_once('.').unwrap_or((path, ""));
    pod[section][name].as_str().unwrap_or_default().into()
}

/// A line for each entry, in order, its value quoted.
fn whole_map(map: &Value) -> String {
    let mut lines: Vec<String> = map.as_object().map_or_else(Vec::new, |map| {
        map.iter().map(|(key, value)| format!("{key}={:?}", text(value))).collect()
    });
    lines.sort();
    lines.join("\n")
}

/// What a pod's containers are resolved against.
pub(crate) struct Source<'a> {
    pub(crate) store: &'a Store,
    pub(crate) pod: &'a Value,
    pub(crate) host: &'a str,
    /// Those that the pod uses, all here.
    pub(crate) images: &'a Images,
    pub(crate) purse: &'a Purse,
    pub(crate) now: Timestamp,
}

impl Source<'_> {
    /// Returns an image that was brought here before.
    pub(crate) fn image(&self, reference: &str, container: &str) -> Result<&Found, Blocked> {
        self.images
            .get(reference)
            .ok_or_else(|| config(container, format!("image {reference:?} was not asked for")))
    }

    /// Returns the environment that a container's spec asks for, in order.
    pub(crate) fn env(&self, container: &Value) -> Result<Vec<(String, String)>, Blocked> {
        let name = text(&container["name"]);
        let (mut env, mut left) = (Vec::new(), MOST);
        for from in container["envFrom"].as_array().into_iter().flatten() {
            let prefix = text(&from["prefix"]);
            for (kind, field) in SOURCES {
                let Some(reference) = from.get(*field) else { continue };
                let data = self.data(*kind, reference).map_err(|message| config(name, message))?;
                env.extend(
                    data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), lossy(&value))),
                );
            }
        }
        for entry in container["env"].as_array().into_iter().flatten() {
            let value = match entry.get("valueFrom") {
                None => expand(text(&entry["value"]), &env).map(Some),
                Some(from) => self.value_from(from),
            };
            if let Some(value) = value.map_err(|message| config(name, message))? {
                left = left.checked_sub(value.len()).ok_or_else(|| {
                    config(name, format!("its variables have more than {MOST} bytes"))
                })?;
                env.push((text(&entry["name"]).into(), value));
            }
        }
        Ok(env)
    }

    fn value_from(&self, from: &Value) -> Result<Option<String>, String> {
        if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
            return Ok(Some(field(self.pod, path, self.host)));
        }
        for (kind, reference) in
            [(Resource::Secrets, "secretKeyRef"), (Resource::ConfigMaps, "configMapKeyRef")]
        {
            let Some(reference) = from.get(reference) else { continue };
            let key = text(&reference["key"]);
            let found = self.data(kind, reference)?.remove(key);
            return match found {
                Some(value) => Ok(Some(lossy(&value))),
                None if reference["optional"] == true => Ok(None),
                None => Err(format!(
                    "couldn't find key {key} in {} {}/{}",
                    kind_word(kind),
                    text(&self.pod["metadata"]["namespace"]),
                    text(&reference["name"])
                )),
            };
        }
        Ok(None)
    }

    /// Returns the content of a secret or config map; empty when it may be missing and is.
    pub(crate) fn data(
        &self,
        resource: Resource,
        reference: &Value,
    ) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let name = reference["name"].as_str().or(reference["secretName"].as_str());
        let name = name.unwrap_or_default();
        let key = Key::new(resource, text(&self.pod["metadata"]["namespace"]), name);
        let Some(object) = self.store.get(&key) else {
            if reference["optional"] == true {
                return Ok(BTreeMap::new());
            }
            return Err(format!("{} {name:?} not found", kind_word(resource)));
        };
        let section = |field: &str| object[field].as_object().cloned().unwrap_or_default();
        let plain = |value: &Value| text(value).as_bytes().to_vec();
        let decoded = |value: &Value| base64_bytes(text(value));
        let mut data = BTreeMap::new();
        if resource == Resource::Secrets {
            data.extend(section("data").into_iter().map(|(key, value)| (key, decoded(&value))));
        } else {
            data.extend(section("data").into_iter().map(|(key, value)| (key, plain(&value))));
            data.extend(
                section("binaryData").into_iter().map(|(key, value)| (key, decoded(&value))),
            );
        }
        Ok(data)
    }
}

const SOURCES: &[(Resource, &str)] =
    &[(Resource::Secrets, "secretRef"), (Resource::ConfigMaps, "configMapRef")];

fn kind_word(resource: Resource) -> &'static str {
    if resource == Resource::Secrets { "secret" } else { "configmap" }
}

fn config(container: &str, message: String) -> Blocked {
    Blocked::Config { container: container.into(), message }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Replaces `$(NAME)` by what `env` has; `$$` is a dollar, unknown names stay as they are.
///
/// # Errors
/// When it gets longer than a program could be given: names that stand for names double it often.
pub(crate) fn expand(text: &str, env: &[(String, String)]) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let known = name.and_then(|(name, after)| {
            let value = env.iter().rev().find(|(key, _)| key == name)?;
            Some((&value.1, after))
        });
        match known {
            Some((value, _)) if expanded.len() + value.len() > LARGEST => return Err(too_long()),
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => expanded.push('$'),
        }
    }
    expanded.push_str(rest);
    match expanded.len() {
        0..=LARGEST => Ok(expanded),
        _ => Err(too_long()),
    }
}

fn too_long() -> String {
    format!("a value has more than {LARGEST} bytes, which no program can be given")
}

/// Text as a fuzzer writes it; its lines are variables, each of which sees those before it.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut env = Vec::new();
    for line in text.lines() {
        let (name, value) = line.split_once('=').unwrap_or(("A", line));
        let Ok(value) = expand(value, &env) else { return };
        assert!(value.len() <= LARGEST);
        env.push((name.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_in_kubernetes() {
        let env = [("A".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned())];
        for (text, expected) in
            [("x$(A)y", "x2y"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("$(A", "$(A"), ("a$", "a$")]
        {
            assert_eq!(expand(text, &env).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn abuse_references_do_not_double_without_end() {
        let mut env = vec![("V0".to_owned(), "0123456789".repeat(1000))];
        let doubled = (0..40).try_for_each(|number| {
            let value = expand(&format!("$(V{number})$(V{number})"), &env)?;
            env.push((format!("V{}", number + 1), value));
            Ok::<_, String>(())
        });
        assert!(doubled.unwrap_err().contains("no program"));
        assert_eq!(env.len(), 4);
    }

    #[test]
    fn fields_are_found() {
        let pod = serde_json::json!({"metadata": {"name": "p", "labels": {"a/b": "c"}}});
        assert_eq!(field(&pod, "metadata.name", ""), "p");
        assert_eq!(field(&pod, "metadata.labels['a/b']", ""), "c");
        let labels = serde_json::json!({"metadata": {"labels": {"b": "2\"", "a": "1"}}});
        assert_eq!(field(&labels, "metadata.labels", ""), "a=\"1\"\nb=\"2\\\"\"");
        assert!(shows_field("metadata.annotations") && !shows_field("spec.nodeName"));
        assert!(knows_field("metadata.annotations['x']") && !knows_field("status.podIP"));
    }
}
