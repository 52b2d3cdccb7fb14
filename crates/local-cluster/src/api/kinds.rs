//! The table of everything this API serves; discovery, routes and decoding read it.

use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::store::Resource;

/// One kind of object.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) resource: Resource,
    /// Empty: the core group.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
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

/// The verbs that kinds have.
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The verbs of every `status`.
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];
const TOKEN: &[(&str, &str, &[&str])] = &[("token", "TokenRequest", &["create"])];
const POD_SUBRESOURCES: &[(&str, &str, &[&str])] = &[
    ("attach", "PodAttachOptions", &["create", "get"]),
    ("eviction", "Eviction", &["create"]),
    ("exec", "PodExecOptions", &["create", "get"]),
    ("log", "Pod", &["get"]),
    ("portforward", "PodPortForwardOptions", &["create", "get"]),
    ("status", "Pod", STATUS_VERBS),
];
const STATUS_OF_NAMESPACE: &[(&str, &str, &[&str])] = &[("status", "Namespace", STATUS_VERBS)];
const STATUS_OF_NODE: &[(&str, &str, &[&str])] = &[("status", "Node", STATUS_VERBS)];

/// Every kind served.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        resource: Resource::ConfigMaps,
        group: "",
        version: "v1",
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
        group: "",
        version: "v1",
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
        group: "",
        version: "v1",
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
        group: "",
        version: "v1",
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
        group: "",
        version: "v1",
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
        group: "",
        version: "v1",
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
        group: "",
        version: "v1",
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short: &["sa"],
        categories: &[],
        namespaced: true,
        subresources: TOKEN,
        canonical: canonical::<core::ServiceAccount>,
    },
    Kind {
        resource: Resource::Leases,
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        short: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        canonical: canonical::<coordination::Lease>,
    },
];

impl Kind {
    /// Returns what objects carry as `apiVersion`.
    pub(crate) fn group_version(&self) -> String {
        if self.group.is_empty() {
            self.version.into()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns the verbs of the kind itself: Kubernetes has no way to delete all namespaces.
    pub(crate) fn verbs(&self) -> Vec<&'static str> {
        let has =
            |verb: &&str| self.resource != Resource::Namespaces || *verb != "deletecollection";
        VERBS.iter().copied().filter(has).collect()
    }

    /// Returns the words of messages: `pods`, `leases.coordination.k8s.io`.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.into()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

/// Finds a kind by its group and its word in paths.
pub(crate) fn find(group: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.plural == plural)
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
            assert_eq!(find(kind.group, kind.plural).unwrap().kind, kind.kind);
        }
    }
}
