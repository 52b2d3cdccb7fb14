//! Drives one program: its output into the session, the session's input to it, until it ends.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use terminal::{Flow, Pending, Size, Stream};

use crate::generation::{Generation, Host};
use crate::log::Log;
use crate::program::{self, Program, Terminal};
use crate::signals::{self, Event, Signals};
use crate::watch::Watched;

/// Most bytes that are read before the viewers get their turn.
const BATCH: usize = 64 * 1024;
/// How long a program may take to end after it was told to.
const GRACE: Duration = Duration::from_millis(500);
/// How long it may take after it was killed.
const LAST: Duration = Duration::from_millis(200);

/// What lives as long as the host.
pub(crate) struct Driver {
    pub(crate) host: Rc<Host>,
    pub(crate) signals: Signals,
    pub(crate) out: Log,
    pub(crate) err: Log,
    /// When everything must have ended, once that was asked for.
    pub(crate) stop_at: Option<Duration>,
    pub(crate) buffer: Vec<u8>,
}

/// One program and what it runs on.
pub(crate) struct Run<'a> {
    pub(crate) driver: &'a mut Driver,
    pub(crate) generation: Rc<Generation>,
    pub(crate) program: Program,
    pub(crate) terminal: Option<&'a Terminal>,
    /// What the program is to its viewers.
    pub(crate) role: Role,
    pub(crate) size: Size,
    pub(crate) killed: bool,
}

/// What a program is to its viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It prepares the session; what is typed on pipes waits for what comes after it.
    Setup,
    /// The user's shell: Ctrl+D on an empty line detaches.
    Shell,
    /// What the user wants to be run.
    Command,
}

enum Happened {
    Signal(Event),
    Output(Stream),
    Input,
    Nothing,
}

