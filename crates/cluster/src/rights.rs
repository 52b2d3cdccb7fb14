//! The one registry of what each service may do in Kubernetes: RBAC is written from it and checked
//! against it.
//!
//! All of it is in the namespaces that hold weavers, so a Role there is enough and nobody needs a
//! ClusterRole: reading one namespace by its name counts, for Kubernetes, as a call in it.

/// The namespace of the services and their accounts.
pub const SYSTEM_NAMESPACE: &str = "loom-system";

/// A program of ours that talks to Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `loom-handlers`.
    Handlers,
    /// `loom-relay`.
    Relay,
    /// `loom-janitor`.
    Janitor,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Handlers, Self::Relay, Self::Janitor];

    /// Returns its name, which is also its service account's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handlers => "loom-handlers",
            Self::Relay => "loom-relay",
            Self::Janitor => "loom-janitor",
        }
    }

    /// Returns what it needs in each namespace that holds weavers, and nothing else anywhere.
    #[must_use]
    pub fn rights(self) -> &'static [Right] {
        match self {
            Self::Handlers => &HANDLERS,
            Self::Relay => &RELAY,
            Self::Janitor => &JANITOR,
        }
    }
}

/// One verb on one resource of the core group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Right {
    /// E.g. `create`.
    pub verb: &'static str,
    /// As RBAC writes it: `pods`, or `pods/exec`.
    pub resource: &'static str,
    /// Whether the service works without it, if less well.
    pub optional: bool,
    /// What it is for.
    pub why: &'static str,
}

impl Right {
    /// Returns the resource and what is below it, if it is about that: `pods` and `exec`.
    #[must_use]
    pub fn parts(&self) -> (&'static str, Option<&'static str>) {
        match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (self.resource, None),
        }
    }

    const fn on(verb: &'static str, resource: &'static str, why: &'static str) -> Self {
        Self { verb, resource, optional: false, why }
    }

    const fn pods(verb: &'static str, why: &'static str) -> Self {
        Self::on(verb, "pods", why)
    }

    const fn events(verb: &'static str) -> Self {
        let why = "tells how an image is fetched and why a weaver waits";
        Self { optional: true, ..Self::on(verb, "events", why) }
    }
}

const NAMESPACE: Right = Right::on("get", "namespaces", "/readyz looks whether it is there");
const LOG: Right = Right::on("get", "pods/log", "reads what a program wrote");

const HANDLERS: [Right; 10] = [
    NAMESPACE,
    Right::pods("create", "makes a weaver"),
    Right::pods("get", "shows one weaver"),
    Right::pods("list", "shows all weavers"),
    Right::pods("watch", "tells how a weaver comes up"),
    Right::pods("patch", "writes a later deadline"),
    Right::pods("delete", "ends a weaver"),
    LOG,
    Right::events("list"),
    Right::events("watch"),
];

/// A WebSocket is opened by GET, so `get` is asked for; Kubernetes 1.35 and later also ask for
/// `create`, as all versions do of other ways in.
const RELAY: [Right; 9] = [
    NAMESPACE,
    Right::pods("get", "finds the weaver"),
    Right::pods("list", "begins to watch a weaver"),
    Right::pods("watch", "waits until a weaver runs, and notices its end"),
    LOG,
    Right::on("get", "pods/exec", "opens a stream to loom-host"),
    Right::on("create", "pods/exec", "opens a stream to loom-host"),
    Right::on("get", "pods/attach", "opens a stream to an image's own program"),
    Right::on("create", "pods/attach", "opens a stream to an image's own program"),
];

const JANITOR: [Right; 3] = [
    Right::pods("list", "finds the weavers whose deadline has come"),
    Right::pods("get", "looks again at one that changed meanwhile"),
    Right::pods("delete", "ends them"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_right_is_there_twice_or_beyond_pods() {
        for service in Service::ALL {
            let rights = service.rights();
            let asked: HashSet<_> =
                rights.iter().map(|right| (right.verb, right.resource)).collect();
            assert_eq!(asked.len(), rights.len(), "{}", service.name());
            for right in rights {
                assert!(["pods", "events", "namespaces"].contains(&right.parts().0), "{right:?}");
                assert!(!right.verb.contains('*'), "{right:?}");
            }
        }
    }

    #[test]
    fn only_handlers_make_weavers_and_only_the_relay_enters_them() {
        let who = |verb: &str, resource: &str| {
            let has = |service: &Service| {
                let mut rights = service.rights().iter();
                rights.any(|right| right.verb == verb && right.resource == resource)
            };
            Service::ALL.iter().copied().filter(has).collect::<Vec<_>>()
        };
        assert_eq!(who("create", "pods"), [Service::Handlers]);
        assert_eq!(who("create", "pods/exec"), [Service::Relay]);
        assert_eq!(who("delete", "pods"), [Service::Handlers, Service::Janitor]);
    }
}
