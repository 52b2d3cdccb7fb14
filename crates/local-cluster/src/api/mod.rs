//! The API over HTTP: one request in, one answer out.
//!
//! ```text
//! bytes -> request (path, query, Accept) -> decode -> prepare -> store -> respond
//! ```

mod apply;
mod attach;
mod decode;
mod delete;
mod discovery;
mod exec;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub(crate) mod kinds;
mod log;
mod names;
mod openapi;
mod patch;
mod portforward;
mod prepare;
mod protobuf;
mod read;
mod ready;
mod request;
mod respond;
mod reviews;
mod selector;
mod status;
mod streams;
mod table;
mod token_request;
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
pub(crate) use protobuf::is_zero;
pub(crate) use respond::Answer;
pub(crate) use status::{FieldError, Refusal};

use crate::kubelet::Pods;
use crate::store::{Key, Store};
use crate::tokens::{Caller, ISSUER, Tokens};
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
    /// Makes and checks the tokens of service accounts.
    pub(crate) tokens: Arc<Tokens>,
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
    let caller = caller(api, request::header(request.headers(), "authorization"))?;
    let Some((group, rest)) = route(&path) else {
        return match request.method() {
            &Method::GET => described(api, &path, &request),
            _ => Err(Refusal::no_resource()),
        };
    };
    if let Some(review) = reviews::at(group, rest) {
        let format = request::body_format(request.headers())?;
        return match *request.method() {
            _ if matches!(caller, Caller::Account(_)) && !review.about_oneself() => {
                let user = caller.username();
                let message =
                    format!("{} is forbidden: User {user:?} cannot create it", review.plural);
                Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message))
            }
            Method::POST => reviews::answer(api, &caller, review, &body(request).await?, format),
            _ => Err(Refusal::method(request.method().as_str())),
        };
    }
    object(api, &caller, Target::parse(group, rest)?, request).await
}

/// Finds out who is asking.
fn caller(api: &Api, authorization: &str) -> Result<Caller, Refusal> {
    if api.token.accepts(authorization) {
        return Ok(Caller::Owner);
    }
    let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
    match api.tokens.review(&api.store, token, crate::clock::now()) {
        Ok((account, audiences)) if audiences.iter().any(|audience| audience == ISSUER) => {
            Ok(Caller::Account(account))
        }
        _ => Err(Refusal::unauthorized()),
    }
}

/// Splits a path of objects into its group and the rest.
fn route(path: &str) -> Option<(&str, &str)> {
    let (group, rest) = match path.strip_prefix("/api/v1/") {
        Some(rest) => ("", rest),
        None => path.strip_prefix("/apis/")?.split_once("/v1/")?,
    };
    (!rest.is_empty()).then_some((group, rest))
}

/// Answers about the server itself.
fn described(api: &Api, path: &str, request: &Request<Incoming>) -> Result<Answer, Refusal> {
    match path {
        "/openid/v1/jwks" => Ok(respond::json(StatusCode::OK, &api.tokens.jwks())),
        "/.well-known/openid-configuration" => {
            let keys = format!("{ISSUER}/openid/v1/jwks");
            let found = serde_json::json!({
                "issuer": ISSUER, "jwks_uri": keys, "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            });
            Ok(respond::json(StatusCode::OK, &found))
        }
        path => discovery::answer(path, request.headers()),
    }
}

async fn object(
    api: &Api,
    caller: &Caller,
    target: Target,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (parts, incoming) = request.into_parts();
    let query = Query::of(&parts);
    let verb = request::verb(&parts.method, &target, &query)
        .ok_or_else(|| Refusal::method(parts.method.as_str()))?;
    if let Caller::Account(_) = caller {
        return Err(Refusal::not_allowed(&caller.username(), verb, &target));
    }
    let request = Request::from_parts(parts, incoming);
    if !target.subresource.is_empty() {
        return subresource(api, &target, &query, verb, request).await;
    }
    if verb == "deletecollection" && !target.kind.verbs().contains(&verb) {
        return Err(Refusal::method(request.method().as_str()));
    }
    let headers = request.headers();
    match verb {
        "get" => read::get(api, &target, &query, Shape::of(headers)?),
        "list" => read::list(api, &target, &query, Shape::of(headers)?),
        "watch" => watch::watch(api, &target, &query, Shape::of(headers)?).await,
        "patch" => patched(api, &target, &query, request).await,
        verb => written(api, &target, &query, verb, request).await,
    }
}

async fn patched(
    api: &Api,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let media_type = request::header(request.headers(), "content-type").to_owned();
    let body = body(request).await?;
    if media_type.split(';').next() == Some(apply::APPLY) {
        return apply::answer(api, target, query, &body);
    }
    write::patch(api, target, query, &body, &media_type)
}

async fn written(
    api: &Api,
    target: &Target,
    query: &Query,
    verb: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let format = request::body_format(request.headers())?;
    let body = body(request).await?;
    let options = || delete::DeleteOptions::parse(query, &body, format);
    match verb {
        "create" => write::create(api, target, query, &body, format),
        "update" => write::update(api, target, query, &body, format),
        "delete" => delete::delete(api, target, &options()?),
        _ => delete::delete_collection(api, target, query, &options()?),
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
        ("status", "patch") => patched(api, target, query, request).await,
        ("status", "update") => written(api, target, query, verb, request).await,
        ("token", "create") => {
            let format = request::body_format(request.headers())?;
            token_request::create(api, target, &body(request).await?, format)
        }
        ("eviction", "create") => {
            let format = request::body_format(request.headers())?;
            delete::evict(api, target, query, &body(request).await?, format)
        }
        ("log", "get") => log::answer(api, target, query).await,
        ("attach", "get" | "create") => attach::answer(api, target, query, request).await,
        ("exec", "get" | "create") => exec::answer(api, target, query, request).await,
        ("portforward", "get" | "create") => portforward::answer(api, target, query, request).await,
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

/// Removes a finalizer, and the object if nothing else holds it.
pub(crate) fn release(store: &Store, key: &Key, finalizer: &str) -> Result<(), Refusal> {
    delete::release(store, kinds::of(key.resource), key, finalizer)
}

/// Deletes an object as a user would; finalizers and graces hold.
pub(crate) fn delete(store: &Store, key: &Key) -> Result<(), Refusal> {
    delete::delete_key(store, kinds::of(key.resource), key, &delete::DeleteOptions::default())
        .map(drop)
}
