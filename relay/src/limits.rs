//! How often something may happen: a token bucket. Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    level: f64,
    capacity: f64,
    per_second: f64,
    at: Instant,
}

impl Bucket {
    /// Makes a full one.
    pub(crate) fn new(capacity: u32, per_second: u32, now: Instant) -> Self {
        let capacity = f64::from(capacity);
        Self { level: capacity, capacity, per_second: f64::from(per_second), at: now }
    }

    /// Takes one token, or says how long it takes until there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + since * self.per_second).min(self.capacity);
        self.at = now;
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.level) / self.per_second))
    }
}

/// What a viewer's socket may send.
#[derive(Debug)]
pub(crate) struct Pace {
    idle: Bucket,
    busy: Bucket,
}

/// What to do about a frame that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it.
    Pass,
    /// Take it, after a while.
    Wait(Duration),
    /// Close the connection.
    TooMany,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { idle: Bucket::new(200, 20, now), busy: Bucket::new(20_000, 10_000, now) }
    }

    /// Judges a frame. Frames that carry nothing, and pings, have no honest use in numbers; frames
    /// that carry something are slowed down only.
    pub(crate) fn judge(&mut self, carries: bool, now: Instant) -> Verdict {
        let bucket = if carries { &mut self.busy } else { &mut self.idle };
        match bucket.take(now) {
            Ok(()) => Verdict::Pass,
            Err(wait) if carries => Verdict::Wait(wait),
            Err(_) => Verdict::TooMany,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refills_with_time_and_not_beyond_its_brim() {
        #[expect(clippy::disallowed_methods, reason = "a test needs one instant to count from")]
        let start = Instant::from_std(std::time::Instant::now());
        let mut bucket = Bucket::new(2, 1, start);
        assert_eq!([bucket.take(start), bucket.take(start)], [Ok(()), Ok(())]);
        assert_eq!(bucket.take(start), Err(Duration::from_secs(1)));
        let later = start + Duration::from_secs(1);
        assert_eq!(bucket.take(later), Ok(()));
        let hour = start + Duration::from_secs(3600);
        let taken = (0..10).filter(|_| bucket.take(hour).is_ok()).count();
        assert_eq!(taken, 2);
    }
}