impl Run<'_> {
    /// Returns the program's exit code once it has ended and all its output is in the session.
    pub(crate) async fn until_end(mut self) -> u8 {
        loop {
            self.fit();
            self.answer();
            self.interrupt();
            match self.happens().await {
                Happened::Signal(event) => {
                    if let Some(code) = self.signal(event) {
                        return code;
                    }
                }
                Happened::Output(stream) => {
                    self.take_output(stream);
                    // The viewers' turn, even when a program never pauses.
                    tokio::task::yield_now().await;
                }
                Happened::Input => self.give_input(),
                Happened::Nothing => {}
            }
            if self.is_overdue() {
                return 128 + 9;
            }
        }
    }

    async fn happens(&mut self) -> Happened {
        let (reads, until) = self.flow();
        let input = self.takes_input() && self.generation.session.borrow().pending().is_some();
        let (driver, program) = (&mut *self.driver, &self.program);
        let host = Rc::clone(&driver.host);
        let until = until.map(|until| host.moment(until));
        tokio::select! {
            biased;
            event = driver.signals.next() => Happened::Signal(event),
            () = writable(program.input.as_ref()), if input => Happened::Input,
            () = readable(program.out.as_ref()), if reads => Happened::Output(Stream::Out),
            () = readable(program.err.as_ref()), if reads => Happened::Output(Stream::Err),
            () = driver.out.go_on(), if driver.out.waits() => Happened::Nothing,
            () = driver.err.go_on(), if driver.err.waits() => Happened::Nothing,
            () = host.work.notified() => Happened::Nothing,
            () = sleep_until(until) => Happened::Nothing,
        }
    }

    /// Says whether output may be read, and when to look again at the latest.
    fn flow(&self) -> (bool, Option<Duration>) {
        let stop_at = self.driver.stop_at;
        match self.generation.session.borrow().flow(self.driver.host.now()) {
            Flow::Read => (true, stop_at),
            Flow::Wait { until } => (false, Some(stop_at.map_or(until, |at| at.min(until)))),
        }
    }

    fn takes_input(&self) -> bool {
        self.terminal.is_some() || self.role != Role::Setup
    }

    /// Kills a program that was to end and has not; says whether even that was of no use.
    fn is_overdue(&mut self) -> bool {
        let now = self.driver.host.now();
        if self.driver.stop_at.is_none_or(|at| now < at) {
            return false;
        }
        self.driver.stop_at = Some(now + LAST);
        self.program.signal(Signal::KILL);
        std::mem::replace(&mut self.killed, true)
    }

    fn fit(&mut self) {
        let size = self.generation.session.borrow().size();
        if size != self.size {
            self.size = size;
            self.terminal.iter().for_each(|terminal| terminal.resize(size));
        }
    }

    /// Answers Ctrl+D on an empty line as soon as all input before it has been passed on.
    fn answer(&self) {
        let mut session = self.generation.session.borrow_mut();
        while let Some(Pending::Leave(_)) = session.pending() {
            let in_front =
                self.terminal.is_some_and(|terminal| terminal.has_in_front(&self.program));
            let granted = self.role == Role::Shell && in_front && session.line_is_empty();
            session.answer_leave(granted);
            self.driver.host.wake_links();
        }
    }

    /// Lets Ctrl+C overtake input that the program does not read, which is forgotten: a terminal
    /// does so too, but what has no room in it would keep the key from ever getting there.
    fn interrupt(&mut self) {
        let Some(terminal) = self.terminal else { return };
        let generation = Rc::clone(&self.generation);
        while generation.session.borrow().is_interrupted() {
            let mut session = generation.session.borrow_mut();
            let (Some(Pending::Bytes(data)), Some(input)) =
                (session.pending(), &self.program.input)
            else {
                return;
            };
            // Tried whatever is known of its readiness: nobody tells when a little room appears.
            match program::write_anyway(input, &data) {
                Ok(written) => session.wrote(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // A terminal that cannot be asked is gone, and its program is about to be.
                    let Ok(Some(input)) = terminal.forget_input() else { return };
                    self.program.input = Some(input);
                    session.forget_before_interrupt();
                }
                Err(_) => return,
            }
            self.driver.host.wake_links();
        }
    }

    fn take_output(&mut self, stream: Stream) {
        let source = match stream {
            Stream::Out => &mut self.program.out,
            Stream::Err => &mut self.program.err,
        };
        let Some(open) = source else { return };
        let mut buffer = std::mem::take(&mut self.driver.buffer);
        match program::read(open, &mut buffer) {
            Ok(read) => self.driver.pass_on(stream, &buffer[..read]),
            Err(_) => *source = None,
        }
        self.driver.buffer = buffer;
    }

    fn give_input(&mut self) {
        let mut session = self.generation.session.borrow_mut();
        match session.pending() {
            Some(Pending::Bytes(data)) => match self.write(&data) {
                Ok(written) => session.wrote(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The program has closed its stdin: what is typed is lost on it, as in any pipe.
                Err(_) => session.wrote(data.len()),
            },
            Some(Pending::Eof) if self.terminal.is_some() => match self.write(&[0x04]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => session.passed_eof(),
            },
            Some(Pending::Eof) => {
                session.passed_eof();
                drop(session);
                self.program.input = None;
            }
            Some(Pending::Leave(_)) | None => {}
        }
        self.driver.host.wake_links();
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        let input = self.program.input.as_ref().ok_or(ErrorKind::BrokenPipe)?;
        program::write(input, data)
    }

    /// Passes a signal on; returns the exit code once the program has ended.
    fn signal(&mut self, event: Event) -> Option<u8> {
        match event {
            Event::Forward(signal) => self.program.signal(signal),
            Event::Terminate => self.terminate(),
            Event::Child => {
                let code = signals::reap(Some(self.program.pid))?;
                self.drain();
                return Some(code);
            }
        }
        None
    }

    fn terminate(&mut self) {
        self.program.signal(Signal::TERM);
        if self.role == Role::Shell {
            // Interactive shells ignore SIGTERM; their terminal hangs up instead.
            self.program.signal(Signal::HUP);
        }
        self.program.signal(Signal::CONT);
        self.driver.stop_at.get_or_insert(self.driver.host.now() + GRACE);
    }

    /// Takes what the program wrote last, and no more than a ring of it: others may write on.
    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.driver.buffer);
        let sources = [(Stream::Out, &self.program.out), (Stream::Err, &self.program.err)];
        for (stream, source) in sources {
            let Some(source) = source else { continue };
            for _ in 0..1024 {
                match program::read_rest(source, &mut buffer) {
                    0 => break,
                    read => self.driver.pass_on(stream, &buffer[..read]),
                }
            }
        }
        self.driver.buffer = buffer;
    }
}

impl Driver {
    pub(crate) fn new(host: Rc<Host>, signals: Signals) -> Self {
        Self {
            host,
            signals,
            out: Log::new(std::io::stdout(), 1),
            err: Log::new(std::io::stderr(), 2),
            stop_at: None,
            buffer: vec![0; BATCH],
        }
    }

    /// Says a line of our own, to the viewers and in the log.
    pub(crate) fn say(&mut self, text: &str) {
        let stream = if self.host.tty { Stream::Out } else { Stream::Err };
        self.pass_on(stream, format!("loom: {text}\r\n").as_bytes());
    }

    fn pass_on(&mut self, stream: Stream, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        match stream {
            Stream::Out => self.out.push(data),
            Stream::Err => self.err.push(data),
        }
        self.host.output(stream, data);
    }
}

async fn readable(source: Option<&Watched>) {
    match source {
        Some(source) => drop(source.readable().await),
        None => std::future::pending().await,
    }
}

async fn writable(source: Option<&Watched>) {
    // A closed input takes everything.
    if let Some(source) = source {
        drop(source.writable().await);
    }
}

pub(crate) async fn sleep_until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
