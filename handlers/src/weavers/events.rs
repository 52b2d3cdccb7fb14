//! `GET /api/weavers/{id}/events`.

use axum::extract::State;
use axum::response::Response;
use cluster::Found;
use futures::stream::{Stream, StreamExt};
use weaver::{Phase, Why};
use wire::api::Progress;
use wire::problem::Problem;

use super::path::{Id, find};
use crate::caller::Caller;
use crate::{ApiError, App, sse};

/// So many failures in a row end a stream: each is followed by a longer pause.
const PATIENCE: usize = 6;

/// Tells how a weaver's start goes on, from its beginning until it is ready, has ended or is gone.
/// One that ended well before it was seen to be ready ends the stream without a word.
#[utoipa::path(
    get,
    path = "/api/weavers/{id}/events",
    operation_id = "events",
    params(("id" = String, Path, description = "W-{uuid}")),
    responses(
        (status = 200, description = "Server-sent events", body = Progress,
            content_type = "text/event-stream"),
        (status = 404, description = "There is none, or it is not yours", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn events(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, ApiError> {
    find(&app, &caller, id).await?;
    let steps = patient(app.cluster().progress(id));
    let steps = steps.filter_map(|step| {
        let told = step.map_err(ApiError::from).map(told).transpose();
        std::future::ready(told)
    });
    Ok(sse::answer(steps, app.shutdown().clone()))
}

/// Leaves out failures that pass, until there are too many in a row.
fn patient<T>(
    steps: impl Stream<Item = cluster::Result<T>>,
) -> impl Stream<Item = cluster::Result<T>> {
    let mut failures = 0;
    steps.filter(move |step| {
        failures = if step.is_err() { failures + 1 } else { 0 };
        let passes = step.as_ref().is_err_and(cluster::Error::is_transient);
        std::future::ready(!passes || failures >= PATIENCE)
    })
}

/// A program that ended well before it was seen to be ready is no failure: then the stream just
/// ends, and the weaver itself says how it went.
fn told(step: cluster::Progress) -> Option<Progress> {
    Some(match step {
        cluster::Progress::Scheduled { .. } => Progress::Scheduled,
        cluster::Progress::Pulling => Progress::Pulling { done: None, total: None },
        cluster::Progress::Fetched { done, total } => {
            Progress::Pulling { done: Some(done), total: Some(total) }
        }
        cluster::Progress::Pulled => Progress::Pulled,
        cluster::Progress::Started => Progress::Started,
        cluster::Progress::Waiting(why) => failed(why, false),
        cluster::Progress::Stuck(why) => failed(why, true),
        cluster::Progress::Ready(_) => Progress::Ready,
        cluster::Progress::Ended(found) if found.weaver.phase == Phase::Succeeded => return None,
        cluster::Progress::Ended(found) => failed(ending(*found), true),
        cluster::Progress::Gone => Progress::Deleted,
    })
}

fn failed(why: Why, last: bool) -> Progress {
    Progress::Failed { reason: why.reason, message: why.message, last }
}

fn ending(found: Found) -> Why {
    found.weaver.why.unwrap_or_else(|| Why {
        reason: "Failed".to_owned(),
        message: "its program has ended".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn down() -> cluster::Result<u8> {
        Err(cluster::Error::Unavailable { why: "gone".to_owned(), source: None })
    }

    #[tokio::test]
    async fn failures_that_pass_are_not_told() {
        let steps = stream::iter([Ok(1), down(), down(), Ok(2)]);
        let told: Vec<_> = patient(steps).map(Result::unwrap).collect().await;
        assert_eq!(told, [1, 2]);
        let dead = patient(stream::repeat_with(down)).next().await.unwrap();
        assert!(dead.is_err());
    }
}
