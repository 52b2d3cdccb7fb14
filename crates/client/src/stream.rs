//! Streams of typed events: a weaver's progress and its log.

use std::marker::PhantomData;

use base64::Engine;
use bytes::Bytes;
use reqwest::Response;
use serde::de::DeserializeOwned;
use wire::api::{LogChunk, Progress};

use crate::Error;
use crate::sse::{Sse, SseEvent};

/// How a weaver's start goes on.
#[derive(Debug)]
pub struct EventStream(Typed<Progress>);

/// What a weaver's program has written.
#[derive(Debug)]
pub struct LogStream(Typed<LogChunk>);

impl EventStream {
    pub(crate) fn new(response: Response) -> Self {
        Self(Typed::new(response))
    }

    /// Returns the next event; `None` at the end. It may be dropped and called again.
    ///
    /// # Errors
    /// The connection broke, or the server said why it goes on no further.
    pub async fn next(&mut self) -> Result<Option<Progress>, Error> {
        self.0.next().await
    }
}

impl LogStream {
    pub(crate) fn new(response: Response) -> Self {
        Self(Typed::new(response))
    }

    /// Returns the next bytes; `None` at the end. It may be dropped and called again.
    ///
    /// # Errors
    /// The connection broke, or the server said why it goes on no further.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(chunk) = self.0.next().await? else { return Ok(None) };
        let bytes = base64::engine::general_purpose::STANDARD.decode(chunk.data);
        let bytes = bytes.map_err(|_| Error::Protocol("a piece of log that is not base64"))?;
        Ok(Some(bytes.into()))
    }
}

#[derive(Debug)]
struct Typed<T> {
    response: Response,
    sse: Sse,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Typed<T> {
    fn new(response: Response) -> Self {
        Self { response, sse: Sse::default(), kind: PhantomData }
    }

    async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(event) = self.sse.take() {
                return read(&event).map(Some);
            }
            let piece = self.response.chunk().await;
            let Some(piece) = piece.map_err(|error| Error::broken(error.without_url()))? else {
                return Ok(None);
            };
            if !self.sse.push(&piece) {
                return Err(Error::Protocol("an event that is too large"));
            }
        }
    }
}

fn read<T: DeserializeOwned>(event: &SseEvent) -> Result<T, Error> {
    let strange = |_| Error::Protocol("an event that cannot be read");
    if matches!(event.name.as_str(), "problem" | "error") {
        let problem = serde_json::from_str(&event.data).map_err(strange)?;
        return Err(Error::Problem(Box::new(problem)));
    }
    serde_json::from_str(&event.data).map_err(strange)
}
