//! Pods and policies of the doctor's own: made, waited for, and removed whatever happens.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::{NamespaceResourceScope, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use weaver::Why;

use super::Doctor;
use crate::error::{Error, Result};
use crate::watch::{self, Raw};
use crate::weavers::Cluster;
use crate::why::{self, Hope};
use crate::{keys, why::why as why_of};

/// The value of the label `app` on all of it.
pub(super) const APP: &str = "loom-doctor";
/// The label that tells the runs apart.
const RUN: &str = "loom.dev/doctor-run";
/// How long a probe pod may live at most, beyond the time it has for starting, in seconds.
const LIFE: u64 = 180;
/// How old something of another run is before it is taken for forgotten, in seconds.
const FORGOTTEN: i64 = 3600;
/// How often a removal that fails is tried again.
const TRIES: usize = 3;
/// The user of probe pods: nobody.
const NOBODY: u64 = 65_534;

/// What this run has made. Clones share it.
#[derive(Clone)]
pub(super) struct Made {
    cluster: Cluster,
    named: Arc<Mutex<Vec<Named>>>,
    /// Creations under way: who does not wait for them any more must not outrun them.
    creating: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Pod(String),
    Policy(String),
}

impl Made {
    pub(super) fn in_cluster(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), named: Arc::default(), creating: Arc::default() }
    }

    pub(super) async fn pod(&self, pod: Pod) -> Result<Pod> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        self.create(self.cluster.pods(), "pods", Named::Pod(name), pod).await
    }

    pub(super) async fn policy(&self, policy: NetworkPolicy) -> Result<NetworkPolicy> {
        let name = policy.metadata.name.clone().unwrap_or_default();
        self.create(policies(&self.cluster), "networkpolicies", Named::Policy(name), policy).await
    }

    /// Creates something in a task of its own, so that it is known how that went even when nobody
    /// waits for it any more.
    async fn create<K>(
        &self,
        api: Api<K>,
        resource: &'static str,
        named: Named,
        object: K,
    ) -> Result<K>
    where
        K: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static,
    {
        let (tell, told) = oneshot::channel();
        let cluster = self.cluster.clone();
        lock(&self.named).push(named);
        lock(&self.creating).spawn(async move {
            let params = PostParams::default();
            let call = cluster.call("create", resource, None);
            // Who waited may have gone.
            let _ = tell.send(cluster.within(call, api.create(&params, &object)).await);
        });
        told.await.unwrap_or_else(|_| Err(Error::unavailable("it was not made")))
    }

    /// Removes all of it, and returns what is left.
    pub(super) async fn remove_all(&self) -> Vec<String> {
        let mut creating = std::mem::take(&mut *lock(&self.creating));
        while creating.join_next().await.is_some() {}
        let named = std::mem::take(&mut *lock(&self.named));
        let mut left = Vec::new();
        for one in named {
            if let Err(error) = self.remove(&one).await {
                left.push(format!("{}: {error}", one.words(&self.cluster.settings().namespace)));
            }
        }
        left
    }

    async fn remove(&self, named: &Named) -> Result<()> {
        let mut removed = Ok(());
        for _ in 0..TRIES {
            removed = match named {
                Named::Pod(name) => delete(&self.cluster, self.cluster.pods(), "pods", name).await,
                Named::Policy(name) => {
                    delete(&self.cluster, policies(&self.cluster), "networkpolicies", name).await
                }
            };
            if !matches!(&removed, Err(error) if error.is_transient()) {
                break;
            }
        }
        removed
    }

    /// Removes what a run has left that was killed: what has ended, and what is old.
    pub(super) async fn remove_forgotten(&self) -> Result<()> {
        let cluster = &self.cluster;
        let params = ListParams::default().labels(&format!("{}={APP}", keys::APP));
        let pods = cluster.pods();
        let found = cluster.within(cluster.call("list", "pods", None), pods.list(&params)).await?;
        let now = cluster.now().await?.as_second();
        for pod in found.items {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let ended = matches!(phase, Some("Succeeded" | "Failed"));
            let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
            if ended || made.is_some_and(|made| now - made > FORGOTTEN) {
                let name = pod.metadata.name.unwrap_or_default();
                delete(cluster, cluster.pods(), "pods", &name).await?;
            }
        }
        Ok(())
    }
}

