//! JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes' strategic merge patch.

use serde_json::{Map, Value};

use super::status::Refusal;

/// How a patch body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Json,
    Merge,
    Strategic,
}

impl Style {
    /// Reads a `Content-Type`.
    pub(crate) fn of_media_type(media_type: &str) -> Result<Self, Refusal> {
        match media_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            other => Err(Refusal::media_type(
                other,
                "application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }

    /// Applies `patch` to `object`.
    pub(crate) fn apply(self, object: &Value, patch: &Value) -> Result<Value, Refusal> {
        let mut object = object.clone();
        match self {
            Self::Json => json_patch(&mut object, patch)?,
            Self::Merge => merge(&mut object, patch),
            Self::Strategic => strategic(&mut object, patch)?,
        }
        Ok(object)
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let fields = as_object(target);
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().unwrap_or_else(|| unreachable!("made an object above"))
}

/// Lists that merge by a key; every other list is replaced, but for [`SETS`].
const MERGE_KEYS: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("imagePullSecrets", "name"),
    ("conditions", "type"),
    ("ownerReferences", "uid"),
    ("secrets", "name"),
    ("taints", "key"),
    ("addresses", "type"),
    ("podIPs", "ip"),
];
/// Lists of plain values that merge as sets.
const SETS: &[&str] = &["finalizers"];

fn strategic(target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target =
                Value::Object(patch.iter().filter(|(k, _)| *k != "$patch").map(own).collect());
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(Refusal::bad_request(format!("unknown $patch: {other:?}"))),
    }
    let fields = as_object(target);
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|name, _| kept.iter().any(|kept| kept == name));
    }
    for (name, value) in patch {
        strategic_field(fields, name, value)?;
    }
    Ok(())
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn strategic_field(
    fields: &mut Map<String, Value>,
    name: &str,
    value: &Value,
) -> Result<(), Refusal> {
    if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
        if let Some(Value::Array(items)) = fields.get_mut(list) {
            items.retain(|item| !value.as_array().is_some_and(|gone| gone.contains(item)));
        }
        return Ok(());
    }
    if name.starts_with('$') {
        return Ok(());
    }
    if value.is_null() {
        fields.remove(name);
        return Ok(());
    }
    let target = fields.entry(name).or_insert(Value::Null);
    let key = MERGE_KEYS.iter().find(|(list, _)| *list == name).map(|(_, key)| *key);
    match (value, key) {
        (Value::Array(patch), Some(key)) => merge_list(target, patch, key),
        (Value::Array(patch), None) if SETS.contains(&name) => {
            let mut items = target.as_array().cloned().unwrap_or_default();
            items.extend(
                patch.iter().filter(|item| !items.contains(item)).cloned().collect::<Vec<_>>(),
            );
            *target = Value::Array(items);
            Ok(())
        }
        (Value::Object(_), _) => strategic(target, value),
        _ => {
            *target = value.clone();
            Ok(())
        }
    }
}

fn merge_list(target: &mut Value, patch: &[Value], key: &str) -> Result<(), Refusal> {
    let replace = patch.iter().any(|item| item["$patch"] == "replace");
    let mut items =
        if replace { Vec::new() } else { target.as_array().cloned().unwrap_or_default() };
    for item in patch {
        if replace && item["$patch"] == "replace" {
            continue;
        }
        let Some(id) = item.get(key) else {
            let why = format!("map: {item} does not contain declared merge key: {key}");
            return Err(Refusal::bad_request(why));
        };
        let found = items.iter().position(|old| old.get(key) == Some(id));
        if item["$patch"] == "delete" {
            items.retain(|old| old.get(key) != Some(id));
        } else if let Some(at) = found {
            strategic(&mut items[at], item)?;
        } else {
            let mut new = Value::Null;
            strategic(&mut new, item)?;
            items.push(new);
        }
    }
    *target = Value::Array(items);
    Ok(())
}

/// The most bytes that all `copy` of a patch may add, as in Kubernetes: each may double the object.
const MAX_COPIED: usize = 3 << 20;

fn json_patch(object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let steps = patch
        .as_array()
        .ok_or_else(|| Refusal::bad_request("a JSON patch is a list of operations"))?;
    if steps.len() > 10_000 {
        return Err(Refusal::bad_request("a JSON patch has at most 10000 operations"));
    }
    let mut left = MAX_COPIED;
    steps.iter().try_for_each(|step| json_step(object, step, &mut left))
}

