//! Input of many clients: numbered by each, taken once, in order, and acknowledged when it has
//! reached the program.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::line::Line;
use crate::ring::count;
use crate::viewer::ViewerKey;

/// Clients that are remembered after they have left.
const REMEMBERED: usize = 64;
/// How long they are remembered.
const MEMORY: Duration = Duration::from_secs(3600);
/// Most bytes of a client that wait for the program. Clients keep 256 KiB unacknowledged at most.
const QUEUE: u64 = 1024 * 1024;

/// Most bytes of keys that are joined while they wait.
const JOINED: usize = 4096;

/// Ctrl+C.
const INTERRUPT: u8 = 3;

/// What became of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Something of it is new and waits for the program.
    New,
    /// All of it was taken before.
    Before,
}

/// Why input was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Bytes before it are missing.
    #[error("input at {got}, but {expected} was to come next")]
    Missing {
        /// The offset that was to come next.
        expected: u64,
        /// The offset that came.
        got: u64,
    },
    /// The program does not read, and the client does not wait.
    #[error("more than {QUEUE} bytes of input wait for the program")]
    Full,
    /// There is no such viewer.
    #[error("no such viewer")]
    Viewer,
}

/// What comes next for the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// Bytes to write; say how many with [`crate::Session::wrote`].
    Bytes(Bytes),
    /// Ctrl+D on an empty line: detach, or pass it on, with [`crate::Session::answer_leave`].
    Leave(ViewerKey),
    /// No more input comes; say that it was passed on with [`crate::Session::passed_eof`].
    Eof,
}

#[derive(Debug, Default)]
struct Client {
    expected: u64,
    reached: u64,
    eof: bool,
    attached: u32,
    seen: Duration,
}

/// All clients of a session and what they have typed.
#[derive(Debug, Default)]
pub(crate) struct Input {
    clients: HashMap<String, Client>,
    queue: VecDeque<(String, Pending)>,
    line: Line,
}

impl Input {
    /// Lets a client in and returns the next byte that is expected of it.
    pub(crate) fn attach(&mut self, client: &str, now: Duration) -> u64 {
        self.forget(now);
        let known = self.clients.entry(client.to_owned()).or_default();
        known.attached += 1;
        known.seen = now;
        known.expected
    }

    pub(crate) fn detach(&mut self, client: &str, now: Duration) {
        if let Some(known) = self.clients.get_mut(client) {
            known.attached = known.attached.saturating_sub(1);
            known.seen = now;
        }
        self.forget(now);
    }

    /// Takes what is new of a client's bytes.
    pub(crate) fn take(
        &mut self,
        client: &str,
        offset: u64,
        mut data: Bytes,
    ) -> Result<Accepted, InputError> {
        let known = self.clients.get_mut(client).ok_or(InputError::Viewer)?;
        let before = known.before(offset)?;
        if before >= count(&data) {
            return Ok(Accepted::Before);
        }
        data.advance(usize::try_from(before).unwrap_or(usize::MAX));
        known.expect(count(&data))?;
        self.push(client, data);
        Ok(Accepted::New)
    }

    /// Puts bytes behind what waits. Keys of one client are joined: of a million that nobody reads
    /// each would otherwise have a place of its own. Ctrl+C by itself stays by itself.
    fn push(&mut self, client: &str, data: Bytes) {
        if let Some((last, Pending::Bytes(waiting))) = self.queue.back_mut()
            && last == client
            && waiting.len() + data.len() <= JOINED
            && !is_interrupt(waiting)
            && !is_interrupt(&data)
        {
            let mut joined = BytesMut::from(std::mem::take(waiting));
            joined.extend_from_slice(&data);
            *waiting = joined.freeze();
        } else {
            self.queue.push_back((client.to_owned(), Pending::Bytes(data)));
        }
    }

    pub(crate) fn leave(
        &mut self,
        client: &str,
        viewer: ViewerKey,
        offset: u64,
    ) -> Result<Accepted, InputError> {
        let known = self.clients.get_mut(client).ok_or(InputError::Viewer)?;
        if known.before(offset)? > 0 {
            return Ok(Accepted::Before);
        }
        known.expect(1)?;
        self.queue.push_back((client.to_owned(), Pending::Leave(viewer)));
        Ok(Accepted::New)
    }

    pub(crate) fn eof(&mut self, client: &str, offset: u64) -> Result<Accepted, InputError> {
        let known = self.clients.get_mut(client).ok_or(InputError::Viewer)?;
        if known.before(offset)? > 0 || known.eof {
            return Ok(Accepted::Before);
        }
        known.eof = true;
        self.queue.push_back((client.to_owned(), Pending::Eof));
        Ok(Accepted::New)
    }

    pub(crate) fn pending(&self) -> Option<Pending> {
        self.queue.front().map(|(_, pending)| pending.clone())
    }

