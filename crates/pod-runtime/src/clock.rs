//! The only place where time enters.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Returns the wall clock's time, for people.
#[expect(clippy::disallowed_methods, reason = "the place where the clock enters this crate")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Returns time since boot, suspended or not; it never jumps. For deadlines.
pub(crate) fn uptime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
