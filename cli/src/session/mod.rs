//! A weaver's program on this terminal: bytes both ways until one of many ends.
//!
//! ```text
//! stdin -> input -> keys -> frames -> client::Attach -> stdout (modes take note)
//! ```

mod input;
mod keys;
mod modes;
mod signals;
pub(crate) mod tty;
pub(crate) mod wait;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use bytes::Bytes;
use client::{Attach, Event, FrameSender};
use wire::frame::Frame;

use crate::failure::{Doing, Failure};
use input::Input;
use keys::{Key, Keys};
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
~?  this help\r\nCtrl+D on an empty line detaches too\r\n";

/// Moves bytes until the session ends. The terminal is as before when this returns.
pub(crate) async fn run(
    mut attach: Attach,
    begin: Begin,
    signals: &mut Signals,
) -> Result<End, Failure> {
    let raw = (begin.tty && tty::is_interactive()).then(Raw::enter).transpose()?;
    let mut session = Session::new(attach.sender(), begin, raw)?;
    if begin.tty {
        session.resize().await;
    }
    let mut input = Input::stdin();
    loop {
        let end = tokio::select! {
            event = attach.next() => session.event(event).await,
            typed = input.next() => session.typed(&typed).await,
            told = signals.next() => session.told(told).await,
        };
        if let Some(end) = end {
            return Ok(end);
        }
    }
}

struct Session {
    to: FrameSender,
    begin: Begin,
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
        Ok(Self { to, begin, raw, keys: Keys::default(), stdout, stderr })
    }

    /// Takes what the server says; returns how it ends, if it does.
    async fn event(&mut self, event: Result<Event, client::Error>) -> Option<End> {
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
            Frame::Output { offset, data } => self.show(&data, offset, false).await,
            Frame::Stderr { offset, data } => self.show(&data, offset, true).await,
            Frame::Screen { offset, data } => {
                self.write(&data, false).err().or(self.ack(offset).await)
            }
            Frame::Gap { offset, .. } => self.ack(offset).await,
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

    async fn show(&mut self, data: &Bytes, offset: u64, stderr: bool) -> Option<End> {
        if let Err(end) = self.write(data, stderr) {
            return Some(end);
        }
        self.ack(offset + data.len() as u64).await
    }

    fn write(&mut self, data: &[u8], stderr: bool) -> Result<(), End> {
        if let Some(raw) = &self.raw {
            raw.shown(data);
        }
        let to = if stderr { &mut self.stderr } else { &mut self.stdout };
        to.write_all(data).map_err(|_| End::Unread)
    }

    async fn ack(&mut self, offset: u64) -> Option<End> {
        if self.begin.shared {
            // Why a connection is gone is told by the next event.
            let _ = self.to.send(Frame::Ack { offset }).await;
        }
        None
    }

    /// Says a line of our own in the middle of the program's output.
    fn say(&mut self, text: &str) {
        let end = if self.raw.is_some() { "\r\n" } else { "\n" };
        let _ = self.stderr.write_all(format!("loom: {text}{end}").as_bytes());
    }

    /// Takes what was typed; empty is the end of the input.
    async fn typed(&mut self, typed: &[u8]) -> Option<End> {
        if typed.is_empty() {
            let offset = self.begin.input;
            let _ = self.to.send(Frame::Eof { offset }).await;
            return None;
        }
        if self.raw.is_none() {
            self.send(Bytes::copy_from_slice(typed)).await;
            return None;
        }
        for key in self.keys.feed(typed) {
            match key {
                Key::Bytes(bytes) => self.send(bytes.into()).await,
                Key::Leave if self.begin.shared => {
                    let offset = self.begin.input;
                    self.begin.input += 1;
                    let _ = self.to.send(Frame::Leave { offset }).await;
                }
                Key::Leave => self.send(Bytes::from_static(&[4])).await,
                Key::Disconnect => return Some(End::Disconnected),
                Key::Detach => {
                    let _ = self.to.close().await;
                    return Some(End::Detached);
                }
                Key::Help => drop(self.write(HELP.as_bytes(), true)),
            }
        }
        None
    }

    async fn send(&mut self, data: Bytes) {
        let offset = self.begin.input;
        self.begin.input += data.len() as u64;
        let _ = self.to.send(Frame::Input { offset, data }).await;
    }

    async fn told(&mut self, told: Told) -> Option<End> {
        match told {
            Told::Stop => return Some(End::Signalled),
            Told::Resized if self.begin.tty => self.resize().await,
            Told::Resized => {}
        }
        None
    }

    async fn resize(&mut self) {
        if let Some(size) = tty::size() {
            let _ = self.to.send(Frame::Resize(size)).await;
        }
    }
}
