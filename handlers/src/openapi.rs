//! `/openapi.json`: the API as OpenAPI, written by the routes themselves.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use crate::weavers;

/// The document's head and its routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "Loom weavers", description = "Remote, throw-away development environments."),
    paths(
        weavers::create,
        weavers::list,
        weavers::get,
        weavers::delete,
        weavers::extend,
        weavers::logs,
        weavers::events,
    ),
    modifiers(&Bearer),
    security(("bearer" = [])),
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", scheme);
    }
}

/// Returns the document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

pub(crate) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
