//! A session: one run of a program, its output and everybody who looks at it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::flow::{self, Flow};
use crate::input::{Accepted, Input, InputError, Pending};
use crate::ring::{Ring, Stream, count};
use crate::screen::Screen;
use crate::size::Size;
use crate::viewer::{End, Event, Role, Viewer, ViewerKey};

/// Most bytes of one event.
const PIECE: usize = 32 * 1024;

/// How much is kept and sent ahead.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of output that are kept.
    pub ring: usize,
    /// Bytes that a viewer is sent before it acknowledges any.
    pub window: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ring: 4 * 1024 * 1024, window: 256 * 1024 }
    }
}

/// Where a viewer wants its output to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// At this offset of this session.
    At(u64),
    /// In another session, of which nothing is here.
    Elsewhere,
}

/// How a viewer comes.
#[derive(Debug, Clone, Default)]
pub struct Join {
    /// Names the client, so that its input is not taken twice; empty: it has no name.
    pub client: String,
    /// Where its output goes on.
    pub resume: Option<Resume>,
    /// Its terminal's size.
    pub size: Option<Size>,
    /// Whether it wants all that is kept rather than the present screen.
    pub from_start: bool,
    /// What it may do.
    pub role: Role,
}

/// One run of a program.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    ring: Ring,
    screen: Option<Screen>,
    size: Size,
    input: Input,
    viewers: BTreeMap<ViewerKey, Viewer>,
    newest: ViewerKey,
    end: Option<End>,
}

impl Session {
    /// Starts a session, on a terminal or not.
    #[must_use]
    pub fn new(tty: bool, limits: Limits) -> Self {
        Self {
            limits,
            ring: Ring::new(limits.ring),
            screen: tty.then(|| Screen::new(Size::default())),
            size: Size::default(),
            input: Input::default(),
            viewers: BTreeMap::new(),
            newest: ViewerKey::first(),
            end: None,
        }
    }

    /// Takes output of the program.
    pub fn output(&mut self, stream: Stream, data: &[u8], now: Duration) {
        let before = self.ring.end();
        self.ring.push(stream, data);
        if let Some(screen) = &mut self.screen {
            screen.push(data);
        }
        for viewer in self.viewers.values_mut().filter(|viewer| viewer.acked == before) {
            viewer.owes = Some(now);
        }
    }

    /// Ends the session: everybody gets what is left of the output, then this.
    pub fn end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Lets the kept output go; who has not had it gets a gap.
    pub fn abandon(&mut self) {
        self.ring.clear();
        self.screen = None;
    }

    /// Lets a viewer in. One that is there under the same client's name is detached.
    pub fn join(&mut self, join: Join, now: Duration) -> ViewerKey {
        self.newest = self.newest.next();
        let key = self.newest;
        let client = if join.client.is_empty() { format!("\0{key:?}") } else { join.client };
        self.replace(&client);
        let input = self.input.attach(&client, now);
        let viewer = Viewer {
            client,
            role: join.role,
            size: join.size,
            cursor: 0,
            acked: 0,
            owes: None,
            first: VecDeque::new(),
            size_due: false,
            // What reached the program earlier is told again: the word may have been lost.
            input_acked: 0,
            left: None,
            done: false,
        };
        self.viewers.insert(key, viewer);
        self.fit();
        self.greet(key, join.resume, join.from_start, input, now);
        key
    }

    /// Lets a viewer go.
    pub fn leave(&mut self, key: ViewerKey, now: Duration) {
        if let Some(viewer) = self.viewers.remove(&key) {
            self.input.detach(&viewer.client, now);
            self.fit();
        }
    }

    /// Detaches a viewer, telling it why.
    pub fn detach(&mut self, key: ViewerKey, why: &'static str) {
        if let Some(viewer) = self.viewers.get_mut(&key) {
            viewer.left = Some(why);
            self.fit();
        }
    }

