//! The one place where the relay's errors become HTTP answers.

use axum::response::{IntoResponse, Response};
use cluster::Error;
use http::{HeaderValue, StatusCode, header};
use service::Denied;
use wire::problem::{CONTENT_TYPE, Code, Problem};

/// An answer that is a problem.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Problem);

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    pub(crate) fn field(field: &str, detail: &str) -> Self {
        Self(Problem::field(field, detail))
    }

    /// One answer for a weaver that is not there, never was, or cannot be named.
    pub(crate) fn no_such_weaver() -> Self {
        Self::new(Code::NotFound, "there is no such weaver")
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::Host | Denied::Origin => Code::Forbidden,
            Denied::Token => Code::Unauthenticated,
        };
        Self::new(code, denied.to_string())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NotFound { .. } | Error::Unreadable(_) => return Self::no_such_weaver(),
            Error::NotRunning { .. } | Error::Changed { .. } | Error::AlreadyExists { .. } => {
                Code::Conflict
            }
            Error::TooMany { .. } | Error::Quota { .. } => Code::TooMany,
            Error::Timeout { .. } => Code::Timeout,
            Error::Invalid { .. } => Code::Invalid,
            Error::Config { .. }
            | Error::NoToolsImage
            | Error::Namespace { .. }
            | Error::Forbidden { .. }
            | Error::Unauthorized { .. }
            | Error::Refused { .. }
            | Error::CursorExpired
            | Error::Unavailable { .. } => Code::Unavailable,
        };
        if code.status() >= 500 {
            tracing::warn!(%error, "Kubernetes does not do what is asked");
        }
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = problem.code;
        let mut response = (status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        match code {
            Code::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::TooMany => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
