//! Whether the namespaces are there to be used, and keep privileged pods out.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::{Check, Doctor, made};
use crate::error::{Call, ENDING_NAMESPACE, Error};

/// The label of a namespace by which pod security is enforced in it.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const NAME: &str = "namespace";
const SECURITY: &str = "pod-security";

impl Doctor {
    pub(super) async fn namespaces(&self) -> Vec<Check> {
        let (weavers, system) = (&self.aims.namespace, &self.aims.system_namespace);
        let mut checks = Vec::new();
        match self.namespace(weavers).await {
            Ok(namespace) => {
                checks.push(there(weavers));
                checks.push(self.security(&namespace).await);
            }
            Err(missing) => checks.push(missing),
        }
        checks.push(match self.namespace(system).await {
            Ok(_) => there(system),
            // Services may run elsewhere: only what is half there is wrong.
            Err(Check { detail, fix: Some(fix), .. }) => {
                Check::warning(NAME, format!("{detail} (for the services)"), fix)
            }
            Err(check) => check,
        });
        checks
    }

    /// Returns a namespace that can be used, or what is wrong.
    async fn namespace(&self, name: &str) -> Result<Namespace, Check> {
        let api = Api::<Namespace>::all(self.cluster.client().clone());
        let call = Call::new("get", "namespaces", name, None);
        let found = self.cluster.within(call, api.get(name)).await;
        let phase = |namespace: &Namespace| namespace.status.as_ref()?.phase.clone();
        match found {
            Ok(namespace) if phase(&namespace).as_deref() == Some("Terminating") => {
                let fix = format!("see what holds it: kubectl get namespace {name} -o yaml");
                Err(Check::failed(NAME, format!("namespace {name} {ENDING_NAMESPACE}"), fix))
            }
            Ok(namespace) => Ok(namespace),
            Err(Error::Namespace { .. }) => {
                let fix = "make it with the manifests: kubectl apply -k k3d/manifests/overlays/production";
                Err(Check::failed(NAME, format!("namespace {name} does not exist"), fix))
            }
            Err(error) => {
                Err(Check::failed(NAME, error.to_string(), "ask with an account that may"))
            }
        }
    }

    /// Reads the label, and then asks for a privileged pod without making it.
    async fn security(&self, namespace: &Namespace) -> Check {
        let name = &self.aims.namespace;
        let label = namespace.metadata.labels.as_ref().and_then(|labels| labels.get(ENFORCE));
        let fix = format!("kubectl label --overwrite namespace {name} {ENFORCE}=restricted");
        let refused = match self.takes_privileged_pods().await {
            Ok(refused) => refused,
            Err(error) => {
                let detail = format!("it cannot be tried whether {name} keeps out privileged pods");
                let fix = "ask with an account that may create pods there";
                return Check::warning(SECURITY, format!("{detail}: {error}"), fix);
            }
        };
        match (label.map(String::as_str), refused) {
            (_, None) => {
                let detail = format!("namespace {name} takes privileged pods");
                Check::failed(SECURITY, detail, fix)
            }
            (Some("restricted"), Some(_)) => {
                let detail = format!("{name} is restricted, and a privileged pod is refused");
                Check::ok(SECURITY, detail)
            }
            (Some(level), Some(_)) => Check::warning(
                SECURITY,
                format!("{name} enforces {level}; weavers need no more than restricted allows"),
                format!("unless weavers run as root: {fix}"),
            ),
            (None, Some(words)) => Check::ok(
                SECURITY,
                format!("{name} has no label {ENFORCE}, but a privileged pod is refused: {words}"),
            ),
        }
    }

    /// Returns the cluster's words if it refuses a privileged pod.
    async fn takes_privileged_pods(&self) -> Result<Option<String>, Error> {
        let pod = json!({"metadata": {"name": format!("loom-doctor-{}-p", self.aims.run)},
            "spec": {"hostPID": true, "containers": [{"name": "c", "image": self.aims.probe_image,
                "securityContext": {"privileged": true}}]}});
        let pod: Pod = super::probe::object(pod)?;
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let call = Call::new("create", "pods", &self.aims.namespace, None);
        match self.cluster.within(call, made::pods(&self.cluster).create(&params, &pod)).await {
            Ok(_) => Ok(None),
            Err(Error::Refused { message } | Error::Invalid { message }) => {
                Ok(Some(message.chars().take(120).collect()))
            }
            Err(error) => Err(error),
        }
    }
}

fn there(name: &str) -> Check {
    Check::ok(NAME, format!("namespace {name} is there"))
}
