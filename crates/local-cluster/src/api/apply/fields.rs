//! Sets of fields, as `managedFields` writes them (FieldsV1), and the fields of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::lists::{self, List};

/// A set of fields: a tree whose edges are `f:NAME`, `k:{KEYS}` and `v:VALUE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Whether the place itself is in the set, not only something below it.
    pub(super) here: bool,
    pub(super) below: BTreeMap<String, Fields>,
}

impl Fields {
    fn leaf() -> Self {
        Self { here: true, below: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.here && self.below.is_empty()
    }

    /// Reads FieldsV1; what is no such thing is nothing.
    pub(super) fn read(value: &Value) -> Self {
        let Some(fields) = value.as_object() else { return Self::default() };
        let here = fields.is_empty() || fields.contains_key(".");
        let below = fields.iter().filter(|(step, _)| *step != ".");
        Self { here, below: below.map(|(step, value)| (step.clone(), Self::read(value))).collect() }
    }

    /// Writes FieldsV1.
    pub(super) fn write(&self) -> Value {
        let mut fields = Map::new();
        if self.here && !self.below.is_empty() {
            fields.insert(".".into(), json!({}));
        }
        fields.extend(self.below.iter().map(|(step, below)| (step.clone(), below.write())));
        Value::Object(fields)
    }

    /// Returns the fields that `object` sets.
    pub(super) fn of(object: &Value) -> Self {
        let mut fields = Self::of_value("", object);
        fields.below.remove("f:apiVersion");
        fields.below.remove("f:kind");
        if let Some(meta) = fields.below.get_mut("f:metadata") {
            for name in NOT_OWNED {
                meta.below.remove(*name);
            }
            if meta.below.is_empty() {
                fields.below.remove("f:metadata");
            }
        }
        fields.here = false;
        fields
    }

    fn of_value(name: &str, value: &Value) -> Self {
        let below: BTreeMap<String, Self> = match (value, lists::kind(name)) {
            (Value::Object(fields), _) if !lists::is_atomic(name) => fields
                .iter()
                .map(|(name, value)| (format!("f:{name}"), Self::of_value(name, value)))
                .collect(),
            (Value::Array(items), List::Map(keys)) => {
                let item = |item| {
                    let mut fields = Self::of_value("", item);
                    fields.here = true;
                    (lists::key_step(keys, item), fields)
                };
                items.iter().map(item).collect()
            }
            (Value::Array(items), List::Set) => {
                items.iter().map(|item| (format!("v:{item}"), Self::leaf())).collect()
            }
            _ => return Self::leaf(),
        };
        Self { here: below.is_empty(), below }
    }

    /// Adds every field of `other`.
    pub(super) fn add(&mut self, other: &Self) {
        self.here |= other.here;
        for (step, below) in &other.below {
            self.below.entry(step.clone()).or_default().add(below);
        }
    }

    /// Removes every field of `other`.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.here &= !other.here;
        for (step, gone) in &other.below {
            if let Some(below) = self.below.get_mut(step) {
                below.subtract(gone);
                if below.is_empty() {
                    self.below.remove(step);
                }
            }
        }
    }

    /// Returns the fields that are in both.
    pub(super) fn common(&self, other: &Self) -> Self {
        let both = self.below.iter().filter_map(|(step, below)| {
            let common = below.common(other.below.get(step)?);
            (!common.is_empty()).then(|| (step.clone(), common))
        });
        Self { here: self.here && other.here, below: both.collect() }
    }

    /// Keeps the fields that differ between two objects.
    pub(super) fn differing(&self, name: &str, one: Option<&Value>, other: Option<&Value>) -> Self {
        let kept = self.below.iter().filter_map(|(step, below)| {
            let at = |value: Option<&Value>| lists::step_into(value?, name, step);
            let name = step.strip_prefix("f:").unwrap_or_default();
            let differing = below.differing(name, at(one).as_ref(), at(other).as_ref());
            (!differing.is_empty()).then(|| (step.clone(), differing))
        });
        let below: BTreeMap<String, Self> = kept.collect();
        // A place with fields below it differs only by being there.
        let differs = match self.below.is_empty() {
            true => one != other,
            false => one.is_some() != other.is_some(),
        };
        Self { here: self.here && differs, below }
    }

    /// Returns the path of every field, as Kubernetes words them: `.data.key`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_paths("", &mut found);
        found
    }

    fn collect_paths(&self, path: &str, found: &mut Vec<String>) {
        if self.here {
            found.push(path.to_owned());
        }
        for (step, below) in &self.below {
            below.collect_paths(&format!("{path}{}", lists::words(step)), found);
        }
    }
}

/// What nobody manages, below `metadata`.
const NOT_OWNED: &[&str] = &[
    "f:creationTimestamp",
    "f:deletionGracePeriodSeconds",
    "f:deletionTimestamp",
    "f:generation",
    "f:managedFields",
    "f:name",
    "f:namespace",
    "f:resourceVersion",
    "f:selfLink",
    "f:uid",
];
