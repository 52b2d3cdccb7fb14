//! What a pod's images are, once they are on this machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use pod_runtime::spec::Image;
use serde_json::Value;

use super::about::text;
use crate::images::UnpackedImage;
use crate::pod::{HOST_IMAGE, TOOLS_IMAGE};

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Host,
    Tools,
    Unpacked(Arc<UnpackedImage>),
}

/// The images of a pod by the reference that it uses.
pub(crate) type Images = BTreeMap<String, Found>;

impl Found {
    /// Returns one of those that every local cluster has.
    pub(crate) fn of_this_machine(reference: &str) -> Option<Self> {
        match reference.strip_suffix(":latest").unwrap_or(reference) {
            HOST_IMAGE => Some(Self::Host),
            TOOLS_IMAGE => Some(Self::Tools),
            _ => None,
        }
    }

    /// Returns how the runtime calls it.
    pub(crate) fn image(&self) -> Image {
        match self {
            Self::Host => Image::Host,
            Self::Tools => Image::Tools,
            Self::Unpacked(unpacked) => Image::Rootfs { path: unpacked.rootfs.clone() },
        }
    }

    /// Returns it, if it came from elsewhere.
    pub(crate) fn unpacked(&self) -> Option<&UnpackedImage> {
        match self {
            Self::Unpacked(unpacked) => Some(unpacked),
            Self::Host | Self::Tools => None,
        }
    }
}

/// An image that a pod needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) reference: String,
    pub(crate) policy: String,
    /// Where it is told of: Kubernetes shows a volume's image at the first container.
    pub(crate) container: String,
}

/// Returns the images of a pod, those of volumes first, each once.
pub(crate) fn wanted(pod: &Value) -> Vec<Wanted> {
    let spec = &pod["spec"];
    let list = |name: &str| spec[name].as_array().into_iter().flatten();
    let first = text(&spec["containers"][0]["name"]);
    let volumes = list("volumes").filter_map(|volume| volume.get("image"));
    let volumes = volumes.map(|image| (&image["reference"], &image["pullPolicy"], first));
    let containers = list("initContainers").chain(list("containers"));
    let containers = containers.map(|container| {
        (&container["image"], &container["imagePullPolicy"], text(&container["name"]))
    });
    let mut all: Vec<Wanted> = Vec::new();
    for (reference, policy, container) in volumes.chain(containers) {
        if !all.iter().any(|known| known.reference == text(reference)) {
            let (reference, policy) = (text(reference).to_owned(), text(policy).to_owned());
            all.push(Wanted { reference, policy, container: container.to_owned() });
        }
    }
    all
}

/// Puts whole names and digests into a status; what is not known any more stays as it was.
pub(crate) fn name_in(status: &mut Value, pod: &Value, images: &Images) {
    for (list, field) in super::status::LISTS {
        for (index, container) in pod["spec"][*list].as_array().into_iter().flatten().enumerate() {
            let known = images.get(text(&container["image"])).and_then(Found::unpacked);
            let old = &pod["status"][*field][index];
            let (name, id) = match known {
                Some(known) => (known.name.as_str(), known.id.as_str()),
                None if old["imageID"].as_str().is_some_and(|id| !id.is_empty()) => {
                    (text(&old["image"]), text(&old["imageID"]))
                }
                None => continue,
            };
            let Some(now) = status[*field].get_mut(index) else { continue };
            if now["state"].get("waiting").is_none() {
                now["image"] = name.into();
                now["imageID"] = id.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_wanted_once_and_volumes_first() {
        let pod = json!({"spec": {
            "volumes": [{"name": "e", "emptyDir": {}},
                        {"name": "t", "image": {"reference": "t:1", "pullPolicy": "Never"}}],
            "initContainers": [{"name": "i", "image": "a:1", "imagePullPolicy": "Always"}],
            "containers": [{"name": "c", "image": "a:1"}, {"name": "d", "image": "b:1"}]}});
        let of = |wanted: &Wanted| format!("{} {}", wanted.reference, wanted.container);
        let all: Vec<_> = wanted(&pod).iter().map(of).collect();
        assert_eq!(all, ["t:1 c", "a:1 i", "b:1 d"]);
    }

    #[test]
    fn names_in_a_status_survive_a_restart() {
        let pod = json!({"spec": {"containers": [{"name": "c", "image": "a"}]}, "status": {}});
        let fresh = || {
            json!({"containerStatuses": [
            {"image": "a", "imageID": "a", "state": {"running": {}}}]})
        };
        let known =
            UnpackedImage { name: "r/a:1".into(), id: "r/a@x".into(), ..UnpackedImage::default() };
        let images = Images::from([("a".to_owned(), Found::Unpacked(known.into()))]);
        let mut status = fresh();
        name_in(&mut status, &pod, &images);
        assert_eq!(status["containerStatuses"][0]["imageID"], "r/a@x");
        let mut later = pod.clone();
        later["status"] = status;
        let mut status = fresh();
        name_in(&mut status, &later, &Images::new());
        assert_eq!(status["containerStatuses"][0]["image"], "r/a:1");
        assert_eq!(status["containerStatuses"][0]["imageID"], "r/a@x");
    }
}
