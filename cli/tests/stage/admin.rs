//! What an administrator does to a cluster: accounts with some rights, namespaces, quotas, policies.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::core::{ClusterResourceScope, NamespaceResourceScope, Resource};
use ::kube::{Client, Config};
use cluster::rights::{Right, Service};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Stage;
use super::kube::runtime;
use super::server::Server;
use crate::support::until;

const FINALIZER: &str = "loom.test/held";

impl Stage {
    /// Returns where this deployment's kubeconfig is.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.variable("LOOM_SERVER_KUBECONFIG").into()
    }

    /// Prepares `loom` with this deployment's token and without its server.
    pub(crate) fn plain(&self, line: &str) -> Command {
        let mut command = self.world.command(line, &[]);
        command.env("LOOM_TOKEN_FILE", self.world.path("server-token"));
        command
    }

    /// Returns a setting of the servers.
    pub(crate) fn variable(&self, name: &str) -> &str {
        &self.variables.iter().find(|(key, _)| key == name).unwrap().1
    }

    /// Starts another server of this deployment, with other settings, and does not wait for it.
    pub(crate) fn launch(&self, name: &'static str, settings: &[(&str, &str)]) -> Server {
        let mut variables = self.variables.clone();
        for (key, value) in settings {
            variables.retain(|(known, _)| known != key);
            variables.push(((*key).to_owned(), (*value).to_owned()));
        }
        let listen = match name {
            "loom-relay" => "LOOM_SERVER_RELAY_LISTEN",
            _ => "LOOM_SERVER_LISTEN",
        };
        let log = self.world.path(&format!("{name}-{}.log", uuid::Uuid::new_v4().simple()));
        Server::launch(name, listen, &variables, log)
    }

    /// Returns the administrator of this deployment's cluster.
    pub(crate) fn admin(&self) -> Admin {
        Admin::connect(self.kubeconfig(), self.world.path("accounts"))
    }
}

/// Somebody who may do everything; the namespaces he made go with him.
pub(crate) struct Admin {
    runtime: Runtime,
    client: Client,
    kubeconfig: PathBuf,
    /// Where kubeconfigs of accounts are put.
    folder: PathBuf,
    namespaces: Vec<String>,
}

impl Admin {
    fn connect(kubeconfig: PathBuf, folder: PathBuf) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(async {
            let (file, options) = (read(&kubeconfig), KubeConfigOptions::default());
            let config = Config::from_custom_kubeconfig(file, &options).await.unwrap();
            Client::try_from(config).unwrap()
        });
        std::fs::create_dir_all(&folder).unwrap();
        Self { runtime, client, kubeconfig, folder, namespaces: Vec::new() }
    }

    /// Makes something in a namespace.
    pub(crate) fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let object = serde_json::from_value(object).unwrap();
        self.runtime.block_on(api.create(&PostParams::default(), &object)).unwrap()
    }

    /// Changes something in a namespace.
    pub(crate) fn patch<K>(&self, namespace: &str, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.runtime.block_on(api.patch(name, &params, &patch)).unwrap();
    }

    /// Deletes something in a namespace.
    pub(crate) fn delete<K>(&self, namespace: &str, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        self.runtime.block_on(api.delete(name, &DeleteParams::default())).unwrap();
    }

    /// Makes something that belongs to no namespace.
    pub(crate) fn create_for_all<K>(&self, object: Value)
    where
        K: Resource<Scope = ClusterResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::all(self.client.clone());
        let object = serde_json::from_value(object).unwrap();
        self.runtime.block_on(api.create(&PostParams::default(), &object)).unwrap();
    }

    /// Changes something that belongs to no namespace.
    pub(crate) fn patch_for_all<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::all(self.client.clone());
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.runtime.block_on(api.patch(name, &params, &patch)).unwrap();
    }

    /// Deletes something that belongs to no namespace.
    pub(crate) fn delete_for_all<K>(&self, name: &str)
    where
        K: Resource<Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::all(self.client.clone());
        self.runtime.block_on(api.delete(name, &DeleteParams::default())).unwrap();
    }

    /// Makes a namespace, as soon as no other of its name is left.
    pub(crate) fn make_namespace(&mut self, name: &str) {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api = Api::<Namespace>::all(self.client.clone());
        let params = PostParams::default();
        until("the namespace can be made", || {
            self.runtime.block_on(api.create(&params, &namespace)).is_ok()
        });
        self.namespaces.push(name.to_owned());
    }

    /// Makes a namespace of a new name.
    pub(crate) fn new_namespace(&mut self) -> String {
        let name = new_name();
        self.make_namespace(&name);
        name
    }

    /// Deletes a namespace, which stays as long as something in it is held.
    pub(crate) fn hold_and_delete(&self, name: &str) {
        let held = json!({"metadata": {"name": "held", "finalizers": [FINALIZER]}});
        self.create::<ConfigMap>(name, held);
        self.delete_for_all::<Namespace>(name);
    }

    /// Lets go what [`Admin::hold_and_delete`] holds.
    pub(crate) fn release(&self, name: &str) {
        self.patch::<ConfigMap>(name, "held", json!({"metadata": {"finalizers": null}}));
    }

    /// Makes a service's account with these rights and returns its kubeconfig.
    pub(crate) fn account(
        &self,
        service: Service,
        system: &str,
        weavers: &str,
        rights: &[Right],
    ) -> PathBuf {
        let name = service.name();
        self.create::<ServiceAccount>(system, json!({"metadata": {"name": name}}));
        self.create::<Role>(weavers, json!({"metadata": {"name": name}, "rules": rules(rights)}));
        let binding = json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": system}]});
        self.create::<RoleBinding>(weavers, binding);
        self.kubeconfig_of(service, system)
    }

    /// Gives a service these rights and no others.
    pub(crate) fn grant(&self, service: Service, weavers: &str, rights: &[Right]) {
        self.patch::<Role>(weavers, service.name(), json!({"rules": rules(rights)}));
    }

    fn kubeconfig_of(&self, service: Service, system: &str) -> PathBuf {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), system);
        let request: TokenRequest =
            serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let params = PostParams::default();
        let asked = api.create_token_request(service.name(), &params, &request);
        let token = self.runtime.block_on(asked).unwrap().status.unwrap().token;
        let mut file = read(&self.kubeconfig);
        for user in &mut file.auth_infos {
            user.auth_info = Some(serde_json::from_value(json!({"token": token})).unwrap());
        }
        let path = self.folder.join(service.name());
        std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
        path
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let api = Api::<Namespace>::all(self.client.clone());
        for name in &self.namespaces {
            // It may be gone already.
            let _ = self.runtime.block_on(api.delete(name, &DeleteParams::default()));
        }
    }
}

/// Returns a name that no namespace has.
pub(crate) fn new_name() -> String {
    format!("loom-life-{}", uuid::Uuid::new_v4().simple())
}

/// Writes rights as rules of a Role.
fn rules(rights: &[Right]) -> Value {
    let rule = |right: &Right| json!({"apiGroups": [""], "resources": [right.resource], "verbs": [right.verb]});
    rights.iter().map(rule).collect()
}

fn read(path: &Path) -> Kubeconfig {
    Kubeconfig::read_from(path).unwrap()
}
