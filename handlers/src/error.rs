//! The one place where errors become answers: `application/problem+json`.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use service::Denied;
use weaver::{FieldError, Refusal};
use wire::problem::{CONTENT_TYPE, Code, Problem};

/// When somebody over a quota may try again: quotas free up when weavers end.
const QUOTA_RETRY: Duration = Duration::from_secs(60);

/// An error on its way to the caller.
#[derive(Debug)]
pub struct ApiError {
    problem: Box<Problem>,
    retry_after: Option<Duration>,
    cause: Option<Cause>,
}

/// What is behind a 5xx, for the log only; travels in the response's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) Arc<dyn std::error::Error + Send + Sync>);

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    pub(crate) fn not_found() -> Self {
        Self::new(Code::NotFound, "there is no such weaver")
    }

    /// Returns what the caller is told.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    fn retry(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), retry_after: None, cause: None }
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Problem::from(error).into()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Field(error) => error.into(),
            Refusal::Publish => Self::new(Code::PublishNotAllowed, refusal.to_string()),
            Refusal::Root => Self::new(Code::RootNotAllowed, refusal.to_string()),
            Refusal::KeepEntrypoint => {
                Self::new(Code::KeepEntrypointNotAllowed, refusal.to_string())
            }
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::Host | Denied::Origin => Code::Forbidden,
            Denied::Token => Code::Unauthenticated,
        };
        Self::new(code, denied.to_string())
    }
}

impl From<cluster::Error> for ApiError {
    fn from(error: cluster::Error) -> Self {
        let made = of_cluster(&error);
        Self { cause: Some(Cause(Arc::new(error))), ..made }
    }
}

/// Says what the caller may know: the cluster's words where they are about the request or about
/// what an operator has to do, never addresses and credentials.
fn of_cluster(error: &cluster::Error) -> ApiError {
    use cluster::Error;
    let of = |code| ApiError::new(code, error.to_string());
    match error {
        Error::NotFound { .. } => ApiError::not_found(),
        Error::AlreadyExists { .. } | Error::Changed { .. } | Error::NotRunning { .. } => {
            of(Code::Conflict)
        }
        Error::Quota { .. } => of(Code::TooMany).retry(QUOTA_RETRY),
        Error::Refused { .. } => of(Code::Forbidden),
        Error::Invalid { .. } => of(Code::Invalid),
        Error::CursorExpired => of(Code::CursorExpired),
        Error::TooMany { retry_after } => of(Code::Unavailable).retry(*retry_after),
        Error::Namespace { .. } | Error::NoToolsImage | Error::Forbidden { .. } => {
            of(Code::Unavailable)
        }
        Error::Timeout { .. } => of(Code::Timeout),
        Error::Unavailable { .. } => {
            ApiError::new(Code::Unavailable, "Kubernetes is not available; try again")
                .retry(Duration::from_secs(1))
        }
        Error::Config { .. } | Error::Unauthorized { .. } => {
            ApiError::new(Code::Unavailable, "this server cannot reach its cluster; see its log")
        }
        Error::Unreadable(_) => {
            ApiError::new(Code::Internal, "the cluster made another pod than it was asked for")
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
        if let Some(after) = self.retry_after {
            let seconds = HeaderValue::from(after.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}
