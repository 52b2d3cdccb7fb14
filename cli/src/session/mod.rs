//! A weaver's program on this terminal: bytes both ways until one of many ends.
//!
//! ```text
//! stdin -> input -> keys -> outbox -> client::Attach -> stdout (modes take note)
//! ```
//!
//! Nothing here waits for the program to read: what it does not read stays in the outbox, and the
//! keys that are ours, signals and output go on.

mod input;
mod keys;
mod modes;
mod outbox;
mod signals;
pub(crate) mod tty;
pub(crate) mod wait;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use client::{Attach, Event, FrameSender};
use wire::frame::Frame;

use crate::failure::{Doing, Failure};
use input::Input;
use keys::{Key, Keys};
use outbox::{Outbox, Piece};
pub(crate) use signals::{Signals, Told};
use tty::Raw;

/// How an attached session came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The program ended with this code, and the weaver with it.
    Exit(i32),
    /// Detached, by the host or by us; the program runs on.
    Detached,
    /// `~.`: given up from this side.
    Disconnected,
    /// The connection broke, and why.
    Lost(String),
    /// A signal ended us.
    Signalled,
    /// Nobody reads our output any more.
    Unread,
}

/// How the session begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begin {
    /// Whether the program has a terminal.
    pub(crate) tty: bool,
    /// The next input byte that the host expects.
    pub(crate) input: u64,
    /// Whether Ctrl+D may detach and output is acknowledged: not so for `exec`.
    pub(crate) shared: bool,
}

const HELP: &str = "\r\n~.  disconnect\r\n~d  detach; the program runs on\r\n~~  send one ~\r\n\
~?  this help\r\n";
const HELP_SHARED: &str = "Ctrl+D on an empty line detaches too\r\n";

/// How long what was typed before `~d` may take to arrive.
const FAREWELL: Duration = Duration::from_secs(1);

/// Moves bytes until the session ends. The terminal is as before when this returns.
pub(crate) async fn run(
    mut attach: Attach,
    begin: Begin,
    signals: &mut Signals,
) -> Result<End, Failure> {
    let raw = (begin.tty && tty::is_interactive()).then(Raw::enter).transpose()?;
    let mut session = Session::new(attach.sender(), begin, raw)?;
    session.resize();
    let mut input = Input::stdin();
    let end = loop {
        let reads = session.raw.is_some() || !session.outbox.is_full();
        let end = tokio::select! {
            event = attach.next() => session.event(event),
            () = pour(&session.to, &mut session.outbox) => None,
            typed = input.next(), if reads => session.typed(&typed),
            told = signals.next() => session.told(told),
        };
        if let Some(end) = end {
            break end;
        }
    };
    if end == End::Detached {
        session.farewell(&mut attach).await;
    }
    if let (Some(raw), End::Detached | End::Exit(_)) = (&session.raw, &end) {
        raw.keep_typed();
    }
    Ok(end)
}

/// Sends what comes next; waits while there is nothing, or no room. It may be dropped.
async fn pour(to: &FrameSender, outbox: &mut Outbox) {
    let Some(next) = outbox.next() else { return std::future::pending().await };
    let sent = match next.overtakes {
        true => to.send_ahead(next.frame.clone()).await,
        false => to.send(next.frame.clone()).await,
    };
    match sent {
        Ok(()) => outbox.sent(&next),
        // The next event says why.
        Err(_) => outbox.close(),
    }
}

struct Session {
    to: FrameSender,
    begin: Begin,
    outbox: Outbox,
    /// Input was lost, and that was said.
    lossy: bool,
    raw: Option<Raw>,
    keys: Keys,
    stdout: File,
    stderr: File,
}

impl Session {
    fn new(to: FrameSender, begin: Begin, raw: Option<Raw>) -> Result<Self, Failure> {
        let own = |fd: std::io::Result<std::os::fd::OwnedFd>| fd.map(File::from);
        let stdout = own(std::io::stdout().as_fd().try_clone_to_owned()).doing("stdout")?;
        let stderr = own(std::io::stderr().as_fd().try_clone_to_owned()).doing("stderr")?;
        let (outbox, keys) = (Outbox::new(begin.input), Keys::default());
        Ok(Self { to, begin, outbox, lossy: false, raw, keys, stdout, stderr })
    }

