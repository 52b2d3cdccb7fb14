//! From a container's probes to what the runtime asks.

use pod_runtime::spec::{Handler, Probe, Probes};
use serde_json::Value;

use super::about::text;

/// Returns a container's probes.
pub(crate) fn of(container: &Value) -> Probes {
    let probe = |name: &str| container.get(name).map(|given| probe(given, container));
    Probes {
        startup: probe("startupProbe"),
        readiness: probe("readinessProbe"),
        liveness: probe("livenessProbe"),
    }
}

fn probe(given: &Value, container: &Value) -> Probe {
    let number = |field: &str, default| given[field].as_u64().unwrap_or(default);
    let count = |field: &str, default| u32::try_from(number(field, default)).unwrap_or(u32::MAX);
    Probe {
        handler: handler(given, container),
        initial_delay_seconds: number("initialDelaySeconds", 0),
        period_seconds: number("periodSeconds", 10).max(1),
        timeout_seconds: number("timeoutSeconds", 1).max(1),
        success_threshold: count("successThreshold", 1),
        failure_threshold: count("failureThreshold", 3),
        grace_seconds: given["terminationGracePeriodSeconds"].as_u64(),
    }
}

fn handler(given: &Value, container: &Value) -> Handler {
    if let Some(tcp) = given.get("tcpSocket") {
        return Handler::Tcp { port: port(&tcp["port"], container) };
    }
    if let Some(http) = given.get("httpGet") {
        let path = http["path"].as_str().unwrap_or("/").to_owned();
        let headers = http["httpHeaders"].as_array().into_iter().flatten();
        let pair =
            |header: &Value| (text(&header["name"]).to_owned(), text(&header["value"]).to_owned());
        let headers = headers.map(pair).collect();
        let (port, tls) = (port(&http["port"], container), http["scheme"] == "HTTPS");
        return Handler::Http { port, path, headers, tls };
    }
    if let Some(grpc) = given.get("grpc") {
        let service = text(&grpc["service"]).to_owned();
        return Handler::Grpc { port: port(&grpc["port"], container), service };
    }
    let command = given["exec"]["command"].as_array().into_iter().flatten();
    Handler::Exec { argv: command.map(|word| text(word).to_owned()).collect() }
}

/// A port by number or by its name in the container; 0 stands for a name that nothing has.
fn port(given: &Value, container: &Value) -> u16 {
    let named = || {
        let mut ports = container["ports"].as_array().into_iter().flatten();
        ports.find(|port| port["name"] == *given)?["containerPort"].as_u64()
    };
    let digits = || given.as_str()?.parse().ok();
    let number = given.as_u64().or_else(digits).or_else(named);
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_found_by_name_and_number() {
        let container = json!({
            "ports": [{"name": "web", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "web", "httpHeaders": [{"name": "A", "value": "b"}]}},
            "livenessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 2, "failureThreshold": 7},
        });
        let probes = of(&container);
        let headers = vec![("A".to_owned(), "b".to_owned())];
        let web = Handler::Http { port: 8080, path: "/".into(), headers, tls: false };
        assert_eq!(probes.readiness.unwrap().handler, web);
        let liveness = probes.liveness.unwrap();
        assert_eq!(liveness.handler, Handler::Tcp { port: 9 });
        assert_eq!((liveness.period_seconds, liveness.failure_threshold), (2, 7));
        assert_eq!(probes.startup, None);
        assert_eq!(port(&json!("other"), &container), 0);
    }
}
