//! Server-sent events (WHATWG HTML, 9.2): one JSON object a message, problems as event `problem`.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use futures::stream::StreamExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::ApiError;

/// How often a silent stream shows that it lives; also how a client that is gone is noticed.
const ALIVE: Duration = Duration::from_secs(15);

/// Sends every item; an error is sent as a problem and is the last. Ends with the server, too.
pub(crate) fn answer<T, S>(items: S, shutdown: CancellationToken) -> Response
where
    T: Serialize + Send + 'static,
    S: Stream<Item = Result<T, ApiError>> + Send + 'static,
{
    let mut over = false;
    let until_error = items.take_while(move |item| {
        let go_on = !over;
        over = item.is_err();
        std::future::ready(go_on)
    });
    let events = until_error.map(|item| Ok::<_, Infallible>(event(item)));
    let events = events.take_until(shutdown.cancelled_owned());
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

fn event<T: Serialize>(item: Result<T, ApiError>) -> Event {
    let event = match item {
        Ok(item) => Event::default().json_data(&item),
        Err(error) => Event::default().event("problem").json_data(error.problem()),
    };
    event.expect("our own types are always JSON")
}