    /// Takes what the server says; returns how it ends, if it does.
    fn event(&mut self, event: Result<Event, client::Error>) -> Option<End> {
        let frame = match event {
            Ok(Event::Frame(frame)) => frame,
            Ok(Event::Close(close)) => {
                let why =
                    if close.reason.is_empty() { "closed by the server" } else { &close.reason };
                return Some(End::Lost(why.to_owned()));
            }
            Err(error) => return Some(End::Lost(Failure::from(error).to_string())),
        };
        match frame {
            Frame::Output { offset, data } => self.show(&data, offset, false),
            Frame::Stderr { offset, data } => self.show(&data, offset, true),
            Frame::Screen { offset, data } => {
                self.ack(offset);
                self.write(&data, false).err()
            }
            Frame::Gap { offset, .. } => {
                self.ack(offset);
                None
            }
            Frame::Exit { code } => Some(End::Exit(code)),
            Frame::Left { .. } => Some(End::Detached),
            Frame::Notice { text } => {
                self.say(&crate::printable::printable(&text));
                None
            }
            // Ours, known already, or of no use without reconnecting.
            Frame::Hello { .. }
            | Frame::InputAck { .. }
            | Frame::Size(_)
            | Frame::Input { .. }
            | Frame::Resize(_)
            | Frame::Ack { .. }
            | Frame::Eof { .. }
            | Frame::Leave { .. } => None,
        }
    }

    fn show(&mut self, data: &Bytes, offset: u64, stderr: bool) -> Option<End> {
        self.write(data, stderr).err().or_else(|| {
            self.ack(offset + data.len() as u64);
            None
        })
    }

    fn write(&mut self, data: &[u8], stderr: bool) -> Result<(), End> {
        if let Some(raw) = &self.raw {
            raw.shown(data);
        }
        let to = if stderr { &mut self.stderr } else { &mut self.stdout };
        to.write_all(data).map_err(|_| End::Unread)
    }

    fn ack(&mut self, offset: u64) {
        if self.begin.shared {
            self.outbox.shown(offset);
        }
    }

    /// Says a line of our own in the middle of the program's output.
    fn say(&mut self, text: &str) {
        let end = if self.raw.is_some() { "\r\n" } else { "\n" };
        let _ = self.stderr.write_all(format!("loom: {text}{end}").as_bytes());
    }

    /// Takes what was typed; empty is the end of the input.
    fn typed(&mut self, typed: &[u8]) -> Option<End> {
        if typed.is_empty() {
            self.push(Piece::Eof);
            return None;
        }
        if self.raw.is_none() {
            self.push(Piece::Bytes(Bytes::copy_from_slice(typed)));
            return None;
        }
        let interrupts = self.outbox.is_interrupted_by(typed);
        for key in self.keys.feed(typed) {
            match key {
                Key::Bytes(keys) if interrupts => self.outbox.interrupt(&keys),
                Key::Bytes(bytes) => self.push(Piece::Bytes(bytes.into())),
                Key::Leave if self.begin.shared => self.push(Piece::Leave),
                Key::Leave => self.push(Piece::Bytes(Bytes::from_static(&[4]))),
                Key::Disconnect => return Some(End::Disconnected),
                Key::Detach => return Some(End::Detached),
                Key::Help => self.help(),
            }
        }
        None
    }

    fn help(&mut self) {
        let shared = if self.begin.shared { HELP_SHARED } else { "" };
        // Whoever cannot be told reads no output either, which ends the session.
        let _ = self.write(format!("{HELP}{shared}").as_bytes(), true);
    }

    fn push(&mut self, piece: Piece) {
        let lost = !self.outbox.push(piece);
        if lost && !self.lossy {
            self.say("the program reads nothing: what is typed now is lost; ~? shows what helps");
        }
        self.lossy = lost;
    }

    fn told(&mut self, told: Told) -> Option<End> {
        match told {
            Told::Stop => return Some(End::Signalled),
            Told::Resized => self.resize(),
        }
        None
    }

    fn resize(&mut self) {
        if let (true, Some(size)) = (self.begin.tty, tty::size()) {
            self.outbox.resize(size);
        }
    }

    /// Lets what was typed arrive, if the program reads it soon, and says goodbye.
    async fn farewell(&mut self, attach: &mut Attach) {
        let arrive = async {
            let mut said = false;
            loop {
                if self.outbox.is_empty() && !said {
                    said = self.to.close().await.is_ok();
                }
                tokio::select! {
                    // What it answers is seen by whoever comes back.
                    event = attach.next() => match event {
                        Ok(Event::Frame(_)) => {}
                        Ok(Event::Close(_)) | Err(_) => return,
                    },
                    () = pour(&self.to, &mut self.outbox) => {}
                }
            }
        };
        // A program that does not read keeps nobody here.
        let _ = tokio::time::timeout(FAREWELL, arrive).await;
    }
}
