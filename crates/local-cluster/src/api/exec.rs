//! `pods/exec` over WebSocket.

use http::Request;
use hyper::body::Incoming;
use pod_runtime::spec::ExecSpec;
use pod_runtime::{Error, Exec, Pod};
use serde_json::Value;

use super::log::container;
use super::request::{Query, Target};
use super::respond::Answer;
use super::status::Refusal;
use super::streams::session::{PROTOCOLS, Wanted, Whose, carry, failure};
use super::streams::socket::{finish, protocol, upgrade};
use super::{Api, pod_of};

/// Answers with an upgrade to a WebSocket that carries a program's streams.
pub(crate) async fn answer(
    api: &Api,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let pod = pod_of(api, target)?;
    let (spec, wanted) = spec(&pod, query)?;
    let protocol = protocol(&request, PROTOCOLS)?;
    let name = spec.container.clone();
    let started = match in_pod(api, &pod, move |pod| pod.exec(&spec)).await? {
        Ok(exec) => Ok(exec),
        // Told inside the WebSocket, as Kubernetes does.
        Err(Error::Program(message)) => Err(message),
        Err(error) => return Err(not_running(&name, &error)),
    };
    upgrade(api, request, protocol, move |mut inbox, sender| async move {
        match started {
            Ok(exec) => carry(exec, wanted, Whose::Exec, (inbox, sender)).await,
            Err(message) => {
                let said = failure(&format!("error executing command in container: {message}"));
                finish(&said, &sender, inbox.discard()).await;
            }
        }
    })
}

fn spec(pod: &Value, query: &Query) -> Result<(ExecSpec, Wanted), Refusal> {
    let argv = query.all("command");
    if argv.is_empty() || argv.iter().any(|word| word.contains('\0')) {
        let message = "you must specify at least 1 command for the pod exec";
        return Err(Refusal::bad_request(message));
    }
    let wanted = Wanted::of(query)?;
    let Wanted { stdin, tty, .. } = wanted;
    Ok((ExecSpec { container: container(pod, query, false)?, argv, tty, stdin }, wanted))
}

/// Does something with a running pod that may block.
pub(super) async fn in_pod(
    api: &Api,
    pod: &Value,
    work: impl FnOnce(Pod) -> Result<Exec, Error> + Send + 'static,
) -> Result<Result<Exec, Error>, Refusal> {
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let pods = api.pods.clone();
    let done = tokio::task::spawn_blocking(move || work(pods.find(&uid)?)).await;
    done.map_err(|error| Refusal::internal(error.to_string()))
}

pub(super) fn not_running(container: &str, error: &Error) -> Refusal {
    match error {
        Error::NotRunning(_) | Error::Gone { .. } | Error::NotFound(_) => Refusal::internal(
            format!("unable to upgrade connection: container not found ({container:?})"),
        ),
        error => Refusal::internal(error.to_string()),
    }
}
