//! The session that is on now, shared by the program's side and the viewers' side.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use terminal::{End, Join, Limits, Session, Stream, ViewerKey};
use tokio::sync::Notify;
use tokio::time::Instant;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) id: [u8; 16],
    pub(crate) session: RefCell<Session>,
    /// Whether anybody has ever looked at it.
    pub(crate) seen: Cell<bool>,
}

/// What both sides share; everything is on one thread.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) tty: bool,
    current: RefCell<Rc<Generation>>,
    previous: RefCell<Option<Rc<Generation>>>,
    /// Whether the current run has ended and the next viewer starts another.
    over: Cell<bool>,
    /// Something happened that the program's side must look at.
    pub(crate) work: Notify,
    links: RefCell<Vec<Weak<Notify>>>,
    started: Instant,
}

impl Host {
    pub(crate) fn new(tty: bool) -> Self {
        Self {
            tty,
            current: RefCell::new(Generation::start(tty)),
            previous: RefCell::new(None),
            over: Cell::new(false),
            work: Notify::new(),
            links: RefCell::new(Vec::new()),
            started: Instant::now(),
        }
    }

    /// Returns the time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the moment that is so long after the start.
    pub(crate) fn moment(&self, now: Duration) -> Instant {
        self.started + now
    }

    pub(crate) fn current(&self) -> Rc<Generation> {
        Rc::clone(&self.current.borrow())
    }

    /// Takes output of the program.
    pub(crate) fn output(&self, stream: Stream, data: &[u8]) {
        self.current().session.borrow_mut().output(stream, data, self.now());
        self.wake_links();
    }

    /// Ends the current run for its viewers.
    pub(crate) fn end(&self, end: End) {
        self.over.set(matches!(end, End::Left(_)));
        self.current().session.borrow_mut().end(end);
        self.wake_links();
    }

    /// Says whether a viewer has come since the last run ended, so that another is to be started.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.over.get()
    }

    /// Lets a viewer in; where the last run has ended, it starts the next one.
    pub(crate) fn join(&self, join: Join) -> (Rc<Generation>, ViewerKey) {
        if self.over.replace(false) {
            self.renew();
        }
        let generation = self.current();
        generation.seen.set(true);
        let key = generation.session.borrow_mut().join(join, self.now());
        self.work.notify_one();
        self.wake_links();
        (generation, key)
    }

    /// Registers a link to be woken when there may be something to send.
    pub(crate) fn add_link(&self, wake: &Rc<Notify>) {
        let mut links = self.links.borrow_mut();
        links.retain(|link| link.strong_count() > 0);
        links.push(Rc::downgrade(wake));
    }

    pub(crate) fn wake_links(&self) {
        self.links.borrow().iter().filter_map(Weak::upgrade).for_each(|wake| wake.notify_one());
    }

    /// Begins a new run; of the ended ones only the last keeps its output for slow viewers.
    fn renew(&self) {
        let ended = self.current.replace(Generation::start(self.tty));
        if let Some(older) = self.previous.replace(Some(ended)) {
            older.session.borrow_mut().abandon();
        }
    }
}

impl Generation {
    fn start(tty: bool) -> Rc<Self> {
        Rc::new(Self {
            id: uuid::Uuid::new_v4().into_bytes(),
            session: RefCell::new(Session::new(tty, Limits::default())),
            seen: Cell::new(false),
        })
    }
}
