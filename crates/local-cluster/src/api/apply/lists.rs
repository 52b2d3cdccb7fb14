//! Which lists merge by keys, which are sets, and which structures are one value.

use serde_json::{Map, Value, json};

/// How a list merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// As one value.
    Atomic,
    Set,
    /// By the values of these fields.
    Map(&'static [&'static str]),
}

/// Returns how the list of this name merges (`x-kubernetes-list-type` of Kubernetes' schemas).
pub(super) fn kind(name: &str) -> List {
    match name {
        "finalizers" => List::Set,
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "secrets"
        | "resourceClaims" => List::Map(&["name"]),
        "volumeMounts" => List::Map(&["mountPath"]),
        "volumeDevices" => List::Map(&["devicePath"]),
        "ports" => List::Map(&["containerPort", "protocol"]),
        "ownerReferences" => List::Map(&["uid"]),
        "conditions" | "addresses" => List::Map(&["type"]),
        "hostAliases" | "podIPs" => List::Map(&["ip"]),
        "topologySpreadConstraints" => List::Map(&["topologyKey", "whenUnsatisfiable"]),
        _ => List::Atomic,
    }
}

/// Whether the structure of this name is one value.
pub(super) fn is_atomic(name: &str) -> bool {
    matches!(
        name,
        "configMapKeyRef"
            | "fieldRef"
            | "involvedObject"
            | "labelSelector"
            | "nodeSelector"
            | "related"
            | "resourceFieldRef"
            | "secretKeyRef"
    )
}

/// Returns the values that name an item of a list.
pub(super) fn key(keys: &[&str], item: &Value) -> Map<String, Value> {
    let value = |name: &str| match (name, &item[name]) {
        ("protocol", Value::Null) => "TCP".into(),
        (_, value) => value.clone(),
    };
    keys.iter().map(|name| ((*name).to_owned(), value(name))).collect()
}

/// Returns an item's step: `k:{"name":"c"}`.
pub(super) fn key_step(keys: &[&str], item: &Value) -> String {
    format!("k:{}", Value::Object(key(keys, item)))
}

/// Returns what `step` leads to in the value named `name`.
pub(super) fn step_into(value: &Value, name: &str, step: &str) -> Option<Value> {
    match step.split_at_checked(2)? {
        ("f:", field) => value.get(field).cloned(),
        ("k:", _) => {
            let List::Map(keys) = kind(name) else { return None };
            value.as_array()?.iter().find(|item| key_step(keys, item) == step).cloned()
        }
        ("v:", text) => {
            let wanted: Value = serde_json::from_str(text).ok()?;
            value.as_array()?.iter().find(|item| **item == wanted).cloned()
        }
        _ => None,
    }
}

/// Removes what `step` leads to.
pub(super) fn remove(value: &mut Value, name: &str, step: &str) {
    let gone = step_into(value, name, step);
    match (value, step.strip_prefix("f:")) {
        (Value::Object(fields), Some(field)) => drop(fields.remove(field)),
        (Value::Array(items), None) => items.retain(|item| Some(item) != gone.as_ref()),
        _ => {}
    }
}

/// Returns a step as Kubernetes words it: `.name`, `[name="c"]`, `["x"]`.
pub(super) fn words(step: &str) -> String {
    match step.split_at_checked(2) {
        Some(("f:", field)) => format!(".{field}"),
        Some(("k:", keys)) => {
            let keys: Value = serde_json::from_str(keys).unwrap_or_else(|_| json!({}));
            let pairs = keys.as_object().into_iter().flatten();
            let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some(("v:", value)) => format!("[={value}]"),
        _ => step.to_owned(),
    }
}