impl Named {
    fn words(&self, namespace: &str) -> String {
        match self {
            Self::Pod(name) => format!("pod {namespace}/{name}"),
            Self::Policy(name) => format!("networkpolicy {namespace}/{name}"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn policies(cluster: &Cluster) -> Api<NetworkPolicy> {
    Api::namespaced(cluster.client().clone(), &cluster.settings().namespace)
}

async fn delete<K>(cluster: &Cluster, api: Api<K>, resource: &'static str, name: &str) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let call = cluster.call("delete", resource, Some(name.to_owned()));
    match cluster.within(call, api.delete(name, &DeleteParams::default())).await {
        Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads an object that is written here.
pub(super) fn object<K: DeserializeOwned>(value: Value) -> Result<K> {
    serde_json::from_value(value).map_err(|error| Error::unavailable(error.to_string()))
}

/// What waiting for a pod came to.
pub(super) enum Waited {
    /// It is as it was to be.
    So(Box<Pod>),
    /// It will not be, or not in time; this keeps it.
    Not(Why),
}

impl Doctor {
    /// Returns the labels of a pod of this run, so that policies can tell it from all others.
    pub(super) fn labels(&self, role: &str) -> BTreeMap<String, String> {
        [(keys::APP, APP.to_owned()), (RUN, format!("{}-{role}", self.aims.run))]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }

    pub(super) fn name(&self, role: &str) -> String {
        format!("{APP}-{}-{role}", self.aims.run)
    }

    /// Makes a pod that pod security `restricted` allows and that ends by itself.
    pub(super) async fn make_pod(&self, role: &str, image: &str, command: &[&str]) -> Result<Pod> {
        let secrets = self.aims.image_pull_secrets.iter().map(|name| json!({"name": name}));
        let little = json!({"cpu": "10m", "memory": "16Mi"});
        let pod = json!({
            "metadata": {"name": self.name(role), "labels": self.labels(role)},
            "spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": self.aims.patience.as_secs() + LIFE,
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "imagePullSecrets": secrets.collect::<Vec<_>>(),
                "securityContext": {"runAsNonRoot": true, "runAsUser": NOBODY,
                    "runAsGroup": NOBODY, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": keys::CONTAINER,
                    "image": image,
                    "command": command,
                    "resources": {"requests": little, "limits": {"cpu": "100m", "memory": "32Mi"}},
                    "securityContext": {"allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "probe", "mountPath": "/probe"}],
                }],
                "volumes": [{"name": "probe", "emptyDir": {}}],
            },
        });
        self.made.pod(object(pod)?).await
    }

    /// Waits until a pod is so, will never be, or has had the time that it gets.
    pub(super) async fn wait(&self, name: &str, is_so: impl Fn(&Pod) -> bool) -> Result<Waited> {
        let mut last = None;
        let waited =
            tokio::time::timeout(self.aims.patience, self.watch(name, is_so, &mut last)).await;
        waited.unwrap_or_else(|_| {
            Ok(Waited::Not(last.unwrap_or_else(|| Why {
                reason: "Timeout".to_owned(),
                message: format!("it did not start within {} s", self.aims.patience.as_secs()),
            })))
        })
    }

    async fn watch(
        &self,
        name: &str,
        is_so: impl Fn(&Pod) -> bool,
        last: &mut Option<Why>,
    ) -> Result<Waited> {
        let fields = Some(format!("metadata.name={name}"));
        let (cluster, pods) = (self.cluster.clone(), self.cluster.pods());
        let mut states = pin!(watch::objects(cluster, pods, "pods", None, fields));
        let mut hope = Hope::default();
        while let Some(state) = states.next().await {
            let pod = match state {
                Ok(Raw::All(pods)) => pods.into_iter().next(),
                Ok(Raw::Set(pod)) => Some(pod),
                Ok(Raw::Gone(_)) => None,
                Err(error) if error.is_transient() => continue,
                Err(error) => return Err(error),
            };
            let Some(pod) = pod else { return Ok(Waited::Not(gone())) };
            if is_so(&pod) {
                return Ok(Waited::So(Box::new(pod)));
            }
            let why = why_of(&pod);
            let lost = why.as_ref().is_some_and(|why| hope.is_lost(&pod, why));
            let over = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let over = matches!(over, Some("Failed" | "Succeeded"));
            match why {
                Some(why) if lost || over => return Ok(Waited::Not(why)),
                None if over => return Ok(Waited::Not(ended())),
                why => *last = why.filter(why::is_trouble),
            }
        }
        Ok(Waited::Not(gone()))
    }

    /// Returns how long a probe pod may take to start.
    pub(super) fn patience(&self) -> Duration {
        self.aims.patience
    }
}

fn gone() -> Why {
    Why { reason: "Gone".to_owned(), message: "somebody else has deleted it".to_owned() }
}

fn ended() -> Why {
    Why { reason: "Completed".to_owned(), message: "it ended at once".to_owned() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Aims;
    use super::*;
    use crate::settings::Settings;

    /// Returns a doctor of a cluster that is not there.
    pub(crate) fn doctor() -> Doctor {
        service::install_crypto();
        let config = kube::Config::new(http::Uri::from_static("http://127.0.0.1:1"));
        let cluster = Cluster::of_config(config, Settings::default()).unwrap();
        Doctor { made: Made::in_cluster(&cluster), cluster, aims: Aims::default() }
    }

    #[tokio::test]
    async fn what_cannot_be_removed_is_named() {
        let doctor = doctor();
        let error = doctor.make_pod("a", "i", &["c"]).await.expect_err("nobody is there");
        assert!(error.is_transient(), "{error}");
        let left = doctor.clean_up().await;
        assert_eq!(left.len(), 1);
        assert!(left[0].starts_with("pod loom-weavers/loom-doctor-run-a: "), "{left:?}");
        assert!(doctor.clean_up().await.is_empty(), "it is told once");
    }
}
