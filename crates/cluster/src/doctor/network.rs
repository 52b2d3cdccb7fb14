//! Whether NetworkPolicies are obeyed: one pod asks another, with a policy that allows it and with
//! one that does not.
//!
//! ```text
//! client pod: open, open, shut, ... (its log) <- policy "out" allows or denies
//!       '---------- TCP 8080 ----------> server pod <- policy "in" allows or denies
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures::io::AsyncBufReadExt;
use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, LogParams, PostParams};
use tokio::time::timeout;

use super::policies::{self, Peer, Way};
use super::probe::Waited;
use super::{Check, Doctor, made};
use crate::error::{Call, Error, Result};
use crate::keys;

const NAME: &str = "network-policy";
const SERVER: &str = "server";
const CLIENT: &str = "client";
/// How long a change of a policy may take to be seen.
const SETTLE: Duration = Duration::from_secs(20);
/// So many equal answers in a row are no accident.
const SURE: usize = 4;

/// The port of [`SERVE`] and [`ASK`].
const PORT: i32 = 8080;
/// Serves one file for ever.
const SERVE: &str = "cd /probe && echo loom >index.html && exec httpd -f -p 8080 -h /probe";
/// Asks for it again and again; an answer that does not come within a second is none.
const ASK: &str = "while :; do if timeout 1 wget -q -O /dev/null http://$0:8080/index.html \
    >/dev/null 2>&1; then echo open; else echo shut; fi; sleep 1; done";

type Lines = BoxStream<'static, std::io::Result<String>>;

/// What trying one way came to.
enum Obeyed {
    Yes,
    No,
    /// Another policy may be why it was let through.
    Unclear(String),
}

impl Doctor {
    pub(super) async fn network(&self) -> Vec<Check> {
        let others = match self.list_policies().await {
            Ok(others) => others,
            Err(error) => return vec![unlisted(&error)],
        };
        let mut checks = vec![about_weavers(&others, &self.aims.namespace)];
        checks.push(match self.try_policies(&others).await {
            Ok(check) => check,
            Err(error) => unknown(&error.to_string(), "see what keeps this account from it"),
        });
        checks
    }

    async fn list_policies(&self) -> Result<Vec<NetworkPolicy>> {
        let api = made::policies(&self.cluster);
        let call = Call::new("list", "networkpolicies", &self.aims.namespace, None);
        Ok(self.cluster.within(call, api.list(&ListParams::default())).await?.items)
    }

    async fn try_policies(&self, others: &[NetworkPolicy]) -> Result<Check> {
        self.made.remove_forgotten().await?;
        let image = &self.aims.probe_image;
        self.allow(Way::In).await?;
        self.allow(Way::Out).await?;
        self.make_pod(SERVER, image, &["sh", "-c", SERVE]).await?;
        let server = match self.wait(&self.name(SERVER), has_address).await? {
            Waited::So(pod) => pod,
            Waited::Not(why) => return Ok(self.not_started(&why.message)),
        };
        let address = address(&server).unwrap_or_default();
        self.make_pod(CLIENT, image, &["sh", "-c", ASK, &address]).await?;
        let client = match self.wait(&self.name(CLIENT), is_running).await? {
            Waited::So(pod) => pod,
            Waited::Not(why) => return Ok(self.not_started(&why.message)),
        };
        let mut lines = self.lines(CLIENT).await?;
        if !settles(&mut lines, "open").await {
            let why = "the probe pods cannot reach each other even where a policy allows it";
            return Ok(unknown(why, "look at the cluster's network: pods must reach pods"));
        }
        let (from, to) = (ip(&client), ip(&server));
        let inward = self.is_obeyed(Way::In, &mut lines, others, from).await?;
        let outward = self.is_obeyed(Way::Out, &mut lines, others, to).await?;
        Ok(verdict(inward, outward, &nodes(&server, &client)))
    }

