//! The one place where this crate reads the clock.

use jiff::Timestamp;

/// Returns the present moment.
#[expect(clippy::disallowed_methods, reason = "the API server is the clock of its clients")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Returns `at` as Kubernetes writes it: RFC 3339, whole seconds, `Z`.
pub(crate) fn text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns the present moment as Kubernetes writes it.
pub(crate) fn now_text() -> String {
    text(now())
}

/// Reads what [`text`] wrote.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Returns the whole seconds from `then` to `now`, never negative.
pub(crate) fn seconds_between(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.as_second() - then.as_second()).unwrap_or(0)
}

/// Returns `at` as Kubernetes writes its finer moments: RFC 3339, microseconds, `Z`.
pub(crate) fn micro_text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
