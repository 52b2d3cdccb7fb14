//! The API server's clock, read off its answers; and what is lost of an answer otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode, header};
use jiff::Timestamp;
use tower::{BoxError, Layer, Service};

use crate::error::Overloaded;

/// What the API server's clock was last seen to show, and when that was here.
#[derive(Debug, Clone, Copy)]
struct Seen {
    server: Timestamp,
    wall: Timestamp,
    steady: Instant,
}

/// The API server's clock. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerClock(Arc<Mutex<Option<Seen>>>);

/// How long one look at the server's clock is good for.
const STALE: Duration = Duration::from_secs(600);

impl ServerClock {
    /// Returns the time there, unless it has to be asked for: never seen, seen too long ago, or
    /// this machine's clock has been set or suspended since.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        let (wall, steady) = here();
        let seen = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        time_there(&seen, wall, steady)
    }

    fn observe(&self, headers: &HeaderMap) {
        let text = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let Some(server) = text.and_then(read_date) else { return };
        let (wall, steady) = here();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.and_then(|seen| time_there(&seen, wall, steady));
        if before.is_none_or(|before| !agrees(before, server)) {
            *seen = Some(Seen { server, wall, steady });
        }
    }
}

/// The header has whole seconds: an estimate within that second is finer than the header.
fn agrees(estimate: Timestamp, header: Timestamp) -> bool {
    let ahead = estimate.duration_since(header);
    !ahead.is_negative() && ahead.as_secs() < 1
}

fn time_there(seen: &Seen, wall: Timestamp, steady: Instant) -> Option<Timestamp> {
    let passed = steady.saturating_duration_since(seen.steady);
    let by_wall = wall.duration_since(seen.wall);
    let passed_signed = jiff::SignedDuration::try_from(passed).ok()?;
    let jumped = by_wall.checked_sub(passed_signed)?.abs().as_secs() >= 2;
    if jumped || passed >= STALE {
        return None;
    }
    seen.server.checked_add(passed_signed).ok()
}

/// Reads an HTTP date (RFC 9110, section 5.6.7).
fn read_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where this crate asks what time it is"
)]
fn here() -> (Timestamp, Instant) {
    (Timestamp::now(), Instant::now())
}

/// Puts the clock below a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClockLayer(pub(crate) ServerClock);

impl<S> Layer<S> for ClockLayer {
    type Service = Clocked<S>;

    fn layer(&self, inner: S) -> Clocked<S> {
        Clocked { inner, clock: self.0.clone() }
    }
}

/// A client that looks at the clock of every answer.
#[derive(Debug, Clone)]
pub(crate) struct Clocked<S> {
    inner: S,
    clock: ServerClock,
}

impl<S, B, R> Service<Request<R>> for Clocked<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let clock = self.clock.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            // A 5xx may come from a proxy in between, with a clock of its own.
            if !answer.status().is_server_error() {
                clock.observe(answer.headers());
            }
            match overloaded(answer.status(), answer.headers()) {
                Some(wait) => Err(Overloaded(wait).into()),
                None => Ok(answer),
            }
        })
    }
}

/// Reads `Retry-After` of a 429, which the client above would lose.
fn overloaded(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.clamp(1, 3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Mon, 03 Mar 2025 10:00:00 GMT";

    fn seen() -> Seen {
        let (_, steady) = here();
        let server = read_date(DATE).unwrap();
        Seen { server, wall: Timestamp::UNIX_EPOCH, steady }
    }

    #[test]
    fn http_dates_are_read() {
        assert_eq!(read_date(DATE).unwrap().to_string(), "2025-03-03T10:00:00Z");
        assert_eq!(read_date("yesterday"), None);
    }

    #[test]
    fn abuse_clocks_the_servers_time_goes_on_from_what_was_seen() {
        let (seen, five) = (seen(), Duration::from_secs(5));
        let wall = Timestamp::from_second(5).unwrap();
        let there = time_there(&seen, wall, seen.steady + five).unwrap();
        assert_eq!(there.to_string(), "2025-03-03T10:00:05Z");
    }

    #[test]
    fn abuse_clocks_a_jump_of_ours_makes_it_ask_again() {
        let (seen, five) = (seen(), Duration::from_secs(5));
        for wall in [3600, -3600] {
            let wall = Timestamp::from_second(wall).unwrap();
            assert_eq!(time_there(&seen, wall, seen.steady + five), None);
        }
        let later = Timestamp::from_second(601).unwrap();
        assert_eq!(time_there(&seen, later, seen.steady + Duration::from_secs(601)), None);
    }

    #[test]
    fn a_finer_estimate_is_kept() {
        let header = read_date(DATE).unwrap();
        let half = header + jiff::SignedDuration::from_millis(500);
        assert!(agrees(half, header));
        assert!(!agrees(header + jiff::SignedDuration::from_secs(1), header));
        assert!(!agrees(header - jiff::SignedDuration::from_millis(1), header));
    }

    #[test]
    fn retry_after_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
        let wait = overloaded(StatusCode::TOO_MANY_REQUESTS, &headers);
        assert_eq!(wait, Some(Duration::from_secs(7)));
        assert_eq!(overloaded(StatusCode::OK, &headers), None);
    }
}
