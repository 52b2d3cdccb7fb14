//! A session against a reference: whatever happens in whatever order, viewers have received the
//! output with marked gaps only, and acknowledged input has reached the program once, in order.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use terminal::{End, Event, Flow, Join, Limits, Pending, Resume, Session, Stream, ViewerKey};

const CLIENTS: u8 = 4;
const LIMITS: Limits = Limits { ring: 8192, window: 1024 };

#[derive(Debug, Clone)]
enum Transition {
    /// The program writes, whether or not the session would read it.
    Output { bytes: usize, err: bool },
    /// A client comes, anew or resuming.
    Join { client: u8, resume: bool, from_start: bool },
    /// A client is cut off; it knows what it has received.
    Cut { client: u8 },
    /// A client receives some events.
    Receive { client: u8, events: usize },
    /// A client acknowledges all that it has.
    Ack { client: u8 },
    /// A client types new bytes, or sends again what is not acknowledged.
    Type { client: u8, bytes: u64, again: bool },
    /// The program reads.
    Read { bytes: usize },
    /// Time passes.
    Wait { seconds: u64 },
}

fn transition() -> impl Strategy<Value = Transition> {
    let client = 0..CLIENTS;
    prop_oneof![
        4 => (1_usize..3000, any::<bool>()).prop_map(|(bytes, err)| Transition::Output { bytes, err }),
        3 => (client.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(client, resume, from_start)| Transition::Join { client, resume, from_start }),
        1 => client.clone().prop_map(|client| Transition::Cut { client }),
        6 => (client.clone(), 0_usize..12).prop_map(|(client, events)| Transition::Receive { client, events }),
        4 => client.clone().prop_map(|client| Transition::Ack { client }),
        4 => (client, 1_u64..40, any::<bool>())
            .prop_map(|(client, bytes, again)| Transition::Type { client, bytes, again }),
        3 => (1_usize..60).prop_map(|bytes| Transition::Read { bytes }),
        1 => (0_u64..15).prop_map(|seconds| Transition::Wait { seconds }),
    ]
}

/// What a client knows over its connections.
#[derive(Debug, Default)]
struct Client {
    key: Option<ViewerKey>,
    at: u64,
    greeted: bool,
    typed: u64,
    confirmed: u64,
}

struct World {
    session: Session,
    tty: bool,
    now: Duration,
    written: Vec<(u8, Stream)>,
    read: HashMap<u8, u64>,
    clients: BTreeMap<u8, Client>,
}

impl World {
    fn new(tty: bool) -> Self {
        let clients = (0..CLIENTS).map(|client| (client, Client::default())).collect();
        Self {
            session: Session::new(tty, LIMITS),
            tty,
            now: Duration::ZERO,
            written: Vec::new(),
            read: HashMap::new(),
            clients,
        }
    }

    fn apply(&mut self, transition: &Transition) {
        match *transition {
            Transition::Output { bytes, err } => self.output(bytes, err && !self.tty),
            Transition::Join { client, resume, from_start } => {
                self.join(client, resume, from_start);
            }
            Transition::Cut { client } => self.cut(client),
            Transition::Receive { client, events } => self.receive(client, events),
            Transition::Ack { client } => self.ack(client),
            Transition::Type { client, bytes, again } => self.type_in(client, bytes, again),
            Transition::Read { bytes } => self.read(bytes),
            Transition::Wait { seconds } => self.now += Duration::from_secs(seconds),
        }
    }

    fn output(&mut self, bytes: usize, err: bool) {
        let stream = if err { Stream::Err } else { Stream::Out };
        let start = self.written.len();
        let data: Vec<u8> = (start..start + bytes).map(|at| (at % 251) as u8).collect();
        self.session.output(stream, &data, self.now);
        self.written.extend(data.into_iter().map(|byte| (byte, stream)));
    }

    fn join(&mut self, name: u8, resume: bool, from_start: bool) {
        let client = self.clients.get_mut(&name).unwrap();
        let resume = (resume && client.greeted).then_some(Resume::At(client.at));
        let old = client.key.take();
        let join = Join { client: format!("c{name}"), resume, from_start, ..Join::default() };
        let key = self.session.join(join, self.now);
        client.key = Some(key);
        client.greeted = false;
        if let Some(old) = old {
            assert_eq!(self.session.next(old, self.now), Some(Event::End(End::Left("replaced"))));
            assert!(self.session.is_done(old));
            self.session.leave(old, self.now);
        }
        let before = resume.map(|_| client.at);
        let Some(Event::Hello { offset, input, .. }) = self.session.next(key, self.now) else {
            panic!("no hello first");
        };
        assert!(input >= client.confirmed && input <= client.typed);
        self.greet(name, offset, before);
    }