    /// Denies one way, looks, and allows it again; `address` is that of the other end.
    async fn is_obeyed(
        &self,
        way: Way,
        lines: &mut Lines,
        others: &[NetworkPolicy],
        address: Option<IpAddr>,
    ) -> Result<Obeyed> {
        self.put(way, None).await?;
        if settles(lines, "shut").await {
            self.put(way, Some(())).await?;
            // The other way is tried from a connection that works.
            settles(lines, "open").await;
            return Ok(Obeyed::Yes);
        }
        self.put(way, Some(())).await?;
        let (about, labels) = (self.labels(role(way)), self.labels(role(way.back())));
        let lets_through = |policy: &&NetworkPolicy| {
            policies::is_about(policy, &about)
                && address.is_none_or(|address| {
                    let peer = Peer { labels: &labels, address, port: PORT };
                    policies::may_allow(policy, way, &peer)
                })
        };
        let other = others.iter().find(lets_through);
        Ok(other.map_or(Obeyed::No, |policy| {
            Obeyed::Unclear(policy.metadata.name.clone().unwrap_or_default())
        }))
    }

    async fn allow(&self, way: Way) -> Result<()> {
        self.made.policy(self.policy(way, Some(()))?).await.map(drop)
    }

    async fn put(&self, way: Way, allowed: Option<()>) -> Result<()> {
        let (policy, api) = (self.policy(way, allowed)?, made::policies(&self.cluster));
        let name = policy.metadata.name.clone().unwrap_or_default();
        let call = Call::new("update", "networkpolicies", &self.aims.namespace, Some(name.clone()));
        let params = PostParams::default();
        self.cluster.within(call, api.replace(&name, &params, &policy)).await.map(drop)
    }

    fn policy(&self, way: Way, allowed: Option<()>) -> Result<NetworkPolicy> {
        let peers = self.labels(role(way.back()));
        let about = self.labels(role(way));
        policies::policy(&self.name(role(way)), &about, way, allowed.map(|()| &peers))
    }

    /// Follows what a probe pod says.
    async fn lines(&self, role: &str) -> Result<Lines> {
        let name = self.name(role);
        let container = Some(keys::CONTAINER.to_owned());
        let params = LogParams { container, follow: true, ..LogParams::default() };
        let call = Call::new("get", "pods/log", &self.aims.namespace, Some(name.clone()));
        let pods = made::pods(&self.cluster);
        let log = self.cluster.within(call, pods.log_stream(&name, &params)).await?;
        Ok(log.lines().boxed())
    }

    fn not_started(&self, why: &str) -> Check {
        let image = &self.aims.probe_image;
        let fix = format!(
            "give another --probe-image than {image}: any with sh, timeout, wget and httpd \
             (busybox) that the nodes can fetch"
        );
        unknown(&format!("a probe pod did not start: {why}"), &fix)
    }
}

/// The policy of each way is about the pod at that end.
fn role(way: Way) -> &'static str {
    match way {
        Way::In => SERVER,
        Way::Out => CLIENT,
    }
}

/// Tells whether the client comes to say only `word`.
async fn settles(lines: &mut Lines, word: &str) -> bool {
    let all_say_so = async {
        let mut in_a_row = 0;
        while let Some(Ok(line)) = lines.next().await {
            in_a_row = if line == word { in_a_row + 1 } else { 0 };
            if in_a_row == SURE {
                return true;
            }
        }
        false
    };
    timeout(SETTLE, all_say_so).await.unwrap_or(false)
}

fn ip(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// Returns where a pod is, as it stands in a URL.
fn address(pod: &Pod) -> Option<String> {
    ip(pod).map(|ip| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    })
}

