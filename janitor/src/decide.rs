//! What is owed to a weaver at a moment; time is an argument.

use cluster::Found;
use jiff::Timestamp;

/// What is done with a weaver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its deadline has not come.
    Keep,
    /// Its deadline has come: delete it.
    Delete,
    /// It is being deleted already.
    Ending,
}

/// Decides about a weaver at `now`, which must be the API server's time.
#[must_use]
pub fn decide(found: &Found, now: Timestamp) -> Verdict {
    match (found.pod.deleting, found.weaver.is_expired(now)) {
        (true, _) => Verdict::Ending,
        (false, true) => Verdict::Delete,
        (false, false) => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use cluster::PodFacts;
    use jiff::SignedDuration;
    use weaver::Weaver;

    use super::*;

    #[test]
    fn nothing_is_deleted_before_its_deadline() {
        let mut found = Found { weaver: Weaver::sample(), pod: PodFacts::default() };
        let deadline = found.weaver.expires_at();
        let second = SignedDuration::from_secs(1);
        assert_eq!(decide(&found, deadline - second), Verdict::Keep);
        assert_eq!(decide(&found, deadline), Verdict::Delete);
        assert_eq!(decide(&found, deadline + second), Verdict::Delete);
        found.pod.deleting = true;
        assert_eq!(decide(&found, deadline + second), Verdict::Ending);
    }
}
