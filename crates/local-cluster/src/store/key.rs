//! Names of objects.

use serde::{Deserialize, Serialize};

/// The kinds of objects that exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Resource {
    Namespaces,
    Nodes,
    ServiceAccounts,
    Secrets,
    ConfigMaps,
    Pods,
    Events,
    Leases,
}

/// Where an object is found; cluster-wide ones have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    /// Names an object.
    pub(crate) fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.into(), name: name.into() }
    }

    /// Reads the name out of an object's metadata.
    pub(crate) fn of(resource: Resource, object: &serde_json::Value) -> Self {
        let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        Self::new(resource, meta("namespace"), meta("name"))
    }
}
