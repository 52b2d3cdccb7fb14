//! `pods/attach` over WebSocket: a container's own streams.

use http::Request;
use hyper::body::Incoming;
use pod_runtime::spec::AttachSpec;
use serde_json::Value;

use super::exec::{in_pod, not_running};
use super::log::container;
use super::request::{Query, Target};
use super::respond::Answer;
use super::status::Refusal;
use super::streams::session::{PROTOCOLS, Wanted, Whose, carry};
use super::streams::socket::{protocol, upgrade};
use super::{Api, pod_of};

/// Answers with an upgrade to a WebSocket that carries what a container says and hears from now on.
pub(crate) async fn answer(
    api: &Api,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let pod = pod_of(api, target)?;
    let wanted = Wanted::of(query)?;
    let name = container(&pod, query, false)?;
    let once = closes_input(&pod, &name) && wanted.stdin;
    let protocol = protocol(&request, PROTOCOLS)?;
    let spec = AttachSpec { container: name.clone(), stdin: wanted.stdin };
    let attached = in_pod(api, &pod, move |pod| pod.attach(&spec)).await?;
    let attached = attached.map_err(|error| not_running(&name, &error))?;
    upgrade(api, request, protocol, move |inbox, sender| async move {
        carry(attached, wanted, Whose::Container { once }, (inbox, sender)).await;
    })
}

/// Whether a container's input ends with that of the first who gives it any.
fn closes_input(pod: &Value, name: &str) -> bool {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut named = containers.filter(|container| container["name"] == name);
    named.any(|container| container["stdinOnce"] == true && container["tty"] != true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn input_ends_only_where_it_was_said_and_there_is_no_terminal() {
        let pod = json!({"spec": {"containers": [
            {"name": "once", "stdinOnce": true}, {"name": "tty", "stdinOnce": true, "tty": true},
            {"name": "always", "stdin": true},
        ]}});
        assert_eq!(
            ["once", "tty", "always"].map(|name| closes_input(&pod, name)),
            [true, false, false]
        );
    }
}
