//! `GET /api/weavers/{id}/logs`.

use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cluster::{Cluster, LogQuery};
use futures::TryStreamExt;
use futures::stream::{self, Stream, StreamExt};
use weaver::{Phase, WeaverId};
use wire::api::LogChunk;
use wire::problem::Problem;

use super::params::LogParams;
use super::path::{Id, find};
use crate::caller::Caller;
use crate::{ApiError, App, sse};

/// Most bytes in one message.
const PIECE: usize = 64 * 1024;

/// Returns what a weaver's program has written, and what it goes on to write with `follow`.
#[utoipa::path(
    get,
    path = "/api/weavers/{id}/logs",
    operation_id = "logs",
    params(
        ("id" = String, Path, description = "W-{uuid}"),
        ("follow" = Option<bool>, Query, description = "Go on until the program ends"),
        ("tail" = Option<u32>, Query, description = "Only the last lines"),
    ),
    responses(
        (status = 200, description = "Server-sent events", body = LogChunk,
            content_type = "text/event-stream"),
        (status = 404, description = "There is none, or it is not yours", body = Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "It has not started yet", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn logs(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    params: LogParams,
) -> Result<Response, ApiError> {
    let found = find(&app, &caller, id).await?;
    let query = LogQuery { follow: params.follow, tail: params.tail, ..LogQuery::default() };
    let cluster = app.cluster().clone();
    let shutdown = app.shutdown().clone();
    if params.follow && found.weaver.phase == Phase::Pending {
        let later = stream::once(started(cluster, id, query)).try_flatten();
        return Ok(sse::answer(chunks(later), shutdown));
    }
    let pieces = cluster.logs(id, query).await?.map_err(ApiError::from);
    Ok(sse::answer(chunks(pieces), shutdown))
}

/// Opens the log of a weaver that is not running yet, once there is one. A container writes before
/// its host answers, so every change is a reason to try.
async fn started(
    cluster: Cluster,
    id: WeaverId,
    query: LogQuery,
) -> Result<impl Stream<Item = Result<Bytes, ApiError>> + Send, ApiError> {
    let mut changes = std::pin::pin!(cluster.watch_one(id));
    loop {
        match cluster.logs(id, query).await {
            Err(cluster::Error::NotRunning { .. }) => {}
            result => return Ok(result?.map_err(ApiError::from)),
        }
        let found = match changes.next().await {
            Some(Err(error)) if error.is_transient() => continue,
            Some(found) => found?.ok_or_else(ApiError::not_found)?,
            None => return Err(ApiError::not_found()),
        };
        if found.weaver.phase.is_over() {
            return Ok(cluster.logs(id, query).await?.map_err(ApiError::from));
        }
    }
}

/// Cuts the log into messages and counts.
fn chunks<S>(pieces: S) -> impl Stream<Item = Result<LogChunk, ApiError>> + Send
where
    S: Stream<Item = Result<Bytes, ApiError>> + Send,
{
    let mut offset = 0;
    let small = pieces.flat_map(|piece| {
        let all = match piece {
            Ok(piece) => split(piece).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(all)
    });
    small.map_ok(move |piece| {
        let chunk = LogChunk { offset, data: STANDARD.encode(&piece) };
        offset += piece.len() as u64;
        chunk
    })
}

fn split(mut piece: Bytes) -> Vec<Bytes> {
    let mut parts = Vec::new();
    while piece.len() > PIECE {
        parts.push(piece.split_to(PIECE));
    }
    parts.push(piece);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn offsets_count_the_bytes_before() {
        let pieces = [Bytes::from_static(b"ab"), Bytes::from(vec![b'c'; PIECE + 1])];
        let told: Vec<_> = chunks(stream::iter(pieces.map(Ok)))
            .map_ok(|chunk| chunk.offset)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(told, [0, 2, 2 + PIECE as u64]);
    }
}
