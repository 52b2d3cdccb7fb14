//! A weaver's output as Kubernetes kept it.

use bytes::Bytes;
use futures::io::AsyncBufReadExt;
use futures::stream::{self, Stream};
use kube::api::LogParams;
use tokio::time::timeout;
use weaver::WeaverId;

use crate::error::{Error, Result};
use crate::keys;
use crate::weavers::Cluster;

/// Which part of the output is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on with what comes, until the program ends.
    pub follow: bool,
    /// Only the last lines; everything there is when `None`.
    pub tail: Option<u32>,
    /// Only what is younger, in seconds.
    pub since_seconds: Option<u32>,
    /// At most about this many bytes.
    pub limit_bytes: Option<u64>,
}

impl Cluster {
    /// Returns the output of a weaver's main container.
    ///
    /// Opening has the usual deadline; so has each piece, unless `follow` is set.
    ///
    /// # Errors
    /// [`Error::NotRunning`] while there is no container yet.
    pub async fn logs(
        &self,
        id: WeaverId,
        query: LogQuery,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let name = id.pod_name();
        let params = LogParams {
            container: Some(keys::CONTAINER.to_owned()),
            follow: query.follow,
            tail_lines: query.tail.map(i64::from),
            since_seconds: query.since_seconds.map(i64::from),
            limit_bytes: query.limit_bytes.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
            ..LogParams::default()
        };
        let call = self.call("get", "pods/log", Some(name.clone()));
        let pods = self.pods();
        let reader = self.within(call.clone(), pods.log_stream(&name, &params)).await?;
        let deadline = self.settings().deadline;
        let state = Some((Box::pin(reader), call));
        Ok(stream::unfold(state, move |state| async move {
            let (mut reader, call) = state?;
            let piece = if query.follow {
                reader.fill_buf().await.map(Bytes::copy_from_slice)
            } else {
                match timeout(deadline, reader.fill_buf()).await {
                    Ok(piece) => piece.map(Bytes::copy_from_slice),
                    Err(_) => return Some((Err(Error::Timeout { call, deadline }), None)),
                }
            };
            match piece {
                Ok(piece) if piece.is_empty() => None,
                Ok(piece) => {
                    reader.consume_unpin(piece.len());
                    Some((Ok(piece), Some((reader, call))))
                }
                Err(error) => Some((Err(cut(error)), None)),
            }
        }))
    }
}

fn cut(error: std::io::Error) -> Error {
    Error::Unavailable { why: "the log was cut off".to_owned(), source: Some(error.into()) }
}
