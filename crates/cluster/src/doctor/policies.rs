//! NetworkPolicies, read: whom one is about and which way. And those that the probe makes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use crate::error::Result;

/// The way of a connection, seen from the pod that a policy is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

impl Way {
    pub(super) fn back(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }

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
    selects(selector, labels)
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut wanted = selector.match_labels.iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

/// Tells whether a policy restricts this way.
pub(super) fn restricts(policy: &NetworkPolicy, way: Way) -> bool {
    policy.spec.as_ref().is_some_and(|spec| match (&spec.policy_types, way) {
        (Some(types), way) => types.iter().any(|one| one == way.word()),
        // Kubernetes' default.
        (None, Way::In) => true,
        (None, Way::Out) => spec.egress.is_some(),
    })
}

/// The other end of a connection by TCP, as policies see it.
pub(super) struct Peer<'a> {
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) address: IpAddr,
    pub(super) port: i32,
}

/// Tells whether a policy lets a connection from or to this peer through, or may do so.
pub(super) fn may_allow(policy: &NetworkPolicy, way: Way, peer: &Peer<'_>) -> bool {
    let Some(spec) = policy.spec.as_ref().filter(|_| restricts(policy, way)) else {
        return false;
    };
    let allows = |peers: Option<&Vec<NetworkPolicyPeer>>,
                  ports: Option<&Vec<NetworkPolicyPort>>| {
        let peers = peers.filter(|peers| !peers.is_empty());
        let ports = ports.filter(|ports| !ports.is_empty());
        peers.is_none_or(|peers| peers.iter().any(|one| is_peer(one, peer)))
            && ports.is_none_or(|ports| ports.iter().any(|one| is_port(one, peer.port)))
    };
    match way {
        Way::In => spec
            .ingress
            .iter()
            .flatten()
            .any(|rule| allows(rule.from.as_ref(), rule.ports.as_ref())),
        Way::Out => {
            spec.egress.iter().flatten().any(|rule| allows(rule.to.as_ref(), rule.ports.as_ref()))
        }
    }
}

fn is_peer(one: &NetworkPolicyPeer, peer: &Peer<'_>) -> bool {
    if let Some(block) = &one.ip_block {
        let except = block.except.iter().flatten().any(|block| holds(block, peer.address));
        return holds(&block.cidr, peer.address) && !except;
    }
    // Which namespaces are chosen is not looked up: it may be this one.
    one.pod_selector.as_ref().is_none_or(|selector| selects(selector, peer.labels))
}

fn is_port(one: &NetworkPolicyPort, port: i32) -> bool {
    let tcp = one.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    tcp && match &one.port {
        Some(IntOrString::Int(first)) => (*first..=one.end_port.unwrap_or(*first)).contains(&port),
        // Our pods' ports have no names.
        Some(IntOrString::String(_)) => false,
        None => true,
    }
}

/// Tells whether an address is in a block, e.g. `10.0.0.0/8`; a block that cannot be read may hold it.
fn holds(block: &str, address: IpAddr) -> bool {
    let read = block
        .split_once('/')
        .and_then(|(base, bits)| Some((base.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?)));
    let Some((base, bits)) = read else { return true };
    let (base, address, width) = match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            (u128::from(base.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => (base.to_bits(), address.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let rest = width - bits.min(width);
    base.checked_shr(rest).unwrap_or(0) == address.checked_shr(rest).unwrap_or(0)
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
        let peer = |labels| Peer { labels, address: [10, 0, 0, 1].into(), port: 8080 };
        assert!(may_allow(&open, Way::Out, &peer(&b)) && !may_allow(&open, Way::In, &peer(&b)));
        assert!(!may_allow(&open, Way::Out, &peer(&a)));
        let shut = policy("p", &a, Way::In, None).unwrap();
        assert!(restricts(&shut, Way::In) && !restricts(&shut, Way::Out));
        assert!(!may_allow(&shut, Way::In, &peer(&b)));
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
        let nobody = labels("y");
        let peer = Peer { labels: &nobody, address: [10, 0, 0, 1].into(), port: 1 };
        assert!(is_about(&odd, &labels("x")) && may_allow(&odd, Way::Out, &peer));
    }

    /// What a deployment lets out: the internet without private ranges, and DNS.
    #[test]
    fn a_rule_for_the_internet_is_none_for_a_pod() {
        let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "fd00::/8"]}}]},
            {"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "UDP", "port": 53}]},
            {"to": [{"namespaceSelector": {}}], "ports": [{"port": 9000, "endPort": 9005}]}]});
        let policy = super::super::probe::object(json!({"spec": spec})).unwrap();
        let labels = labels("x");
        for (address, port, allowed) in [
            ("10.244.0.7", 8080, false),
            ("8.8.8.8", 8080, true),
            ("10.244.0.7", 9003, true),
            ("10.244.0.7", 9006, false),
            ("fd00::1", 8080, false),
        ] {
            let peer = Peer { labels: &labels, address: address.parse().unwrap(), port };
            assert_eq!(may_allow(&policy, Way::Out, &peer), allowed, "{address} {port}");
        }
        assert!(
            holds("fd00::/8", "fd12::1".parse().unwrap())
                && !holds("10.0.0.0/8", [11, 0, 0, 1].into())
        );
        assert!(
            holds("0.0.0.0/0", [1, 2, 3, 4].into()) && holds("1.2.3.4/32", [1, 2, 3, 4].into())
        );
        assert!(holds("not a block", [1, 2, 3, 4].into()), "who cannot read must not be sure");
    }
}