    /// Returns what a viewer is sent next; `None` while there is nothing, or its window is full.
    pub fn next(&mut self, key: ViewerKey, now: Duration) -> Option<Event> {
        let viewer = self.viewers.get_mut(&key).filter(|viewer| !viewer.done)?;
        if let Some(why) = viewer.left {
            viewer.done = true;
            return Some(Event::End(End::Left(why)));
        }
        if let Some(event) = viewer.first.pop_front() {
            return Some(event);
        }
        if std::mem::take(&mut viewer.size_due) {
            return Some(Event::Size(self.size));
        }
        let reached = self.input.reached(&viewer.client);
        if reached > viewer.input_acked {
            viewer.input_acked = reached;
            return Some(Event::InputAck { offset: reached });
        }
        self.next_output(key, now)
    }

    /// Takes a viewer's acknowledgement of output.
    pub fn ack(&mut self, key: ViewerKey, offset: u64, now: Duration) {
        let end = self.ring.end();
        if let Some(viewer) = self.viewers.get_mut(&key) {
            viewer.ack(offset, end, now);
        }
    }

    /// Takes a viewer's size.
    pub fn resize(&mut self, key: ViewerKey, size: Size) {
        if let Some(viewer) = self.viewers.get_mut(&key) {
            viewer.size = Some(size);
            self.fit();
        }
    }

    /// Takes a viewer's input, what is new of it.
    ///
    /// # Errors
    /// Says why it cannot be taken; the viewer should be detached then.
    pub fn input(
        &mut self,
        key: ViewerKey,
        offset: u64,
        data: Bytes,
    ) -> Result<Accepted, InputError> {
        self.writer(key)?;
        let client = &self.viewers[&key].client;
        self.input.take(client, offset, data)
    }

    /// Takes a viewer's Ctrl+D on an empty line; it counts as one byte of input.
    ///
    /// # Errors
    /// As [`Session::input`].
    pub fn ask_leave(&mut self, key: ViewerKey, offset: u64) -> Result<Accepted, InputError> {
        self.writer(key)?;
        let client = &self.viewers[&key].client;
        self.input.leave(client, key, offset)
    }

    /// Takes a viewer's word that no more input comes.
    ///
    /// # Errors
    /// As [`Session::input`].
    pub fn eof(&mut self, key: ViewerKey, offset: u64) -> Result<Accepted, InputError> {
        self.writer(key)?;
        let client = &self.viewers[&key].client;
        self.input.eof(client, offset)
    }

    /// Returns what comes next for the program.
    #[must_use]
    pub fn pending(&self) -> Option<Pending> {
        self.input.pending()
    }

    /// Notes that so many bytes of [`Pending::Bytes`] have reached the program.
    pub fn wrote(&mut self, bytes: usize) {
        self.input.wrote(bytes);
    }

    /// Answers [`Pending::Leave`]: the viewer is detached, or 0x04 comes next for the program.
    pub fn answer_leave(&mut self, granted: bool) {
        let Some(Pending::Leave(key)) = self.input.pending() else { return };
        self.input.answer_leave(granted);
        if granted {
            self.detach(key, "leave");
        }
    }

