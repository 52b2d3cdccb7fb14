//! Whether the program's output may be read now: no faster than the fastest writer acknowledges.

use std::time::Duration;

use crate::viewer::Viewer;

/// A writer that owes an acknowledgement for so long counts no more.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// Whether the program's output may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Read on.
    Read,
    /// Wait for an acknowledgement; ask again at this time at the latest.
    Wait {
        /// When the next writer stops counting.
        until: Duration,
    },
}

/// Decides for the viewers of a session whose output ends at `end`.
pub(crate) fn decide<'a>(
    writers: impl Iterator<Item = &'a Viewer>,
    end: u64,
    window: u64,
    now: Duration,
) -> Flow {
    let mut until: Option<Duration> = None;
    for writer in writers {
        let Some(silent_at) = writer.silent_at() else { return Flow::Read };
        if silent_at <= now {
            continue;
        }
        if end - writer.acked < window {
            return Flow::Read;
        }
        until = Some(until.map_or(silent_at, |earliest| earliest.min(silent_at)));
    }
    until.map_or(Flow::Read, |until| Flow::Wait { until })
}