fn has_address(pod: &Pod) -> bool {
    address(pod).is_some() && is_running(pod)
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

fn nodes(server: &Pod, client: &Pod) -> String {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let (server, client) = (node(server).unwrap_or_default(), node(client).unwrap_or_default());
    match server == client {
        true => format!("on {server}"),
        false => format!("on {client} and {server}"),
    }
}

fn verdict(inward: Obeyed, outward: Obeyed, nodes: &str) -> Check {
    let tried = format!(
        "tried by TCP between two pods {nodes}; other nodes and what leaves the \
        cluster were not tried"
    );
    let words = match (&inward, &outward) {
        (Obeyed::Yes, Obeyed::Yes) => {
            return Check::ok(NAME, format!("enforced, in and out ({tried})"));
        }
        (Obeyed::Unclear(name), _) | (_, Obeyed::Unclear(name)) => {
            let why =
                format!("policy {name} may be what let a denied connection through ({tried})");
            let fix = format!(
                "exclude pods with the label app={} from policy {name}",
                keys::DOCTOR_VALUE
            );
            return unknown(&why, &fix);
        }
        (Obeyed::No, Obeyed::No) => "not enforced: a denied connection went through, in and out",
        (Obeyed::No, Obeyed::Yes) => "not enforced inwards: a denied connection went through",
        (Obeyed::Yes, Obeyed::No) => "not enforced outwards: a denied connection went through",
    };
    let fix = "use a network plugin that enforces NetworkPolicies (Cilium, Calico, kube-router): \
        without one weavers reach each other and everything in the cluster";
    Check::failed(NAME, format!("{words} ({tried})"), fix)
}

fn unknown(why: &str, fix: &str) -> Check {
    Check::warning(NAME, format!("it could not be found out whether they are enforced: {why}"), fix)
}

fn unlisted(error: &Error) -> Check {
    match error {
        Error::NotFound { .. } => Check::warning(
            NAME,
            "this cluster has no NetworkPolicies",
            "weavers may reach what its network lets them reach: see its documentation",
        ),
        Error::Forbidden { call: Call { verb, resource, .. } } => unknown(
            &format!("this account may not {verb} {resource}"),
            "ask with an account that may create pods and networkpolicies there",
        ),
        error => unknown(&error.to_string(), "try again when the cluster answers"),
    }
}

/// Says whether there are policies about weavers at all.
fn about_weavers(others: &[NetworkPolicy], namespace: &str) -> Check {
    let weaver = BTreeMap::from([(keys::APP.to_owned(), keys::APP_VALUE.to_owned())]);
    let count = |way| {
        let about = |policy: &&NetworkPolicy| {
            policies::is_about(policy, &weaver) && policies::restricts(policy, way)
        };
        others.iter().filter(about).count()
    };
    let (inward, outward) = (count(Way::In), count(Way::Out));
    let detail = format!(
        "policies about weavers in namespace {namespace}: {inward} for what comes in, {outward} for \
         what goes out"
    );
    if inward == 0 || outward == 0 {
        let fix = "kubectl apply -k k3d/manifests/overlays/production";
        return Check::warning("network-rules", detail, fix);
    }
    Check::ok("network-rules", detail)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::super::State;
    use super::*;

    #[tokio::test]
    async fn a_single_answer_decides_nothing() {
        let said = |words: &str| {
            let words: Vec<_> = words.split(' ').map(|word| Ok(word.to_owned())).collect();
            stream::iter(words).boxed()
        };
        assert!(settles(&mut said("open shut shut shut shut"), "shut").await);
        assert!(!settles(&mut said("shut shut shut open shut"), "shut").await);
    }

    #[test]
    fn only_what_was_seen_is_said() {
        let state = |inward, outward| verdict(inward, outward, "on a").state;
        assert_eq!(state(Obeyed::Yes, Obeyed::Yes), State::Ok);
        assert_eq!(state(Obeyed::No, Obeyed::Yes), State::Failed);
        assert_eq!(state(Obeyed::Yes, Obeyed::No), State::Failed);
        let unclear = verdict(Obeyed::No, Obeyed::Unclear("p".to_owned()), "on a");
        assert_eq!(unclear.state, State::Warning);
        assert!(unclear.detail.contains("policy p"), "{}", unclear.detail);
    }
}
