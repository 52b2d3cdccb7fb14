//! The one place where time enters.

use smoltcp::time::Instant;

/// Monotonic time since the stack started.
#[derive(Debug)]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the stack's own monotonic clock starts here")]
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(&self) -> Instant {
        let micros = i64::try_from(self.0.elapsed().as_micros()).unwrap_or(i64::MAX);
        Instant::from_micros(micros)
    }
}
