//! Which pods can be run here: every other field is refused by name.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::api::FieldError;
use crate::pod::fields::{CONTAINER_FIELDS, POD_FIELDS, PROBE_FIELDS};
use crate::pod::probes::{self, PROBES};
use crate::pod::{quantity, volumes};

const UNSUPPORTED: &str = "the local cluster does not support this field";

/// Returns what keeps a new pod, already with its defaults, from running here.
pub(crate) fn create(pod: &Value) -> Vec<FieldError> {
    let spec = &pod["spec"];
    let mut check = Check(Vec::new());
    for (field, value) in spec.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "containers" | "initContainers") {
            check.fields(value, field, &format!("spec.{field}"), POD_FIELDS);
        }
    }
    check.volumes(spec);
    let mut names = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (at, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let path = format!("spec.{list}[{at}]");
            check.container(spec, container, &path, list == "initContainers");
            let name = container["name"].as_str().unwrap_or_default();
            if !names.insert(name.to_owned()) {
                check.0.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
    }
    check.pod(spec);
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        check.0.push(FieldError::required("spec.containers", ""));
    }
    check.0
}

const NOT_A_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
    characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
    '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/// Collects errors.
struct Check(Vec<FieldError>);

impl Check {
    /// Refuses everything set that is not in `known`. Lists are walked through.
    fn fields(&mut self, value: &Value, pattern: &str, path: &str, known: &[&str]) {
        let unset = matches!(value, Value::Null | Value::Bool(false))
            || value.as_str() == Some("")
            || value.as_array().is_some_and(Vec::is_empty);
        let wild = known.iter().any(|k| {
            k.strip_suffix(".*")
                .is_some_and(|k| pattern == k || pattern.starts_with(&format!("{k}.")))
        });
        if unset || wild || known.contains(&pattern) {
            return;
        }
        let below = format!("{pattern}.");
        if !known.iter().any(|k| k.starts_with(&below)) {
            self.0.push(FieldError::forbidden(path, UNSUPPORTED));
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.fields(value, &format!("{below}{name}"), &format!("{path}.{name}"), known);
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.fields(item, pattern, &format!("{path}[{at}]"), known);
                }
            }
            _ => self.0.push(FieldError::forbidden(path, UNSUPPORTED)),
        }
    }

    fn pod(&mut self, spec: &Value) {
        self.only(&spec["restartPolicy"], "spec.restartPolicy", &["Always", "OnFailure", "Never"]);
        self.only(&spec["dnsPolicy"], "spec.dnsPolicy", &["ClusterFirst", "Default"]);
        self.only(&spec["schedulerName"], "spec.schedulerName", &["default-scheduler"]);
        self.only(&spec["nodeName"], "spec.nodeName", &[crate::kubelet::NODE]);
        for (field, only) in [("automountServiceAccountToken", false), ("hostUsers", false)] {
            self.only_flag(&spec[field], &format!("spec.{field}"), only);
        }
        if let Some(deadline) = spec.get("activeDeadlineSeconds")
            && !deadline
                .as_i64()
                .is_some_and(|seconds| (1..=i64::from(i32::MAX)).contains(&seconds))
        {
            let why = "must be between 1 and 2147483647, inclusive";
            self.0.push(FieldError::invalid("spec.activeDeadlineSeconds", deadline, why));
        }
        let grace = &spec["terminationGracePeriodSeconds"];
        if grace.as_i64().is_some_and(|seconds| seconds < 0) {
            let why = "must be greater than or equal to 0";
            self.0.push(FieldError::invalid("spec.terminationGracePeriodSeconds", grace, why));
        }
        self.security(&spec["securityContext"], "spec.securityContext");
        if let Some(hostname) = spec.get("hostname")
            && !hostname.as_str().is_some_and(crate::api::is_dns_label)
        {
            self.0.push(FieldError::invalid("spec.hostname", hostname, NOT_A_LABEL));
        }
    }

    fn only(&mut self, value: &Value, path: &str, known: &[&str]) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty() && !known.contains(text))
        {
            self.0.push(FieldError::unsupported(path, text, known));
        }
    }

    fn only_flag(&mut self, value: &Value, path: &str, only: bool) {
        if value.as_bool().is_some_and(|flag| flag != only) {
            let why = format!("the local cluster supports only {only}");
            self.0.push(FieldError::forbidden(path, &why));
        }
    }

    fn security(&mut self, context: &Value, path: &str) {
        let profile = &context["seccompProfile"]["type"];
        self.only(profile, &format!("{path}.seccompProfile.type"), &["RuntimeDefault"]);
        let escalation = format!("{path}.allowPrivilegeEscalation");
        self.only_flag(&context["allowPrivilegeEscalation"], &escalation, false);
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            let id = &context[field];
            if id.as_i64().is_some_and(|id| !(0..65_536).contains(&id)) {
                let why = "must be between 0 and 65535: a local pod has 65536 ids";
                self.0.push(FieldError::invalid(format!("{path}.{field}"), id, why));
            }
        }
    }

    fn ports(&mut self, container: &Value, path: &str) {
        let ports = container["ports"].as_array().into_iter().flatten().enumerate();
        for (at, port) in
            ports.filter(|(_, port)| port["hostPort"].as_i64().is_some_and(|n| n != 0))
        {
            let path = format!("{path}.ports[{at}]");
            if !port["hostPort"].as_i64().is_some_and(|port| (1..65_536).contains(&port)) {
                let why = "must be between 1 and 65535, inclusive";
                let place = format!("{path}.hostPort");
                self.0.push(FieldError::invalid(place, &port["hostPort"], why));
            }
            self.only(&port["hostIP"], &format!("{path}.hostIP"), &["127.0.0.1"]);
            self.only(&port["protocol"], &format!("{path}.protocol"), &["TCP"]);
        }
    }

    fn volumes(&mut self, spec: &Value) {
        let mut names = HashSet::new();
        for (at, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
            let path = format!("spec.volumes[{at}]");
            let name = volume["name"].as_str().unwrap_or_default();
            if !crate::api::is_dns_label(name) {
                let why = NOT_A_LABEL;
                self.0.push(FieldError::invalid(format!("{path}.name"), &volume["name"], why));
            }
            if !names.insert(name) {
                self.0.push(FieldError::duplicate(format!("{path}.name"), name));
            }
            let sources = volume.as_object().map_or(0, |fields| fields.len() - 1);
            if sources == 0 {
                self.0.push(FieldError::required(path.as_str(), "must specify a volume type"));
            } else if sources > 1 {
                let why = "may not specify more than 1 volume type";
                self.0.push(FieldError::forbidden(path.as_str(), why));
            }
            self.0.extend(volumes::check(volume, &path));
            self.only(
                &volume["emptyDir"]["medium"],
                &format!("{path}.emptyDir.medium"),
                &["Memory"],
            );
        }
    }

    fn container(&mut self, spec: &Value, container: &Value, path: &str, init: bool) {
        for (field, value) in container.as_object().into_iter().flatten() {
            let place = format!("{path}.{field}");
            match PROBES.contains(&field.as_str()) {
                true => self.fields(value, "probe", &place, PROBE_FIELDS),
                false => self.fields(value, field, &place, CONTAINER_FIELDS),
            }
        }
        let name = &container["name"];
        if name.as_str().is_none_or(str::is_empty) {
            self.0.push(FieldError::required(format!("{path}.name"), ""));
        } else if !name.as_str().is_some_and(crate::api::is_dns_label) {
            self.0.push(FieldError::invalid(format!("{path}.name"), name, NOT_A_LABEL));
        }
        if container["image"].as_str().unwrap_or_default().is_empty() {
            self.0.push(FieldError::required(format!("{path}.image"), ""));
        }
        self.restarts(container, path, init);
        self.0.extend(probes::check(container, path));
        self.only(
            &container["imagePullPolicy"],
            &format!("{path}.imagePullPolicy"),
            &["Always", "IfNotPresent", "Never"],
        );
        self.security(&container["securityContext"], &format!("{path}.securityContext"));
        self.resources(&container["resources"], &format!("{path}.resources"));
        self.ports(container, path);
        self.env(container, path);
        self.mounts(spec, container, path);
    }

    /// Only init containers may say whether they restart, and only those that do have probes.
    fn restarts(&mut self, container: &Value, path: &str, init: bool) {
        let policy = &container["restartPolicy"];
        if !init && !policy.is_null() {
            let why = "may not be set for non-init containers";
            self.0.push(FieldError::forbidden(format!("{path}.restartPolicy"), why));
        }
        if !init {
            return;
        }
        self.only(policy, &format!("{path}.restartPolicy"), &["Always"]);
        for probe in PROBES.iter().filter(|probe| container.get(**probe).is_some()) {
            if policy != "Always" {
                let why = "may not be set for init containers without restartPolicy=Always";
                self.0.push(FieldError::forbidden(format!("{path}.{probe}"), why));
            }
        }
    }

    fn env(&mut self, container: &Value, path: &str) {
        for (at, env) in container["env"].as_array().into_iter().flatten().enumerate() {
            let path = format!("{path}.env[{at}]");
            let name = env["name"].as_str().unwrap_or_default();
            if name.is_empty() {
                self.0.push(FieldError::required(format!("{path}.name"), ""));
            } else if name.contains(['=', '\0']) {
                let why = "a valid environment variable name must consist only of printable \
                           ASCII characters other than '='";
                self.0.push(FieldError::invalid(format!("{path}.name"), &env["name"], why));
            }
            if env["value"].as_str().is_some_and(|value| value.contains('\0')) {
                let why = "must not contain NUL";
                self.0.push(FieldError::invalid(format!("{path}.value"), &json!("..."), why));
            }
            let field = env["valueFrom"]["fieldRef"]["fieldPath"].as_str();
            if let Some(field) = field.filter(|field| !crate::kubelet::knows_field(field)) {
                let path = format!("{path}.valueFrom.fieldRef.fieldPath");
                self.0.push(FieldError::unsupported(path, field, crate::kubelet::FIELDS));
            }
        }
    }

    fn mounts(&mut self, spec: &Value, container: &Value, path: &str) {
        let volumes = || spec["volumes"].as_array().into_iter().flatten();
        let mut paths = HashSet::new();
        for (at, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
            let path = format!("{path}.volumeMounts[{at}]");
            if !volumes().any(|volume| volume["name"] == mount["name"]) {
                self.0.push(FieldError {
                    reason: "FieldValueNotFound",
                    field: format!("{path}.name"),
                    message: format!("Not found: {}", mount["name"]),
                });
            }
            let place = mount["mountPath"].as_str().unwrap_or_default();
            let inside = |text: &str| text.split('/').all(|part| part != "..");
            if !place.starts_with('/') || !inside(place) {
                let why = "must be an absolute path without '..'";
                self.0.push(FieldError::invalid(
                    format!("{path}.mountPath"),
                    &mount["mountPath"],
                    why,
                ));
            }
            if !paths.insert(place) {
                self.0.push(FieldError::duplicate(format!("{path}.mountPath"), place));
            }
            let sub = mount["subPath"].as_str().unwrap_or_default();
            if sub.starts_with('/') || !inside(sub) {
                let why = "must be a relative path without '..'";
                self.0.push(FieldError::invalid(format!("{path}.subPath"), &mount["subPath"], why));
            }
        }
    }

    fn resources(&mut self, resources: &Value, path: &str) {
        for section in ["limits", "requests"] {
            for (name, amount) in resources[section].as_object().into_iter().flatten() {
                let path = format!("{path}.{section}[{name}]");
                let text = amount.as_str().unwrap_or_default();
                let parsed = quantity::millis(text);
                if !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                    self.0.push(FieldError::forbidden(
                        path,
                        "the local cluster has no such resource",
                    ));
                } else if parsed.is_none() {
                    self.0.push(FieldError::invalid(path, amount, "must be a quantity"));
                } else if section == "requests"
                    && let Some(limit) = resources["limits"][name].as_str()
                    && quantity::millis(limit) < parsed
                {
                    let why = format!("must be less than or equal to {name} limit of {limit}");
                    self.0.push(FieldError::invalid(path, amount, &why));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut pod = json!({"spec": {"restartPolicy": "Never", "containers": [
            {"name": "c", "image": "loom.local/host", "command": ["sh"]}]}});
        change(&mut pod["spec"]);
        crate::pod::defaults::apply(&mut pod);
        create(&pod).into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn an_ordinary_pod_is_fine() {
        assert_eq!(errors(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        type Change = fn(&mut Value);
        let cases: &[(&str, Change)] = &[
            ("spec.hostNetwork", |s| s["hostNetwork"] = json!(true)),
            ("spec.hostPID", |s| s["hostPID"] = json!(true)),
            ("spec.hostIPC", |s| s["hostIPC"] = json!(true)),
            ("spec.restartPolicy", |s| s["restartPolicy"] = json!("Sometimes")),
            ("spec.volumes[0].hostPath", |s| {
                s["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]);
            }),
            ("spec.containers[0].securityContext.privileged", |s| {
                s["containers"][0]["securityContext"] = json!({"privileged": true});
            }),
            ("spec.containers[0].securityContext.capabilities.add", |s| {
                s["containers"][0]["securityContext"] =
                    json!({"capabilities": {"add": ["NET_RAW"]}});
            }),
            ("spec.containers[0].ports[0].hostPort", |s| {
                s["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": 65_536}]);
            }),
            ("spec.containers[0].ports[0].hostIP", |s| {
                let port = json!({"containerPort": 1, "hostPort": 1, "hostIP": "0.0.0.0"});
                s["containers"][0]["ports"] = json!([port]);
            }),
            ("spec.containers[0].ports[0].protocol", |s| {
                let port = json!({"containerPort": 1, "hostPort": 1, "protocol": "UDP"});
                s["containers"][0]["ports"] = json!([port]);
            }),
            ("spec.runtimeClassName", |s| s["runtimeClassName"] = json!("x")),
            ("spec.nodeSelector", |s| s["nodeSelector"] = json!({"a": "b"})),
            ("spec.securityContext.seccompProfile.type", |s| {
                s["securityContext"] = json!({"seccompProfile": {"type": "Unconfined"}});
            }),
            ("spec.containers[0].volumeMounts[0].name", |s| {
                s["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": "/x"}]);
            }),
        ];
        for (field, change) in cases {
            assert_eq!(errors(change), vec![(*field).to_owned()]);
        }
    }

    #[test]
    fn probes_and_restarts_are_refused_where_they_do_not_belong() {
        let host = json!({"httpGet": {"port": 1, "host": "h"}});
        let host = errors(|s| s["containers"][0]["startupProbe"] = host);
        assert_eq!(host, ["spec.containers[0].startupProbe.httpGet.host"]);
        let main = errors(|s| s["containers"][0]["restartPolicy"] = json!("Always"));
        assert_eq!(main, ["spec.containers[0].restartPolicy"]);
        let probed = |policy: Option<&str>| {
            errors(|s| {
                let mut init = s["containers"][0].clone();
                init["name"] = json!("i");
                init["livenessProbe"] = json!({"exec": {"command": ["x"]}});
                if let Some(policy) = policy {
                    init["restartPolicy"] = json!(policy);
                }
                s["initContainers"] = json!([init]);
            })
        };
        assert_eq!(probed(None), ["spec.initContainers[0].livenessProbe"]);
        assert_eq!(probed(Some("Always")), Vec::<String>::new());
    }
}
