//! Pods of the doctor's own: how they are written, and how they are waited for.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weaver::Why;

use super::{Doctor, made};
use crate::error::{Error, Result};
use crate::watch::{self, Raw};
use crate::why::{self, Hope};
use crate::{keys, why::why as why_of};

/// How long a probe pod may live at most, beyond the time it has for starting, in seconds.
const LIFE: u64 = 180;
/// The user of probe pods: nobody.
const NOBODY: u64 = 65_534;

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
        [
            (keys::APP, keys::DOCTOR_VALUE.to_owned()),
            (keys::DOCTOR_RUN, format!("{}-{role}", self.aims.run)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    pub(super) fn name(&self, role: &str) -> String {
        format!("{}-{}-{role}", keys::DOCTOR_VALUE, self.aims.run)
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
        let namespace = self.aims.namespace.clone();
        let what = watch::What { resource: "pods", namespace, labels: None, fields };
        let (cluster, pods) = (self.cluster.clone(), made::pods(&self.cluster));
        let mut states = pin!(watch::objects(cluster, pods, what));
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
    use super::super::made::Made;
    use super::*;
    use crate::settings::Settings;
    use crate::weavers::Cluster;

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
