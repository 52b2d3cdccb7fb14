//! Which probes make sense, in Kubernetes' words.

use serde_json::Value;

use crate::api::FieldError;

/// The fields of a container that are probes.
pub(crate) const PROBES: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];
const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const SCHEMES: [&str; 2] = ["HTTP", "HTTPS"];
const NUMBERS: [&str; 5] = [
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
];

/// Fills in what a probe leaves open.
pub(crate) fn apply_defaults(container: &mut Value) {
    for probe in PROBES {
        let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) else { continue };
        for (field, value) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            probe.entry(field).or_insert(value.into());
        }
        if let Some(http) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
            http.entry("scheme").or_insert("HTTP".into());
            http.entry("path").or_insert("/".into());
        }
        if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
            grpc.entry("service").or_insert("".into());
        }
    }
}

/// Returns what is wrong with the probes of a container.
pub(crate) fn check(container: &Value, path: &str) -> Vec<FieldError> {
    let given = PROBES.iter().filter_map(|name| Some((*name, container.get(*name)?)));
    given.flat_map(|(name, probe)| check_one(name, probe, &format!("{path}.{name}"))).collect()
}

fn check_one(name: &str, probe: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = handlers(probe, path);
    for field in NUMBERS {
        if probe[field].as_i64().is_some_and(|number| number < 0) {
            let why = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(format!("{path}.{field}"), &probe[field], why));
        }
    }
    let successes = &probe["successThreshold"];
    if name != "readinessProbe" && successes.as_i64().is_some_and(|count| count != 1) {
        errors.push(FieldError::invalid(
            format!("{path}.successThreshold"),
            successes,
            "must be 1",
        ));
    }
    let grace = &probe["terminationGracePeriodSeconds"];
    let grace_path = format!("{path}.terminationGracePeriodSeconds");
    if name == "readinessProbe" && !grace.is_null() {
        let why = "must not be set for readinessProbes";
        errors.push(FieldError::invalid(grace_path, grace, why));
    } else if grace.as_i64().is_some_and(|seconds| seconds <= 0) {
        errors.push(FieldError::invalid(grace_path, grace, "must be greater than 0"));
    }
    errors
}

fn handlers(probe: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let given: Vec<_> = HANDLERS.iter().filter(|kind| probe.get(**kind).is_some()).collect();
    if given.is_empty() {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
    for more in given.iter().skip(1) {
        let why = "may not specify more than 1 handler type";
        errors.push(FieldError::forbidden(format!("{path}.{more}"), why));
    }
    let command = probe["exec"]["command"].as_array();
    if probe.get("exec").is_some() && command.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(format!("{path}.exec.command"), ""));
    }
    for kind in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(handler) = probe.get(kind) {
            // Only a number will do for gRPC.
            let number = handler["port"].as_u64().map_or(Value::Null, Value::from);
            let given = if kind == "grpc" { &number } else { &handler["port"] };
            errors.extend(port(given, &format!("{path}.{kind}.port")));
        }
    }
    let scheme = &probe["httpGet"]["scheme"];
    if let Some(other) = scheme.as_str().filter(|scheme| !SCHEMES.contains(scheme)) {
        let path = format!("{path}.httpGet.scheme");
        errors.push(FieldError::unsupported(path, other, &SCHEMES));
    }
    errors
}

fn port(given: &Value, path: &str) -> Option<FieldError> {
    let fine = match given {
        Value::Number(number) => number.as_u64().is_some_and(|port| (1..=65_535).contains(&port)),
        Value::String(name) => !name.is_empty() && name.len() <= 15,
        _ => false,
    };
    let why = "must be between 1 and 65535, inclusive";
    (!fine).then(|| FieldError::invalid(path, given, why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(name: &str, probe: Value) -> Vec<String> {
        let errors = check(&json!({name: probe}), "c");
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_probe_has_one_handler_and_numbers_that_make_sense() {
        let fine = json!({"httpGet": {"port": "web"}, "successThreshold": 2});
        assert_eq!(errors("readinessProbe", fine.clone()), Vec::<String>::new());
        assert_eq!(errors("livenessProbe", fine), ["c.livenessProbe.successThreshold"]);
        assert_eq!(errors("startupProbe", json!({})), ["c.startupProbe"]);
        let two = json!({"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}});
        assert_eq!(errors("startupProbe", two), ["c.startupProbe.tcpSocket"]);
        let odd = json!({"tcpSocket": {"port": 0}, "periodSeconds": -1,
                         "terminationGracePeriodSeconds": 1});
        let wrong = ["tcpSocket.port", "periodSeconds", "terminationGracePeriodSeconds"];
        assert_eq!(errors("readinessProbe", odd), wrong.map(|f| format!("c.readinessProbe.{f}")));
        let https = |scheme: &str| json!({"httpGet": {"port": 1, "scheme": scheme}});
        assert_eq!(errors("livenessProbe", https("HTTPS")), Vec::<String>::new());
        assert_eq!(errors("livenessProbe", https("FTP")), ["c.livenessProbe.httpGet.scheme"]);
        let grpc = json!({"grpc": {"port": 0, "service": "x"}});
        assert_eq!(errors("livenessProbe", grpc), ["c.livenessProbe.grpc.port"]);
    }
}
