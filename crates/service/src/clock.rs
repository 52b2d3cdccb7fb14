//! The one place where our programs ask what time it is.

use std::time::Instant;

use jiff::Timestamp;

/// Returns this machine's wall clock. Deadlines of weavers go by the API server's clock instead.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Returns the monotonic clock, for measuring how long something takes.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}