    /// Says whether Ctrl+C, typed by itself, waits behind other input.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.input.is_interrupted()
    }

    /// Forgets what waits before that Ctrl+C, as a terminal does with input that nobody read.
    pub fn forget_before_interrupt(&mut self) {
        self.input.forget_before_interrupt();
    }

    /// Notes that [`Pending::Eof`] was passed on.
    pub fn passed_eof(&mut self) {
        self.input.passed_eof();
    }

    /// Says whether nobody has typed a part of a line, as far as one can tell.
    #[must_use]
    pub fn line_is_empty(&self) -> bool {
        self.input.line_is_empty()
    }

    /// Says whether the program's output may be read now.
    #[must_use]
    pub fn flow(&self, now: Duration) -> Flow {
        let writers = self.viewers.values().filter(|viewer| viewer.is_writer());
        flow::decide(writers, self.ring.end(), self.limits.window, now)
    }

    /// Returns the size that the terminal should have.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Returns the count of bytes ever written by the program.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.ring.end()
    }

    /// Returns how many viewers are here.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// Returns how many bytes all viewers together have acknowledged, to see that they go on.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.viewers.values().map(|viewer| viewer.acked).sum()
    }

    /// Says whether a viewer has been sent its last event, or is not here.
    #[must_use]
    pub fn is_done(&self, key: ViewerKey) -> bool {
        self.viewers.get(&key).is_none_or(|viewer| viewer.done)
    }

    fn writer(&self, key: ViewerKey) -> Result<(), InputError> {
        self.viewers.get(&key).filter(|viewer| viewer.is_writer()).ok_or(InputError::Viewer)?;
        Ok(())
    }

    fn replace(&mut self, client: &str) {
        for viewer in self.viewers.values_mut().filter(|viewer| viewer.client == client) {
            viewer.left = Some("replaced");
        }
    }

    /// Puts together what a viewer is sent first.
    fn greet(
        &mut self,
        key: ViewerKey,
        resume: Option<Resume>,
        from_start: bool,
        input: u64,
        now: Duration,
    ) {
        let (start, end) = (self.ring.start(), self.ring.end());
        let replay = from_start || self.screen.is_none();
        let (offset, lost) = match resume {
            Some(Resume::At(at)) if (start..=end).contains(&at) => (at, None),
            Some(Resume::At(at)) if replay => (start, Some(start.saturating_sub(at))),
            Some(Resume::At(at)) => (end, Some(end.saturating_sub(at))),
            Some(Resume::Elsewhere) => (if replay { start } else { end }, Some(0)),
            None if replay => (start, (start > 0).then_some(start)),
            None => (end, None),
        };
        let resumed = matches!(resume, Some(Resume::At(_))) && lost.is_none();
        let picture = if resumed || replay { Vec::new() } else { self.picture() };
        let size = self.size;
        let Some(viewer) = self.viewers.get_mut(&key) else { return };
        viewer.jump(offset, end, now);
        viewer.size_due = false;
        viewer.first.push_back(Event::Hello { offset, input, size });
        viewer.first.extend(lost.map(|lost| Event::Gap { offset, lost }));
        viewer.first.extend(picture);
    }

    /// Returns output, or the gap and the picture of a viewer that has fallen behind, or the end.
    fn next_output(&mut self, key: ViewerKey, now: Duration) -> Option<Event> {
        let viewer = self.viewers.get_mut(&key)?;
        let room = self.limits.window.saturating_sub(viewer.cursor - viewer.acked);
        if viewer.cursor == self.ring.end() {
            let end = self.end.clone()?;
            viewer.done = true;
            return Some(Event::End(end));
        }
        if room == 0 {
            return None;
        }
        if viewer.cursor < self.ring.start() {
            return self.gap(key, now);
        }
        let most = PIECE.min(usize::try_from(room).unwrap_or(PIECE));
        let chunk = self.ring.read(viewer.cursor, most)?;
        viewer.cursor += count(chunk.data);
        let data = Bytes::copy_from_slice(chunk.data);
        Some(Event::Output { offset: chunk.offset, stream: chunk.stream, data })
    }

    fn gap(&mut self, key: ViewerKey, now: Duration) -> Option<Event> {
        let (start, end) = (self.ring.start(), self.ring.end());
        let offset = if self.screen.is_some() { end } else { start };
        let picture = self.picture();
        let viewer = self.viewers.get_mut(&key)?;
        let lost = offset - viewer.cursor;
        viewer.jump(offset, end, now);
        viewer.first.extend(picture);
        Some(Event::Gap { offset, lost })
    }

    fn picture(&mut self) -> Vec<Event> {
        let offset = self.ring.end();
        let Some(screen) = &mut self.screen else { return Vec::new() };
        let picture = Bytes::from(screen.paint());
        let mut pieces = Vec::new();
        for from in (0..picture.len()).step_by(PIECE) {
            let data = picture.slice(from..picture.len().min(from + PIECE));
            pieces.push(Event::Screen { offset, data });
        }
        pieces
    }

    /// Gives the terminal the size of the smallest writer; without any it keeps what it has.
    fn fit(&mut self) {
        let writers = self.viewers.values().filter(|viewer| viewer.is_writer());
        let smallest = writers.filter_map(|viewer| viewer.size).reduce(Size::smallest);
        let Some(size) = smallest.filter(|size| *size != self.size) else { return };
        self.size = size;
        if let Some(screen) = &mut self.screen {
            screen.resize(size);
        }
        self.viewers.values_mut().for_each(|viewer| viewer.size_due = true);
    }
}