fn json_step(object: &mut Value, step: &Value, left: &mut usize) -> Result<(), Refusal> {
    let failed = || {
        let message = "the server rejected our request due to an error in our request";
        let refusal = Refusal::new(http::StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        refusal.with_no_details()
    };
    let text = |field: &str| step[field].as_str().ok_or_else(failed);
    let path = text("path")?;
    let value = || step.get("value").cloned().ok_or_else(failed);
    let done = match text("op")? {
        "add" => add(object, path, value()?),
        "remove" => remove(object, path).map(drop),
        "replace" => object.pointer_mut(path).zip(Some(value()?)).map(|(old, new)| *old = new),
        "move" => remove(object, text("from")?).and_then(|value| add(object, path, value)),
        "copy" => {
            let from = object.pointer(text("from")?).ok_or_else(failed)?;
            *left = left.checked_sub(size(from)).ok_or_else(failed)?;
            let copy = from.clone();
            add(object, path, copy)
        }
        "test" => (object.pointer(path) == Some(&value()?)).then_some(()),
        _ => None,
    };
    done.ok_or_else(failed)
}

/// Returns about how many bytes a value has.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => 8 + text.len(),
        Value::Array(items) => 8 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => {
            8 + fields.iter().map(|(name, value)| 8 + name.len() + size(value)).sum::<usize>()
        }
    }
}

/// Splits a pointer into its parent's and its last, unescaped, token.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = last.parse().ok().filter(|at| *at <= items.len())?;
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(fields) => fields.remove(&last),
        Value::Array(items) => {
            let at = last.parse().ok().filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_follows_rfc_7386() {
        let object = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        let patch = json!({"a": {"b": null, "e": 3}, "d": [2, 3]});
        let merged = Style::Merge.apply(&object, &patch).unwrap();
        assert_eq!(merged, json!({"a": {"c": 2, "e": 3}, "d": [2, 3]}));
    }

    #[test]
    fn json_patch_follows_rfc_6902() {
        let object = json!({"a": [1, 2], "m/n": 1});
        let patch = json!([
            {"op": "test", "path": "/a/0", "value": 1},
            {"op": "add", "path": "/a/1", "value": 9},
            {"op": "add", "path": "/a/-", "value": 7},
            {"op": "remove", "path": "/a/0"},
            {"op": "replace", "path": "/m~1n", "value": 2},
            {"op": "copy", "from": "/a/0", "path": "/b"},
            {"op": "move", "from": "/b", "path": "/c"},
        ]);
        let patched = Style::Json.apply(&object, &patch).unwrap();
        assert_eq!(patched, json!({"a": [9, 2, 7], "m/n": 2, "c": 9}));
        for bad in [
            json!([{"op": "test", "path": "/a/0", "value": 2}]),
            json!([{"op": "remove", "path": "/x"}]),
            json!([{"op": "add", "path": "/a/9", "value": 1}]),
            json!({"op": "add"}),
        ] {
            assert!(Style::Json.apply(&object, &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn abuse_copies_do_not_double_without_end() {
        let copy = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        let refused = Style::Json.apply(&json!({"a": ["text"]}), &json!(vec![copy; 40]));
        assert_eq!(refused.unwrap_err().code, http::StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn strategic_merge_knows_the_keys_of_lists() {
        let object = json!({
            "metadata": {"finalizers": ["a"], "labels": {"x": "1"}},
            "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}],
                     "tolerations": [{"key": "k"}]},
        });
        let patch = json!({
            "metadata": {"finalizers": ["b"], "labels": {"x": null, "y": "2"}},
            "spec": {"$setElementOrder/containers": [{"name": "c"}],
                     "containers": [{"name": "c", "env": [{"name": "B", "value": "2"},
                                                          {"name": "A", "$patch": "delete"}]}],
                     "tolerations": [{"key": "z"}]},
        });
        let merged = Style::Strategic.apply(&object, &patch).unwrap();
        assert_eq!(
            merged,
            json!({
                "metadata": {"finalizers": ["a", "b"], "labels": {"y": "2"}},
                "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "B", "value": "2"}]}],
                         "tolerations": [{"key": "z"}]},
            })
        );
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}});
        let merged = Style::Strategic.apply(&object, &patch).unwrap();
        assert_eq!(merged["metadata"]["finalizers"], json!([]));
    }
}
