//! What happens around every route: guard, deadline, measure, log.

use std::any::Any;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use wire::problem::Code;

use crate::error::Cause;
use crate::{ApiError, App};

/// Lets a request through and says who asks.
pub(crate) async fn guard(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    app.guard().check(request.uri(), request.headers())?;
    request.extensions_mut().insert(app.caller().clone());
    let mut response = next.run(request).await;
    let never = http::HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(never);
    Ok(response)
}

/// Gives a request a time within which its answer has to begin.
pub(crate) async fn deadline(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let late = |_| ApiError::new(Code::Timeout, "Kubernetes did not answer in time");
    tokio::time::timeout(app.deadline(), next.run(request)).await.map_err(late)
}

/// The metric of requests and the time they took.
pub(crate) const SECONDS: &str = "loom_http_request_seconds";
/// Its labels.
pub(crate) const LABELS: [&str; 3] = ["method", "route", "status"];

/// Counts and times a request, and logs it once when it is our fault.
pub(crate) async fn measure(request: Request, next: Next) -> Response {
    let method = known(request.method());
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let begun = service::clock::monotonic();
    let response = next.run(request).await;
    let status = response.status();
    let values = [method.to_owned(), route.clone(), status.as_u16().to_string()];
    let labels = LABELS.into_iter().zip(values).collect::<Vec<_>>();
    metrics::histogram!(SECONDS, &labels).record(begun.elapsed());
    if status.is_server_error() {
        let cause = response.extensions().get::<Cause>();
        let cause = cause.map(|Cause(error)| chain(&**error)).unwrap_or_default();
        tracing::error!(method, route, status = status.as_u16(), cause, "Request failed");
    }
    response
}

/// Any word can be a method, from callers without a token too: each would be counted for ever.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"];
    KNOWN.into_iter().find(|known| method == known).unwrap_or("other")
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Turns a panic into an answer; what it said goes to the log.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let said = payload.downcast_ref::<&str>().map(ToString::to_string);
    let said = said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(error = said, "Request panicked");
    ApiError::new(Code::Internal, "this is our fault; see the server's log").into_response()
}
