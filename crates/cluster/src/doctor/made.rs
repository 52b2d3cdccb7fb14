//! What the doctor makes in a cluster, and that it is removed whatever happens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::{NamespaceResourceScope, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::error::{Call, Error, Result};
use crate::keys;
use crate::weavers::Cluster;

/// How old something of another run is before it is taken for forgotten, in seconds.
const FORGOTTEN: i64 = 3600;
/// How often a removal that fails is tried again.
const TRIES: usize = 3;

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
        self.create(pods(&self.cluster), "pods", Named::Pod(name), pod).await
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
            let call = call(&cluster, "create", resource, None);
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
                Named::Pod(name) => delete(&self.cluster, pods(&self.cluster), "pods", name).await,
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

    /// Removes what a run has left that was killed.
    pub(super) async fn remove_forgotten(&self) -> Result<()> {
        forgotten(&self.cluster, pods(&self.cluster), "pods").await?;
        match forgotten(&self.cluster, policies(&self.cluster), "networkpolicies").await {
            // A cluster may not have them, and an image can be tried without.
            Err(Error::NotFound { .. } | Error::Forbidden { .. }) => Ok(()),
            removed => removed,
        }
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

/// Returns the pods of the namespace that is looked at.
pub(super) fn pods(cluster: &Cluster) -> Api<Pod> {
    Api::namespaced(cluster.client().clone(), &cluster.settings().namespace)
}

/// Returns its NetworkPolicies.
pub(super) fn policies(cluster: &Cluster) -> Api<NetworkPolicy> {
    Api::namespaced(cluster.client().clone(), &cluster.settings().namespace)
}

fn call(
    cluster: &Cluster,
    verb: &'static str,
    resource: &'static str,
    name: Option<String>,
) -> Call {
    Call::new(verb, resource, &cluster.settings().namespace, name)
}

async fn delete<K>(cluster: &Cluster, api: Api<K>, resource: &'static str, name: &str) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let call = call(cluster, "delete", resource, Some(name.to_owned()));
    match cluster.within(call, api.delete(name, &DeleteParams::default())).await {
        Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn forgotten<K>(cluster: &Cluster, api: Api<K>, resource: &'static str) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = ListParams::default().labels(&format!("{}={}", keys::APP, keys::DOCTOR_VALUE));
    let found = cluster.within(call(cluster, "list", resource, None), api.list(&params)).await?;
    let now = cluster.now().await?.as_second();
    for object in found.items {
        let meta = object.meta();
        let made = meta.creation_timestamp.as_ref().map(|time| time.0.as_second());
        if made.is_some_and(|made| now - made > FORGOTTEN) {
            let name = meta.name.clone().unwrap_or_default();
            delete(cluster, api.clone(), resource, &name).await?;
        }
    }
    Ok(())
}
