//! Kubernetes without Loom in between: what is really there, and changes behind Loom's back.

use std::collections::BTreeSet;
use std::path::Path;

use ::kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Api, Client, Config};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const CREATED: &str = "loom.dev/created-at";
const EXPIRES: &str = "loom.dev/expires-at";

/// A namespace of a cluster.
pub(crate) struct Kube {
    runtime: Runtime,
    pub(crate) namespace: String,
    client: Client,
    /// Whether it is ours to remove.
    own: bool,
}

/// What calls are made on.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

impl Kube {
    /// Looks at a namespace that is there.
    pub(crate) fn connect(kubeconfig: &Path, namespace: &str) -> Self {
        service::install_crypto();
        let runtime = runtime();
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(kubeconfig).unwrap();
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await.unwrap();
            Client::try_from(config).unwrap()
        });
        Self { runtime, namespace: namespace.to_owned(), client, own: false }
    }

    /// Makes a namespace, with the security level that a deployment has.
    pub(crate) fn create_namespace(kubeconfig: &Path) -> Self {
        let name = format!("loom-life-{}", uuid::Uuid::new_v4().simple());
        let mut kube = Self::connect(kubeconfig, &name);
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let api = Api::all(kube.client.clone());
        kube.runtime.block_on(api.create(&PostParams::default(), &namespace)).unwrap();
        kube.own = true;
        kube
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns all pods.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.runtime.block_on(self.api().list(&ListParams::default())).unwrap().items
    }

    /// Returns the ids that pods have as weavers; two with the same one fail.
    pub(crate) fn weaver_ids(&self) -> BTreeSet<String> {
        let pods = self.pods();
        let id = |pod: &Pod| pod.metadata.labels.as_ref().unwrap()["weaver-id"].clone();
        let ids: BTreeSet<_> = pods.iter().map(id).collect();
        assert_eq!(ids.len(), pods.len(), "two pods are the same weaver");
        ids
    }

    /// Returns one weaver's pod, if it is there.
    pub(crate) fn pod(&self, id: &str) -> Option<Pod> {
        self.runtime.block_on(self.api().get_opt(&pod_name(id))).unwrap()
    }

    /// Makes a pod that Loom knows nothing of.
    pub(crate) fn create(&self, pod: Value) {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.runtime.block_on(self.api().create(&PostParams::default(), &pod)).unwrap();
    }

    /// Changes a weaver's annotations.
    pub(crate) fn annotate(&self, id: &str, annotations: Value) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let (api, name, params) = (self.api(), pod_name(id), PatchParams::default());
        self.runtime.block_on(api.patch(&name, &params, &patch)).unwrap();
    }

    /// Returns when a weaver was made and when it ends.
    pub(crate) fn span(&self, id: &str) -> (Timestamp, Timestamp) {
        let annotations = self.pod(id).unwrap().metadata.annotations.unwrap();
        let read = |key: &str| annotations[key].parse().unwrap();
        (read(CREATED), read(EXPIRES))
    }

    /// Lets a weaver look as if it had been made hours earlier.
    pub(crate) fn age(&self, id: &str, hours: i64) {
        let (created, expires) = self.span(id);
        let earlier = |time: Timestamp| (time - SignedDuration::from_hours(hours)).to_string();
        self.annotate(id, json!({CREATED: earlier(created), EXPIRES: earlier(expires)}));
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        if !self.own {
            return;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let params = DeleteParams::default().grace_period(0);
        let gone = self.runtime.block_on(namespaces.delete(&self.namespace, &params));
        if let Err(error) = gone {
            eprintln!("namespace {} is left: {error}", self.namespace);
        }
    }
}

fn pod_name(id: &str) -> String {
    format!("weaver-{}", id.trim_start_matches("W-"))
}
