//! The weaver that a path names, found and allowed.

use axum::extract::{FromRequestParts, RawPathParams};
use cluster::Found;
use http::request::Parts;
use weaver::WeaverId;

use crate::caller::Caller;
use crate::{ApiError, App};

/// The id in a path, `W-{uuid}` in full; what is none is nobody's weaver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id(pub(crate) WeaverId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::not_found())?;
        let text = params.iter().find_map(|(name, text)| (name == "id").then_some(text));
        let id = text.and_then(|text| text.parse().ok()).ok_or_else(ApiError::not_found)?;
        Ok(Self(id))
    }
}

/// Returns the weaver if there is one and the caller may know of it: one call either way.
pub(crate) async fn find(app: &App, caller: &Caller, id: WeaverId) -> Result<Found, ApiError> {
    let found = app.cluster().get(id).await?;
    found.filter(|found| found.weaver.spec.org == caller.org).ok_or_else(ApiError::not_found)
}