    /// Notes that bytes of the front have reached the program; returns whose they were.
    pub(crate) fn wrote(&mut self, written: usize) -> Option<String> {
        let (client, Pending::Bytes(data)) = self.queue.front_mut()? else { return None };
        let done = data.split_to(written.min(data.len()));
        self.line.follow(&done);
        let client = client.clone();
        if data.is_empty() {
            self.queue.pop_front();
        }
        self.reach(&client, count(&done));
        Some(client)
    }

    /// Takes the front's Ctrl+D off: it is answered, or becomes a byte for the program.
    pub(crate) fn answer_leave(&mut self, granted: bool) -> Option<String> {
        let (client, pending) = self.queue.front_mut()?;
        if !matches!(pending, Pending::Leave(_)) {
            return None;
        }
        let client = client.clone();
        if granted {
            self.queue.pop_front();
            self.reach(&client, 1);
        } else {
            *pending = Pending::Bytes(Bytes::from_static(&[0x04]));
        }
        Some(client)
    }

    /// Says whether Ctrl+C, typed by itself, waits behind other input.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupt().is_some()
    }

    /// Forgets what waits before the last such Ctrl+C; its clients may go on as if it was read.
    pub(crate) fn forget_before_interrupt(&mut self) {
        for (client, pending) in
            self.queue.drain(..self.interrupt().unwrap_or(0)).collect::<Vec<_>>()
        {
            let bytes = match pending {
                Pending::Bytes(data) => count(&data),
                Pending::Leave(_) => 1,
                Pending::Eof => 0,
            };
            self.reach(&client, bytes);
        }
    }

    /// Returns the place of the last Ctrl+C that has something before it.
    fn interrupt(&self) -> Option<usize> {
        let is = |(_, pending): &(String, Pending)| match pending {
            Pending::Bytes(data) => is_interrupt(data),
            Pending::Leave(_) | Pending::Eof => false,
        };
        self.queue.iter().rposition(is).filter(|place| *place > 0)
    }

    pub(crate) fn passed_eof(&mut self) {
        if matches!(self.queue.front(), Some((_, Pending::Eof))) {
            self.queue.pop_front();
        }
    }

    pub(crate) fn reached(&self, client: &str) -> u64 {
        self.clients.get(client).map_or(0, |known| known.reached)
    }

    pub(crate) fn line_is_empty(&self) -> bool {
        self.line.is_empty()
    }

    fn reach(&mut self, client: &str, bytes: u64) {
        if let Some(known) = self.clients.get_mut(client) {
            known.reached += bytes;
        }
    }

    /// Forgets clients that left long ago, and the oldest ones when there are too many.
    ///
    /// One whose input still waits stays: its bytes are yet to be acknowledged.
    fn forget(&mut self, now: Duration) {
        self.clients.retain(|_, known| known.is_wanted() || now < known.seen + MEMORY);
        let mut gone: Vec<(Duration, String)> = self
            .clients
            .iter()
            .filter(|(_, known)| !known.is_wanted())
            .map(|(name, known)| (known.seen, name.clone()))
            .collect();
        gone.sort_unstable();
        let surplus = gone.len().saturating_sub(REMEMBERED);
        for (_, name) in gone.into_iter().take(surplus) {
            self.clients.remove(&name);
        }
    }
}

fn is_interrupt(data: &[u8]) -> bool {
    data.iter().all(|byte| *byte == INTERRUPT)
}

impl Client {
    fn is_wanted(&self) -> bool {
        self.attached > 0 || self.reached < self.expected
    }

    /// Returns how many bytes from `offset` on were taken before.
    fn before(&self, offset: u64) -> Result<u64, InputError> {
        let missing = InputError::Missing { expected: self.expected, got: offset };
        self.expected.checked_sub(offset).ok_or(missing)
    }

    fn expect(&mut self, bytes: u64) -> Result<(), InputError> {
        if self.expected - self.reached + bytes > QUEUE {
            return Err(InputError::Full);
        }
        self.expected += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn typed(input: &mut Input) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(Pending::Bytes(data)) = input.pending() {
            input.wrote(data.len().min(2));
            all.extend_from_slice(&data[..data.len().min(2)]);
        }
        all
    }

    #[test]
    fn a_byte_is_taken_once() {
        let mut input = Input::default();
        input.attach("a", NOW);
        assert_eq!(input.take("a", 0, Bytes::from_static(b"hel")), Ok(Accepted::New));
        assert_eq!(input.take("a", 0, Bytes::from_static(b"hel")), Ok(Accepted::Before));
        assert_eq!(input.take("a", 1, Bytes::from_static(b"ello")), Ok(Accepted::New));
        let missing = InputError::Missing { expected: 5, got: 9 };
        assert_eq!(input.take("a", 9, Bytes::from_static(b"x")), Err(missing));
        assert_eq!(typed(&mut input), b"hello");
        assert_eq!(input.reached("a"), 5);
    }

