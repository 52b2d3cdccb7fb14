//! How a stream ends: close codes (RFC 6455, 7.4.1) and their reasons.

use weaver::Why;

/// A WebSocket close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Close {
    /// The code.
    pub(crate) code: u16,
    /// Why, at most 123 bytes.
    pub(crate) reason: String,
}

/// Everything is done.
pub(crate) const NORMAL: u16 = 1000;
/// The weaver goes away.
pub(crate) const AWAY: u16 = 1001;
/// A rule of WebSocket or of attach v2 was broken.
pub(crate) const PROTOCOL: u16 = 1002;
/// Text where frames were agreed.
pub(crate) const UNSUPPORTED: u16 = 1003;
/// Text that is not UTF-8.
pub(crate) const NOT_UTF8: u16 = 1007;
/// Too much of what nobody needs.
pub(crate) const POLICY: u16 = 1008;
/// A message over the limit.
pub(crate) const TOO_BIG: u16 = 1009;
/// The weaver has failed.
pub(crate) const FAILED: u16 = 1011;
/// The connection to the weaver or the relay starts again: attach again.
pub(crate) const RESTART: u16 = 1012;
/// Not now: attach again in a moment.
pub(crate) const AGAIN: u16 = 1013;

/// Most bytes of a reason: a control frame has 125.
const MAX_REASON: usize = 123;

impl Close {
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        let mut end = MAX_REASON.min(reason.len());
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        Self { code, reason }
    }
}

/// Why a weaver's viewers cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Its program has ended.
    Exited(i32),
    /// A program beside the session could not be started: its code, and a line that says why.
    CannotRun(i32, String),
    /// It never got as far as a program, or was killed.
    Failed(Why),
    /// Somebody has deleted it.
    Deleted,
    /// Its deadline has come.
    Expired,
    /// The stream to its host broke; the weaver may be well.
    Broken,
    /// The cluster does not answer, or refuses, in words.
    Unavailable(String),
    /// The viewer reads slower than its queue can hold.
    Slow,
    /// This relay shuts down.
    Drain,
}

impl From<End> for Close {
    fn from(end: End) -> Self {
        match end {
            End::Exited(code) | End::CannotRun(code, _) => {
                Self::new(NORMAL, format!("exit {code}"))
            }
            End::Failed(why) => Self::new(FAILED, format!("{}: {}", why.reason, why.message)),
            End::Deleted => Self::new(AWAY, "weaver deleted"),
            End::Expired => Self::new(AWAY, "weaver expired"),
            End::Broken => Self::new(RESTART, "the connection to the weaver broke: attach again"),
            End::Unavailable(why) => Self::new(AGAIN, why),
            End::Slow => Self::new(AGAIN, "too slow: attach again"),
            End::Drain => Self::new(RESTART, "the relay restarts: attach again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_a_control_frame_and_is_cut_between_characters() {
        let close = Close::new(FAILED, "é".repeat(100));
        assert_eq!(close.reason.len(), 122);
    }

    #[test]
    fn an_exit_is_told_as_the_documents_tell_it() {
        assert_eq!(Close::from(End::Exited(7)), Close::new(1000, "exit 7"));
    }
}
