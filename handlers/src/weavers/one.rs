//! `GET` and `DELETE /api/weavers/{id}`.

use axum::Json;
use axum::extract::State;
use cluster::Deletion;
use http::StatusCode;
use wire::api::WeaverView;
use wire::problem::{Code, Problem};

use super::path::{Id, find};
use super::view::{Base, view};
use crate::caller::Caller;
use crate::{ApiError, App};

/// Returns one weaver.
#[utoipa::path(
    get,
    path = "/api/weavers/{id}",
    operation_id = "get",
    params(("id" = String, Path, description = "W-{uuid}")),
    responses(
        (status = 200, description = "The weaver", body = WeaverView),
        (status = 404, description = "There is none, or it is not yours", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    base: Base,
    Id(id): Id,
) -> Result<Json<WeaverView>, ApiError> {
    let found = find(&app, &caller, id).await?;
    let now = app.cluster().now().await?;
    Ok(Json(view(found, now, app.cluster().settings(), &base)))
}

/// Ends a weaver at once. One that is gone, or never was, is fine; so is one that is not yours, of
/// which nothing is said and to which nothing is done.
#[utoipa::path(
    delete,
    path = "/api/weavers/{id}",
    operation_id = "delete",
    params(("id" = String, Path, description = "W-{uuid}")),
    responses(
        (status = 204, description = "There is no such weaver of yours any more"),
        (status = "5XX", description = "Kubernetes failed", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    let found = match app.cluster().get(id).await? {
        Some(found) if found.weaver.spec.org == caller.org => found,
        Some(_) | None => return Ok(StatusCode::NO_CONTENT),
    };
    match app.cluster().delete(id, &found.uid_guard()).await? {
        Deletion::Deleted | Deletion::Gone => Ok(StatusCode::NO_CONTENT),
        Deletion::Changed => {
            Err(ApiError::new(Code::Conflict, "it was deleted and made again just now; try again"))
        }
    }
}