    /// A resumed client goes on where it was, or is told of the gap.
    fn greet(&mut self, name: u8, offset: u64, before: Option<u64>) {
        let client = self.clients.get_mut(&name).unwrap();
        client.greeted = true;
        client.at = before.unwrap_or(offset);
        if before.is_some_and(|before| before != offset) {
            let key = client.key.unwrap();
            let gap = self.session.next(key, self.now);
            let lost = offset - client.at;
            assert_eq!(gap, Some(Event::Gap { offset, lost }));
            client.at = offset;
        }
    }

    fn cut(&mut self, name: u8) {
        if let Some(key) = self.clients.get_mut(&name).unwrap().key.take() {
            self.session.leave(key, self.now);
        }
    }

    fn receive(&mut self, name: u8, events: usize) {
        let client = self.clients.get_mut(&name).unwrap();
        let Some(key) = client.key else { return };
        for _ in 0..events {
            let Some(event) = self.session.next(key, self.now) else { break };
            match event {
                Event::Output { offset, stream, data } => {
                    assert_eq!(offset, client.at, "output that does not follow");
                    let from = usize::try_from(offset).unwrap();
                    let expected = &self.written[from..from + data.len()];
                    assert!(
                        expected.iter().zip(&data[..]).all(|(want, got)| *want == (*got, stream))
                    );
                    client.at += data.len() as u64;
                }
                Event::Gap { offset, lost } => {
                    // Before any output the gap is counted from the beginning.
                    assert!(offset == client.at + lost || offset == lost || lost == 0);
                    client.at = offset;
                }
                Event::Screen { offset, .. } => assert_eq!(offset, client.at),
                Event::InputAck { offset } => {
                    assert!(offset >= client.confirmed && offset <= client.typed);
                    assert_eq!(self.read.get(&name).copied().unwrap_or(0), offset);
                    client.confirmed = offset;
                }
                Event::Size(_) => {}
                Event::Hello { .. } | Event::End(_) => panic!("not now: {event:?}"),
            }
        }
    }

    fn ack(&mut self, name: u8) {
        let client = &self.clients[&name];
        if let Some(key) = client.key {
            self.session.ack(key, client.at, self.now);
        }
    }

    /// Byte `n` of client `c` is `c * 64 + n % 64`.
    fn type_in(&mut self, name: u8, bytes: u64, again: bool) {
        let client = self.clients.get_mut(&name).unwrap();
        let Some(key) = client.key else { return };
        let from = if again { client.confirmed } else { client.typed };
        let to = client.typed.max(from) + bytes;
        let data: Vec<u8> = (from..to).map(|at| name * 64 + (at % 64) as u8).collect();
        self.session.input(key, from, Bytes::from(data)).unwrap();
        client.typed = to;
    }

    fn read(&mut self, bytes: usize) {
        let Some(pending) = self.session.pending() else { return };
        let Pending::Bytes(data) = pending else { panic!("nobody asked for it") };
        let taken = &data[..data.len().min(bytes)];
        for byte in taken {
            let read = self.read.entry(byte / 64).or_default();
            assert_eq!(u64::from(byte % 64), *read % 64, "input twice, or out of order");
            *read += 1;
        }
        self.session.wrote(taken.len());
    }

    /// Nothing else happens any more: everybody has everything in the end.
    fn settle(&mut self) {
        while self.session.pending().is_some() {
            self.read(usize::MAX);
        }
        for name in 0..CLIENTS {
            // Each turn brings a window, or the gap to the end.
            for _ in 0..self.written.len() / 512 + 100 {
                self.receive(name, 50);
                self.ack(name);
            }
            let client = &self.clients[&name];
            if client.key.is_some() {
                assert_eq!(client.at, self.written.len() as u64);
                assert_eq!(client.confirmed, client.typed);
            }
        }
        assert_eq!(self.session.flow(self.now), Flow::Read);
    }

