//! A request's body with a deadline: one that never ends does end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio::time::Sleep;

/// The body did not end in time.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the request's body did not end in time")]
pub struct BodyTimedOut;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body and when it must have ended.
pub(crate) struct Deadlined {
    inner: Incoming,
    deadline: Pin<Box<Sleep>>,
}

/// Gives a body `time` from now on; one that is empty needs none.
pub(crate) fn within(inner: Incoming, time: Duration) -> Body {
    if inner.is_end_stream() {
        return Body::empty();
    }
    Body::new(Deadlined { inner, deadline: Box::pin(tokio::time::sleep(time)) })
}

impl HttpBody for Deadlined {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // The deadline comes first: a body that trickles always has something ready.
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyTimedOut.into())));
        }
        Pin::new(&mut self.inner).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
