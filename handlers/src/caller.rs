//! Who asks: put into every request by the guard, taken out of it by the routes.

use axum::extract::FromRequestParts;
use http::request::Parts;
use weaver::{OrgId, OwnerId};
use wire::problem::{Code, Problem};

use crate::ApiError;

/// The person or robot behind a request, and the organization it acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) org: OrgId,
    pub(crate) owner: OwnerId,
    pub(crate) name: String,
}

impl Caller {
    /// The one user of a server without login.
    pub(crate) fn local(name: &str) -> Self {
        Self {
            org: "O-local".parse().expect("a constant id"),
            owner: "U-local".parse().expect("a constant id"),
            name: name.to_owned(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // A route outside the guard has no caller, and must not answer.
        let problem = || Problem::new(Code::Unauthenticated, "");
        parts.extensions.get::<Self>().cloned().ok_or_else(|| problem().into())
    }
}
