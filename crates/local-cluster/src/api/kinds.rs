//! The table of everything this API serves; discovery, routes and decoding read it.

use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::store::Resource;

/// One kind of object.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) resource: Resource,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// What comes after the name in a path, with the verbs of each.
    pub(crate) subresources: &'static [(&'static str, &'static str, &'static [&'static str])],
    /// Reads an object into Kubernetes' own type and writes it again, which drops what the type
    /// does not know.
    pub(crate) canonical: fn(Value) -> Result<Value, serde_json::Error>,
}

/// The verbs every kind has.
pub(crate) const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

const POD_SUBRESOURCES: &[(&str, &str, &[&str])] = &[
    ("exec", "PodExecOptions", &["create", "get"]),
    ("log", "Pod", &["get"]),
    ("status", "Pod", &["get"]),
];
const STATUS_OF_NAMESPACE: &[(&str, &str, &[&str])] = &[("status", "Namespace", &["get"])];
const STATUS_OF_NODE: &[(&str, &str, &[&str])] = &[("status", "Node", &["get"])];

/// Every kind served, all of group `""`, version `v1`.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        resource: Resource::ConfigMaps,
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short: &["cm"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        canonical: canonical::<core::ConfigMap>,
    },
    Kind {
        resource: Resource::Events,
        kind: "Event",
        plural: "events",
        singular: "event",
        short: &["ev"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        canonical: canonical::<core::Event>,
    },
    Kind {
        resource: Resource::Namespaces,
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short: &["ns"],
        categories: &[],
        namespaced: false,
        subresources: STATUS_OF_NAMESPACE,
        canonical: canonical::<core::Namespace>,
    },
    Kind {
        resource: Resource::Nodes,
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short: &["no"],
        categories: &[],
        namespaced: false,
        subresources: STATUS_OF_NODE,
        canonical: canonical::<core::Node>,
    },
    Kind {
        resource: Resource::Pods,
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short: &["po"],
        categories: &["all"],
        namespaced: true,
        subresources: POD_SUBRESOURCES,
        canonical: canonical::<core::Pod>,
    },
    Kind {
        resource: Resource::Secrets,
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        short: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        canonical: canonical::<core::Secret>,
    },
    Kind {
        resource: Resource::ServiceAccounts,
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short: &["sa"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        canonical: canonical::<core::ServiceAccount>,
    },
];

/// Finds a kind by its word in paths.
pub(crate) fn by_plural(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

/// Finds the kind of a resource.
pub(crate) fn of(resource: Resource) -> &'static Kind {
    KINDS.iter().find(|kind| kind.resource == resource).unwrap_or(&KINDS[0])
}

fn canonical<T>(object: Value) -> Result<Value, serde_json::Error>
where
    T: DeserializeOwned + serde::Serialize,
{
    serde_json::to_value(serde_json::from_value::<T>(object)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_its_kind() {
        for kind in KINDS {
            assert_eq!(of(kind.resource).plural, kind.plural);
            assert_eq!(by_plural(kind.plural).unwrap().kind, kind.kind);
        }
    }
}
