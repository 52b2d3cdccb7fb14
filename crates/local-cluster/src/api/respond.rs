//! Answers: bodies and headers.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::kinds::Kind;
use super::status::Refusal;

/// The body of every answer.
pub(crate) type Body = BoxBody<Bytes, Infallible>;
/// Every answer.
pub(crate) type Answer = Response<Body>;

/// Answers with JSON.
pub(crate) fn json(code: StatusCode, value: &Value) -> Answer {
    bytes(code, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

/// Answers with bytes of a media type.
pub(crate) fn bytes(code: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Answer {
    with_body(code, media, Full::new(body.into()).boxed())
}

/// Answers with a body that may take its time.
pub(crate) fn with_body(code: StatusCode, media: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// Answers with a refusal.
pub(crate) fn refusal(refusal: &Refusal) -> Answer {
    json(refusal.code, &refusal.body())
}

/// Adds warnings, which kubectl prints.
pub(crate) fn warned(mut answer: Answer, warnings: &[String]) -> Answer {
    for warning in warnings {
        let text: String = warning.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            answer.headers_mut().append(http::header::WARNING, value);
        }
    }
    answer
}

/// Returns an object with its `apiVersion` and `kind`, which are not stored.
pub(crate) fn tagged(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = kind.group_version().into();
    object["kind"] = kind.kind.into();
    object
}

/// Returns an object's metadata alone, as `PartialObjectMetadata`.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": object["metadata"],
    })
}

/// Removes what [`tagged`] adds.
pub(crate) fn untagged(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    object
}
