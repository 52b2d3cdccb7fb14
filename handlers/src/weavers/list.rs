//! `GET /api/weavers`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cluster::{Found, Query};
use futures::stream::{self, Stream};
use http::header;
use jiff::Timestamp;
use wire::api::WeaverList;
use wire::problem::Problem;

use super::page::Pages;
use super::params::ListParams;
use super::view::{Base, view};
use crate::caller::Caller;
use crate::{ApiError, App};

/// Returns the weavers of the caller's organization: all of them, or a page with `limit` or
/// `cursor`.
#[utoipa::path(
    get,
    path = "/api/weavers",
    operation_id = "list",
    params(
        ("tag" = Option<Vec<String>>, Query, description = "key=value; all must be there"),
        ("status" = Option<Vec<String>>, Query, description = "Pending, Running, ...; any of them"),
        ("owner" = Option<String>, Query, description = "U-..."),
        ("limit" = Option<u32>, Query, description = "1 to 500"),
        ("cursor" = Option<String>, Query, description = "next of the page before"),
    ),
    responses(
        (status = 200, description = "The weavers", body = WeaverList),
        (status = 410, description = "The cursor is too old", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    base: Base,
    params: ListParams,
) -> Result<Response, ApiError> {
    let query = Query {
        org: Some(caller.org),
        owner: params.owner,
        name: None,
        tags: params.tags,
        status: params.status,
        limit: params.limit,
        cursor: params.cursor,
    };
    if query.limit.is_some() || query.cursor.is_some() {
        return Ok(Json(page(&app, &base, &query).await?).into_response());
    }
    whole(app, base, query).await
}

async fn page(app: &App, base: &Base, query: &Query) -> Result<WeaverList, ApiError> {
    let page = app.cluster().list(query).await?;
    let now = app.cluster().now().await?;
    let settings = app.cluster().settings();
    let weavers = page.found.into_iter().map(|found| view(found, now, settings, base)).collect();
    Ok(WeaverList { weavers, next: page.next })
}

/// Streams the whole list as one JSON body. The first page is there before the answer begins, so
/// that its errors are told; after that an error cuts the body off, and no client takes a part of a
/// list for the whole.
async fn whole(app: App, base: Base, query: Query) -> Result<Response, ApiError> {
    let mut pages = Pages::new(app.clone(), query);
    let first = pages.next().await?.unwrap_or_default();
    let now = app.cluster().now().await?;
    let writer = Writer { app, base, pages, now, begun: false };
    let body = Body::from_stream(writer.stream(first));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

struct Writer {
    app: App,
    base: Base,
    pages: Pages,
    now: Timestamp,
    begun: bool,
}

impl Writer {
    fn stream(self, first: Vec<Found>) -> impl Stream<Item = Result<Bytes, Problem>> + Send {
        stream::try_unfold(Some((self, Some(first))), async |state| {
            let Some((mut writer, first)) = state else { return Ok(None) };
            let next = match first {
                Some(first) => Some(first),
                None => writer.pages.next().await.map_err(|error| writer.cut(&error))?,
            };
            match next {
                Some(found) => Ok(Some((writer.write(found), Some((writer, None))))),
                None => Ok(Some((Bytes::from_static(br#"],"next":null}"#), None))),
            }
        })
    }

    fn write(&mut self, found: Vec<Found>) -> Bytes {
        let mut text = if self.begun { Vec::new() } else { br#"{"weavers":["#.to_vec() };
        for (nth, found) in found.into_iter().enumerate() {
            if self.begun || nth > 0 {
                text.push(b',');
            }
            let shown = view(found, self.now, self.app.cluster().settings(), &self.base);
            serde_json::to_writer(&mut text, &shown).expect("our own types are always JSON");
            self.begun = true;
        }
        text.into()
    }

    #[expect(clippy::unused_self, reason = "reads as what happens to the writer")]
    fn cut(&self, error: &ApiError) -> Problem {
        tracing::warn!(error = %error.problem(), "A list was cut off");
        error.problem().clone()
    }
}