    #[test]
    fn sixty_four_clients_are_remembered_and_attached_ones_always() {
        let mut input = Input::default();
        for number in 0..200_u64 {
            let name = number.to_string();
            input.attach(&name, Duration::from_secs(number));
            input.take(&name, 0, Bytes::from_static(b"x")).unwrap();
            typed(&mut input);
            if number > 0 {
                input.detach(&name, Duration::from_secs(number));
            }
        }
        assert_eq!(input.clients.len(), 65);
        assert_eq!(input.attach("0", Duration::from_secs(200)), 1);
        assert_eq!(input.attach("199", Duration::from_secs(200)), 1);
        assert_eq!(input.attach("1", Duration::from_secs(200)), 0);
    }

    #[test]
    fn a_client_is_forgotten_after_an_hour() {
        let mut input = Input::default();
        input.attach("a", NOW);
        input.take("a", 0, Bytes::from_static(b"x")).unwrap();
        typed(&mut input);
        input.detach("a", NOW);
        assert_eq!(input.attach("a", MEMORY - Duration::from_secs(1)), 1);
        input.detach("a", NOW);
        assert_eq!(input.attach("a", MEMORY), 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut input = Input::default();
        input.attach("a", NOW);
        let block = Bytes::from(vec![b'x'; 1 << 20]);
        assert_eq!(input.take("a", 0, block), Ok(Accepted::New));
        assert_eq!(input.take("a", 1 << 20, Bytes::from_static(b"y")), Err(InputError::Full));
    }

    #[test]
    fn a_million_single_keys_cost_little_more_than_their_bytes() {
        let mut input = Input::default();
        input.attach("a", NOW);
        let keys: Vec<u8> = (0..1 << 20).map(|nth: u32| b'a' + nth.to_le_bytes()[0] % 26).collect();
        for (offset, key) in (0..).zip(&keys) {
            input.take("a", offset, Bytes::copy_from_slice(&[*key])).unwrap();
        }
        assert!(input.queue.len() <= keys.len() / JOINED + 1, "{}", input.queue.len());
        input.attach("b", NOW);
        for (offset, client) in [(keys.len(), "a"), (0, "b")] {
            let late = input.take(client, offset as u64, Bytes::from_static(b"z"));
            assert_eq!(late.is_ok(), client == "b");
        }
        assert_eq!(typed(&mut input), [&keys[..], b"z"].concat());
        assert_eq!((input.reached("a"), input.reached("b")), (keys.len() as u64, 1));
    }

    #[test]
    fn ctrl_c_by_itself_is_not_joined_to_other_keys() {
        let mut input = Input::default();
        input.attach("a", NOW);
        for (offset, key) in (0..).zip([b"x", b"\x03", b"y", b"z"]) {
            input.take("a", offset, Bytes::from_static(key)).unwrap();
        }
        assert!(input.is_interrupted());
        input.forget_before_interrupt();
        assert_eq!(typed(&mut input), b"\x03yz");
    }

    #[test]
    fn ctrl_c_by_itself_can_take_what_waits_away() {
        let mut input = Input::default();
        input.attach("a", NOW);
        input.attach("b", NOW);
        input.take("a", 0, Bytes::from_static(b"\x03")).unwrap();
        assert!(!input.is_interrupted(), "nothing is before it");
        input.take("b", 0, Bytes::from_static(b"x\x03y")).unwrap();
        assert!(!input.is_interrupted(), "a part of something else");
        input.leave("b", ViewerKey::first(), 3).unwrap();
        input.take("a", 1, Bytes::from_static(b"\x03\x03")).unwrap();
        input.take("b", 4, Bytes::from_static(b"z")).unwrap();
        assert!(input.is_interrupted());
        input.forget_before_interrupt();
        assert!(!input.is_interrupted());
        assert_eq!((input.reached("a"), input.reached("b")), (1, 4));
        assert_eq!(typed(&mut input), b"\x03\x03z");
        assert_eq!((input.reached("a"), input.reached("b")), (3, 5));
    }

    #[test]
    fn ctrl_d_counts_as_one_byte() {
        let mut input = Input::default();
        input.attach("a", NOW);
        let viewer = ViewerKey::first();
        assert_eq!(input.leave("a", viewer, 0), Ok(Accepted::New));
        assert_eq!(input.leave("a", viewer, 0), Ok(Accepted::Before));
        assert_eq!(input.pending(), Some(Pending::Leave(viewer)));
        input.answer_leave(false);
        assert_eq!(typed(&mut input), [4]);
        input.leave("a", viewer, 1).unwrap();
        input.answer_leave(true);
        assert_eq!((input.pending(), input.reached("a")), (None, 2));
    }
}
