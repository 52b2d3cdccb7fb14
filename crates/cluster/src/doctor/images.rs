//! Whether nodes get the images: a pod that needs one is made, and the node says how that went.
//!
//! Nothing of an image is run: the pod asks for a program that no image has.

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::ListParams;

use super::probe::Waited;
use super::{Check, Doctor};
use crate::error::{Call, Error, Result};
use crate::pod::phase;
use crate::rights::Service;

const NAME: &str = "image";
/// A program that no image has.
const NOTHING: &str = "/loom-doctor/starts/nothing";
/// The settings of handlers that name images.
const SETTINGS: [&str; 2] = ["LOOM_SERVER_WEAVER_IMAGE", "LOOM_SERVER_TOOLS_IMAGE"];

impl Doctor {
    pub(super) async fn images(&self) -> Vec<Check> {
        let images = if self.aims.images.is_empty() { self.deployed().await } else { Vec::new() };
        let images = if images.is_empty() { self.aims.images.clone() } else { images };
        if images.is_empty() {
            return vec![Check::warning(
                NAME,
                "no image was tried: there is no Deployment of loom-handlers that names one",
                "name them: --weaver-image IMAGE --tools-image IMAGE",
            )];
        }
        if let Err(error) = self.made.remove_forgotten().await {
            return vec![untried(&images.join(" and "), &error)];
        }
        let tries = images.iter().enumerate().map(|(nth, image)| self.image(nth, image));
        join_all(tries).await
    }

    /// Returns the images that the deployed handlers give to weavers.
    async fn deployed(&self) -> Vec<String> {
        let namespace = &self.aims.system_namespace;
        let api = Api::<Deployment>::namespaced(self.cluster.client().clone(), namespace);
        let call = Call::new("get", "deployments", namespace, None);
        let found = self.cluster.within(call, api.get(Service::Handlers.name())).await;
        let pod = found.ok().and_then(|deployment| deployment.spec?.template.spec);
        let containers = pod.into_iter().flat_map(|pod| pod.containers);
        let variables = containers.flat_map(|container| container.env.unwrap_or_default());
        let named = variables.filter(|variable| SETTINGS.contains(&variable.name.as_str()));
        named.filter_map(|variable| variable.value).collect()
    }

    async fn image(&self, nth: usize, image: &str) -> Check {
        match self.fetched(&format!("image-{nth}"), image).await {
            Ok(check) => check,
            Err(error) => untried(image, &error),
        }
    }

    async fn fetched(&self, role: &str, image: &str) -> Result<Check> {
        let name = self.name(role);
        self.make_pod(role, image, &[NOTHING]).await?;
        Ok(match self.wait(&name, has_image).await? {
            Waited::So(pod) => {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                let node = node.unwrap_or_default();
                let how = self.how(&name).await;
                Check::ok(NAME, format!("{image} on node {node}{how} (other nodes were not asked)"))
            }
            Waited::Not(why) if is_about_images(&why.reason) => Check::failed(
                NAME,
                format!("{image}: {}", why.message),
                "check its name, the registry and the pull secrets (--pull-secret NAME)",
            ),
            Waited::Not(why) => Check::warning(
                NAME,
                format!(
                    "{image}: it could not be found out within {} s: {}",
                    self.patience().as_secs(),
                    why.message
                ),
                "give it more time: --patience SECONDS",
            ),
        })
    }

    /// Returns what the node says of how it got the image, where events can be read.
    async fn how(&self, name: &str) -> String {
        let namespace = &self.aims.namespace;
        let api = Api::<Event>::namespaced(self.cluster.client().clone(), namespace);
        let params = ListParams::default()
            .fields(&format!("involvedObject.kind=Pod,involvedObject.name={name}"));
        let call = Call::new("list", "events", namespace, None);
        let events = self.cluster.within(call, api.list(&params)).await;
        let mut events = events.into_iter().flat_map(|list| list.items);
        let pulled = events.find(|event| event.reason.as_deref() == Some("Pulled"));
        match pulled.and_then(|event| event.message) {
            Some(said) if said.contains("already present") => ": it was there already".to_owned(),
            Some(_) => ": fetched".to_owned(),
            None => String::new(),
        }
    }
}

/// Tells whether the node has gone beyond the image: it knows its id, or tried to start it.
fn has_image(pod: &Pod) -> bool {
    phase::container(pod).is_some_and(|status| {
        let state = status.state.as_ref();
        let waits = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
        let begun =
            state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        begun
            || !status.image_id.is_empty()
            || matches!(waits, Some("CreateContainerError" | "RunContainerError"))
    })
}

fn is_about_images(reason: &str) -> bool {
    reason.contains("Image") && reason != "ImageVolumeMountFailed"
}

fn untried(image: &str, error: &Error) -> Check {
    let detail = format!("it could not be tried whether nodes get {image}: {error}");
    Check::warning(NAME, detail, "ask with an account that may create pods in that namespace")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(state: Value, image_id: &str) -> Pod {
        let status = json!({"containerStatuses": [{"name": "weaver", "ready": false,
            "restartCount": 0, "image": "", "imageID": image_id, "state": state}]});
        super::super::probe::object(json!({"status": status})).unwrap()
    }

    #[test]
    fn an_image_is_there_when_the_node_went_on() {
        let waiting = |reason: &str| pod(json!({"waiting": {"reason": reason}}), "");
        for reason in ["ContainerCreating", "ErrImagePull", "ImagePullBackOff"] {
            assert!(!has_image(&waiting(reason)), "{reason}");
        }
        assert!(has_image(&waiting("CreateContainerError")));
        assert!(has_image(&pod(json!({"terminated": {"exitCode": 128}}), "")));
        assert!(has_image(&pod(json!({"waiting": {"reason": "x"}}), "sha256:1")));
        assert!(is_about_images("ErrImagePull") && !is_about_images("Unschedulable"));
    }
}
