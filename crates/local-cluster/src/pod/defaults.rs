//! The fields that Kubernetes fills in.

use serde_json::{Value, json};

use crate::pod::{probes, quantity};

/// Fills in what a new pod leaves open.
pub(crate) fn apply(pod: &mut Value) {
    let spec = &mut pod["spec"];
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", json!("default")),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("priority", json!(0)),
        ("securityContext", json!({})),
    ] {
        set(spec, field, value);
    }
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    for list in ["initContainers", "containers"] {
        items(spec, list).for_each(container);
    }
    items(spec, "volumes").for_each(volume);
}

fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.entry(field).or_insert(value);
    }
}

fn items<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", json!(policy));
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    set(container, "resources", json!({}));
    if let Some(limits) = container["resources"].get("limits").and_then(Value::as_object).cloned() {
        set(&mut container["resources"], "requests", json!({}));
        for (name, amount) in limits {
            set(&mut container["resources"]["requests"], &name, amount);
        }
    }
    probes::apply_defaults(container);
    for port in items(container, "ports") {
        set(port, "protocol", json!("TCP"));
    }
    for env in items(container, "env") {
        // `get_mut` all the way: indexing would leave a null behind.
        if let Some(field) = env.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef")) {
            set(field, "apiVersion", json!("v1"));
        }
    }
}

/// Whether an image is named by the tag `latest`, in words or by silence.
pub(crate) fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn volume(volume: &mut Value) {
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            set(source, "defaultMode", json!(420));
        }
    }
    let sources = volume.get_mut("projected").map(|projected| items(projected, "sources"));
    for source in sources.into_iter().flatten() {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            set(token, "expirationSeconds", json!(3600));
        }
        fields_of(source);
    }
    fields_of(volume);
    if let Some(image) = volume.get_mut("image") {
        let reference = image["reference"].as_str().unwrap_or_default();
        let policy = if is_latest(reference) { "Always" } else { "IfNotPresent" };
        set(image, "pullPolicy", json!(policy));
    }
}

fn fields_of(volume: &mut Value) {
    let Some(downward) = volume.get_mut("downwardAPI") else { return };
    for item in items(downward, "items") {
        if let Some(field) = item.get_mut("fieldRef") {
            set(field, "apiVersion", json!("v1"));
        }
    }
}

/// The status of a pod that nobody has looked at.
pub(crate) fn first_status(pod: &Value) -> Value {
    json!({"phase": "Pending", "qosClass": qos_class(pod)})
}

/// Kubernetes' classes of service.
fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let containers = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten());
    let (mut any, mut all) = (false, true);
    for container in containers {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let amount = |section: &str| {
                let text = resources[section][name].as_str()?;
                quantity::millis(text).filter(|amount| *amount > 0)
            };
            any |= amount("requests").is_some() || amount("limits").is_some();
            all &= amount("limits").is_some() && amount("limits") == amount("requests");
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_from_limits_and_decide_the_class() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "c", "image": "a:1", "env": [{"name": "A", "value": "1"}],
             "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}});
        apply(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["env"][0], json!({"name": "A", "value": "1"}));
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1");
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(qos_class(&pod), "Guaranteed");
        let mut pod = json!({"spec": {"containers": [{"name": "c", "image": "host:5000/a"}]}});
        apply(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(qos_class(&pod), "BestEffort");
    }
}
