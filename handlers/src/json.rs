//! Reading a JSON body: kind, size, depth and every field are checked, and what is wrong is named.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use service::serve::BodyTimedOut;
use wire::problem::{Code, Problem};

use crate::ApiError;

/// Most bytes of a body.
const MOST: usize = 1024 * 1024;

/// A body that was JSON of this type.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        check_kind(&parts.headers)?;
        check_length(&parts.headers)?;
        let bytes = read(body).await?;
        parse(&bytes).map(Self).map_err(ApiError::from)
    }
}

fn check_kind(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "the body must be JSON: send Content-Type: application/json";
    Err(ApiError::new(Code::UnsupportedMediaType, detail))
}

/// Refuses by the announced length before a byte of the body is read.
fn check_length(headers: &HeaderMap) -> Result<(), ApiError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > MOST) { Err(too_large()) } else { Ok(()) }
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    axum::body::to_bytes(body, MOST).await.map_err(|error| {
        let timed_out = causes(&error).any(|cause| cause.is::<BodyTimedOut>());
        let broken = causes(&error).any(|cause| {
            cause.is::<std::io::Error>() || cause.to_string().contains("error reading a body")
        });
        if timed_out {
            Problem::new(Code::Invalid, "the body did not end in time").into()
        } else if broken {
            Problem::new(Code::Invalid, "the body was cut off").into()
        } else {
            too_large()
        }
    })
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn too_large() -> ApiError {
    ApiError::new(Code::TooLarge, "the body is larger than 1 MiB")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Derived code also takes the fields of a struct from an array, in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::new(Code::Invalid, "the body must be a JSON object"));
    }
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let path = error.path().to_string();
        wrong(&path, error.inner())
    })?;
    from.end().map_err(|error| wrong(".", &error))?;
    Ok(value)
}

/// Names the field: by its path, or as serde puts it in the message.
fn wrong(path: &str, error: &serde_json::Error) -> Problem {
    let message: String = error.to_string().chars().take(300).collect();
    let named = ["unknown field `", "duplicate field `", "duplicate key `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next());
    let field = match (path, named) {
        ("." | "" | "?", Some(named)) => Some(named.to_owned()),
        (path, Some(named)) if !path.ends_with(named) => Some(format!("{path}.{named}")),
        ("." | "" | "?", None) => None,
        (path, _) => Some(path.to_owned()),
    };
    let detail = format!("the body cannot be read: {message}");
    match field {
        Some(field) => Problem::field(field, detail),
        None => Problem::new(Code::Invalid, detail),
    }
}

#[cfg(test)]
mod tests {
    use wire::api::CreateWeaver;

    use super::*;

    fn field(json: &str) -> Option<String> {
        parse::<CreateWeaver>(json.as_bytes()).unwrap_err().field
    }

    #[test]
    fn abuse_bodies_name_their_field() {
        for (json, named) in [
            (r#"{"unknown":1}"#, "unknown"),
            (r#"{"image":"a","image":"b"}"#, "image"),
            (r#"{"env":{"A":"1","A":"2"}}"#, "env.A"),
            (r#"{"env":{"A":1}}"#, "env.A"),
            (r#"{"resources":{"gpu":1}}"#, "resources.gpu"),
            (r#"{"lifetime_hours":"4"}"#, "lifetime_hours"),
            (r#"{"lifetime_hours":4.5}"#, "lifetime_hours"),
            (r#"{"command":["a",1]}"#, "command[1]"),
        ] {
            assert_eq!(field(json).as_deref(), Some(named), "{json}");
        }
    }

    #[test]
    fn abuse_bodies_that_are_no_json() {
        let deep = format!(r#"{{"command":{}"#, "[".repeat(10_000));
        for json in ["", "{", "[]", "{} {}", "null", deep.as_str()] {
            assert!(parse::<CreateWeaver>(json.as_bytes()).is_err(), "{json}");
        }
    }
}
