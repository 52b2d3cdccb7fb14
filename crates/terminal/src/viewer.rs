//! One viewer: its cursor, its window, and what waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::flow::SILENCE;
use crate::ring::Stream;
use crate::size::Size;

/// Names a viewer within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewerKey(u64);

impl ViewerKey {
    pub(crate) fn first() -> Self {
        Self(1)
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What a viewer may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Type and resize; its acknowledgements set the pace.
    #[default]
    Write,
    /// Look on.
    Read,
}

/// How it ends for a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The program ended, and the weaver with it.
    Exit(i32),
    /// The viewer is detached, for a reason in a word.
    Left(&'static str),
}

/// What a viewer is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// First: output goes on at `offset`, the client's input at `input`.
    Hello {
        /// Bytes of output before what follows.
        offset: u64,
        /// The next byte that is expected of the client.
        input: u64,
        /// The terminal's size.
        size: Size,
    },
    /// Bytes before `offset` are gone.
    Gap {
        /// Where it goes on.
        offset: u64,
        /// How many are gone; 0 where the viewer comes from another session.
        lost: u64,
    },
    /// Bytes that paint the screen as it is at `offset`; several in a row make one picture.
    Screen {
        /// Bytes of output that the picture holds.
        offset: u64,
        /// What to write to the viewer's terminal.
        data: Bytes,
    },
    /// Output.
    Output {
        /// Bytes before it.
        offset: u64,
        /// Where it was written.
        stream: Stream,
        /// The bytes.
        data: Bytes,
    },
    /// The client's input before `offset` has reached the program.
    InputAck {
        /// Bytes of input.
        offset: u64,
    },
    /// The terminal's size is now this.
    Size(Size),
    /// Last.
    End(End),
}

#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) client: String,
    pub(crate) role: Role,
    pub(crate) size: Option<Size>,
    /// The next byte of output to send.
    pub(crate) cursor: u64,
    /// What the viewer has said to have.
    pub(crate) acked: u64,
    /// Since when it has had something to acknowledge.
    pub(crate) owes: Option<Duration>,
    /// What is sent before anything else.
    pub(crate) first: VecDeque<Event>,
    pub(crate) size_due: bool,
    pub(crate) input_acked: u64,
    /// Detached by itself or by another, whatever the session does.
    pub(crate) left: Option<&'static str>,
    pub(crate) done: bool,
}

impl Viewer {
    /// Says when the viewer stops to count, if it owes something.
    pub(crate) fn silent_at(&self) -> Option<Duration> {
        self.owes.map(|since| since + SILENCE)
    }

    pub(crate) fn is_writer(&self) -> bool {
        self.role == Role::Write && !self.done && self.left.is_none()
    }

    /// Notes an acknowledgement; it never goes back, and not beyond what was sent.
    pub(crate) fn ack(&mut self, offset: u64, end: u64, now: Duration) {
        let offset = offset.min(self.cursor);
        if offset > self.acked {
            self.acked = offset;
            self.owes = (self.acked < end).then_some(now);
        }
    }

    /// Goes on elsewhere, as if all before had been acknowledged.
    pub(crate) fn jump(&mut self, offset: u64, end: u64, now: Duration) {
        self.cursor = offset;
        self.acked = offset;
        self.owes = (offset < end).then_some(now);
    }
}