    /// A writer that owes less than a window lets the session read; all silent: it reads too.
    fn flow_is_sane(&self) {
        if let Flow::Wait { until } = self.session.flow(self.now) {
            assert!(until > self.now && until <= self.now + Duration::from_secs(10));
            assert_eq!(self.session.flow(self.now + Duration::from_secs(10)), Flow::Read);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn viewers_and_the_program_get_what_was_sent(
        tty in any::<bool>(),
        transitions in proptest::collection::vec(transition(), 1..120),
    ) {
        let mut world = World::new(tty);
        for transition in &transitions {
            world.apply(transition);
            world.flow_is_sane();
        }
        world.settle();
    }
}

fn join(session: &mut Session, client: &str) -> ViewerKey {
    let join = Join { client: client.into(), ..Join::default() };
    let key = session.join(join, Duration::ZERO);
    while session.next(key, Duration::ZERO).is_some() {}
    key
}

#[test]
fn the_fastest_writer_sets_the_pace_until_it_is_silent() {
    let mut session = Session::new(true, LIMITS);
    let (fast, _slow) = (join(&mut session, "fast"), join(&mut session, "slow"));
    session.output(Stream::Out, &[b'x'; 1024], Duration::from_secs(1));
    let until = Duration::from_secs(11);
    assert_eq!(session.flow(Duration::from_secs(2)), Flow::Wait { until });
    while session.next(fast, Duration::from_secs(2)).is_some() {}
    session.ack(fast, 1024, Duration::from_secs(2));
    assert_eq!(session.flow(Duration::from_secs(2)), Flow::Read);
    session.output(Stream::Out, &[b'x'; 1024], Duration::from_secs(3));
    assert_eq!(session.flow(Duration::from_secs(3)), Flow::Wait { until });
    assert_eq!(session.flow(until), Flow::Wait { until: Duration::from_secs(13) });
    assert_eq!(session.flow(Duration::from_secs(13)), Flow::Read);
}

#[test]
fn nobody_attached_drains_into_the_ring() {
    let mut session = Session::new(true, LIMITS);
    session.output(Stream::Out, &[b'x'; 100_000], Duration::ZERO);
    assert_eq!(session.flow(Duration::ZERO), Flow::Read);
}

#[test]
fn an_offset_never_issued_and_another_session_get_a_gap() {
    let mut session = Session::new(true, LIMITS);
    session.output(Stream::Out, b"hello", Duration::ZERO);
    for (resume, lost) in [(Resume::At(99), 0), (Resume::Elsewhere, 0)] {
        let key = session.join(Join { resume: Some(resume), ..Join::default() }, Duration::ZERO);
        assert!(matches!(session.next(key, Duration::ZERO), Some(Event::Hello { offset: 5, .. })));
        assert_eq!(session.next(key, Duration::ZERO), Some(Event::Gap { offset: 5, lost }));
        assert!(matches!(session.next(key, Duration::ZERO), Some(Event::Screen { offset: 5, .. })));
    }
}

#[test]
fn the_end_comes_after_all_output() {
    let mut session = Session::new(false, LIMITS);
    let key = join(&mut session, "a");
    session.output(Stream::Out, &[b'x'; 2000], Duration::ZERO);
    session.end(End::Exit(7));
    let mut received = 0;
    let last = loop {
        match session.next(key, Duration::ZERO) {
            Some(Event::Output { data, .. }) => received += data.len() as u64,
            None => session.ack(key, received, Duration::ZERO),
            other => break other,
        }
    };
    assert_eq!((received, last), (2000, Some(Event::End(End::Exit(7)))));
    assert!(session.is_done(key));
    assert_eq!(session.next(key, Duration::ZERO), None);
}

#[test]
fn the_size_is_the_smallest_writers() {
    let mut session = Session::new(true, LIMITS);
    let size = |rows, cols| terminal::Size::new(rows, cols);
    let with = |client: &str, size| Join { client: client.into(), size, ..Join::default() };
    let tall = session.join(with("tall", size(50, 80)), Duration::ZERO);
    let wide = session.join(with("wide", size(24, 200)), Duration::ZERO);
    let look = Join { role: terminal::Role::Read, ..with("look", size(5, 5)) };
    session.join(look, Duration::ZERO);
    assert_eq!(Some(session.size()), size(24, 80));
    session.leave(wide, Duration::ZERO);
    assert_eq!(Some(session.size()), size(50, 80));
    session.leave(tall, Duration::ZERO);
    assert_eq!(Some(session.size()), size(50, 80));
}
