//! `POST /api/weavers/{id}/extend`.

use axum::extract::State;
use cluster::Found;
use jiff::Timestamp;
use weaver::{FieldError, Ttl, WeaverId};
use wire::api::{Extend, WeaverView};
use wire::problem::{Code, Problem};

use super::path::{Id, find};
use super::view::{Base, view};
use crate::caller::Caller;
use crate::json::Json;
use crate::{ApiError, App};

/// The kubelet writes a pod's status all the time; so often is it tried again.
const ATTEMPTS: usize = 5;

/// Sets a weaver's whole lifetime, counted from its creation.
#[utoipa::path(
    post,
    path = "/api/weavers/{id}/extend",
    operation_id = "extend",
    params(("id" = String, Path, description = "W-{uuid}")),
    request_body = Extend,
    responses(
        (status = 200, description = "The weaver with its new deadline", body = WeaverView),
        (status = 400, description = "Longer than allowed, or in the past", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is none, or it is not yours", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn extend(
    State(app): State<App>,
    caller: Caller,
    base: Base,
    Id(id): Id,
    Json(asked): Json<Extend>,
) -> Result<axum::Json<WeaverView>, ApiError> {
    let ttl = app.policy().ttl(Ttl::from_hours(asked.lifetime_hours)?)?;
    let found = extended(&app, &caller, id, ttl).await?;
    let now = app.cluster().now().await?;
    Ok(axum::Json(view(found, now, app.cluster().settings(), &base)))
}

/// Reads, decides and writes what was read; whoever comes in between makes it start again. So
/// either this wins or the janitor does, never both.
async fn extended(app: &App, caller: &Caller, id: WeaverId, ttl: Ttl) -> Result<Found, ApiError> {
    for _ in 0..ATTEMPTS {
        let found = find(app, caller, id).await?;
        check_future(&found, ttl, app.cluster().now().await?)?;
        match app.cluster().extend(&found, ttl).await {
            Err(cluster::Error::Changed { .. }) => {}
            result => return Ok(result?),
        }
    }
    Err(ApiError::new(Code::Conflict, "it changes all the time; try again"))
}

/// A deadline in the past would be a deletion.
fn check_future(found: &Found, ttl: Ttl, now: Timestamp) -> Result<(), FieldError> {
    if ttl.end(found.weaver.created_at) > now {
        return Ok(());
    }
    let why = "is shorter than the weaver has lived already; to end it, delete it";
    Err(FieldError::new("lifetime_hours", why))
}
