//! The API over HTTP: one request in, one answer out.
//!
//! ```text
//! bytes -> request (path, query, Accept) -> decode -> prepare -> store -> respond
//! ```

mod access;
mod decode;
mod discovery;
mod exec;
pub(crate) mod kinds;
mod log;
mod names;
mod patch;
mod prepare;
mod read;
mod ready;
mod request;
mod respond;
mod selector;
mod status;
mod table;
mod watch;
mod write;

use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use discovery::GIT_VERSION;
pub(crate) use names::is_dns_label;
pub(crate) use respond::Answer;
pub(crate) use status::{FieldError, Refusal};

use crate::kubelet::Pods;
use crate::store::{Key, Store};
use request::{Query, Shape, Target};

/// What answering needs.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Arc<Store>,
    pub(crate) pods: Pods,
    /// Ends watches, logs and execs.
    pub(crate) shutdown: CancellationToken,
    /// Owns the tasks of streams.
    pub(crate) tasks: TaskTracker,
    /// `Bearer TOKEN`, hashed.
    pub(crate) token: crate::pki::TokenHash,
}

/// No body is larger: Kubernetes' own limit.
const MAX_BODY: usize = 3 << 20;

/// Answers one request.
pub(crate) async fn handle(api: Api, request: Request<Incoming>) -> Answer {
    let answer = respond(&api, request).await.unwrap_or_else(|refusal| respond::refusal(&refusal));
    dated(answer)
}

/// Clients take the time from here.
fn dated(mut answer: Answer) -> Answer {
    let date = crate::clock::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = http::HeaderValue::from_str(&date) {
        answer.headers_mut().insert(http::header::DATE, date);
    }
    answer
}

async fn respond(api: &Api, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let path = request.uri().path().to_owned();
    if matches!(path.as_str(), "/healthz" | "/livez" | "/readyz") {
        return Ok(respond::bytes(StatusCode::OK, "text/plain; charset=utf-8", "ok"));
    }
    if !api.token.accepts(request::header(request.headers(), "authorization")) {
        return Err(Refusal::unauthorized());
    }
    if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" {
        let yaml = request::body_is_yaml(request.headers())?;
        return match *request.method() {
            Method::POST => access::review(&body(request).await?, yaml),
            _ => Err(Refusal::method(request.method().as_str())),
        };
    }
    match path.strip_prefix("/api/v1/").filter(|rest| !rest.is_empty()) {
        Some(rest) => object(api, Target::parse(rest)?, request).await,
        None if request.method() == Method::GET => discovery::answer(&path, request.headers()),
        None => Err(Refusal::no_resource()),
    }
}

async fn object(api: &Api, target: Target, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (parts, incoming) = request.into_parts();
    let query = Query::of(&parts);
    let verb = request::verb(&parts.method, &target, &query)
        .ok_or_else(|| Refusal::method(parts.method.as_str()))?;
    let request = Request::from_parts(parts, incoming);
    if !target.subresource.is_empty() {
        return subresource(api, &target, &query, verb, request).await;
    }
    let headers = request.headers();
    match verb {
        "get" => read::get(api, &target, &query, Shape::of(headers)?),
        "list" => read::list(api, &target, &query, Shape::of(headers)?),
        "watch" => watch::watch(api, &target, &query, Shape::of(headers)?).await,
        "patch" => {
            let media_type = request::header(headers, "content-type").to_owned();
            write::patch(api, &target, &query, &body(request).await?, &media_type)
        }
        _ => {
            let yaml = request::body_is_yaml(headers)?;
            let body = body(request).await?;
            match verb {
                "create" => write::create(api, &target, &query, &body, yaml),
                "update" => write::update(api, &target, &query, &body, yaml),
                "delete" => {
                    write::delete(api, &target, &write::DeleteOptions::parse(&query, &body, yaml)?)
                }
                _ => {
                    let options = write::DeleteOptions::parse(&query, &body, yaml)?;
                    write::delete_collection(api, &target, &query, &options)
                }
            }
        }
    }
}

async fn subresource(
    api: &Api,
    target: &Target,
    query: &Query,
    verb: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    match (target.subresource.as_str(), verb) {
        ("status", "get") => read::get(api, target, query, Shape::of(request.headers())?),
        ("log", "get") => log::answer(api, target, query).await,
        ("exec", "get" | "create") => exec::answer(api, target, query, request).await,
        _ => Err(Refusal::method(request.method().as_str())),
    }
}

/// Returns the pod that a subresource is of.
fn pod_of(api: &Api, target: &Target) -> Result<crate::store::Object, Refusal> {
    let key = Key::new(target.kind.resource, &target.namespace, &target.name);
    api.store.get(&key).ok_or_else(|| Refusal::not_found(target.kind, &target.name))
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    let collected = Limited::new(request.into_body(), MAX_BODY).collect();
    let collected = tokio::time::timeout(crate::serve::BODY_DEADLINE, collected).await;
    let collected = collected.map_err(|_| {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "Timeout", "the request's body did not come")
    })?;
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large(MAX_BODY)),
        Err(_) => Err(Refusal::bad_request("the request's body was cut off")),
    }
}

/// Returns bytes as Kubernetes writes them in JSON.
pub(crate) fn base64_text(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Reads what [`base64_text`] wrote.
pub(crate) fn base64_bytes(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

/// Deletes an object as a user would; finalizers and graces hold.
pub(crate) fn delete(store: &Store, key: &Key) -> Result<(), Refusal> {
    write::delete_key(store, kinds::of(key.resource), key, &write::DeleteOptions::default())
        .map(drop)
}
