//! NetworkPolicies, read: whom one is about and which way. And those that the probe makes.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use serde_json::json;

use crate::error::Result;

/// The way of a connection, seen from the pod that a policy is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

impl Way {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::In => "Ingress",
            Self::Out => "Egress",
        }
    }
}

/// Returns a policy about the pods with these labels: it allows this one way to and from `peers` on
/// the probe's port, or nothing.
pub(super) fn policy(
    name: &str,
    about: &BTreeMap<String, String>,
    way: Way,
    peers: Option<&BTreeMap<String, String>>,
) -> Result<NetworkPolicy> {
    let (rules, side) = match way {
        Way::In => ("ingress", "from"),
        Way::Out => ("egress", "to"),
    };
    let allowed = peers.map(|peers| json!({side: [{"podSelector": {"matchLabels": peers}}]}));
    super::probe::object(json!({
        "metadata": {"name": name, "labels": about},
        "spec": {
            "podSelector": {"matchLabels": about},
            "policyTypes": [way.word()],
            rules: allowed.into_iter().collect::<Vec<_>>(),
        },
    }))
}

/// Tells whether a policy is about a pod with these labels. One that is chosen by expressions counts
/// as if it were: who reads this must not be too sure.
pub(super) fn is_about(policy: &NetworkPolicy, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref()) else {
        return true;
    };
    let mut wanted = selector.match_labels.iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

/// Tells whether a policy restricts this way, and whether it lets something through.
pub(super) fn restricts(policy: &NetworkPolicy, way: Way) -> bool {
    policy.spec.as_ref().is_some_and(|spec| match (&spec.policy_types, way) {
        (Some(types), way) => types.iter().any(|one| one == way.word()),
        // Kubernetes' default.
        (None, Way::In) => true,
        (None, Way::Out) => spec.egress.is_some(),
    })
}

/// Tells whether a policy lets something through this way.
pub(super) fn allows_some(policy: &NetworkPolicy, way: Way) -> bool {
    let has_rules = |spec: &NetworkPolicySpec| match way {
        Way::In => spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty()),
        Way::Out => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    };
    restricts(policy, way) && policy.spec.as_ref().is_some_and(has_rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(app: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("app".to_owned(), app.to_owned())])
    }

    #[test]
    fn a_policy_is_read_as_it_was_written() {
        let (a, b) = (labels("a"), labels("b"));
        let open = policy("p", &a, Way::Out, Some(&b)).unwrap();
        assert!(is_about(&open, &a) && !is_about(&open, &b));
        assert!(allows_some(&open, Way::Out) && !allows_some(&open, Way::In));
        let shut = policy("p", &a, Way::In, None).unwrap();
        assert!(restricts(&shut, Way::In) && !restricts(&shut, Way::Out));
        assert!(!allows_some(&shut, Way::In));
    }

    #[test]
    fn a_policy_for_all_pods_is_about_every_one() {
        let read =
            |spec| super::super::probe::object::<NetworkPolicy>(json!({"spec": spec})).unwrap();
        let all = read(json!({"podSelector": {}}));
        assert!(is_about(&all, &labels("x")) && restricts(&all, Way::In));
        assert!(!restricts(&all, Way::Out));
        let odd = read(json!({"podSelector": {"matchExpressions": [
            {"key": "app", "operator": "Exists"}]}, "policyTypes": ["Egress"], "egress": [{}]}));
        assert!(is_about(&odd, &labels("x")) && allows_some(&odd, Way::Out));
    }
}
