//! The weaver's side of a copy: small shell scripts, fed and drained over exec.

use std::pin::pin;

use bytes::Bytes;
use client::{Attach, Client, Event, ExecOptions, FrameSender};
use tokio::sync::mpsc;
use wire::frame::Frame;

use super::tree::{Sink, Source};
use crate::failure::{Doing, Failure};

/// Most bytes of what a failing program says that are kept.
const MAX_SAID: usize = 4096;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Missing,
    File,
    Folder,
}

/// What is known of a path and of the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) tar: bool,
}

/// A weaver.
pub(super) struct Remote<'a> {
    pub(super) client: &'a Client,
    pub(super) attach_url: &'a str,
}

/// Says in letters what is at a path, and whether there is tar.
const LOOK: &str = r#"if [ -d "$1" ]; then echo d; elif [ -e "$1" ]; then echo f; else echo n; fi
if command -v tar >/dev/null; then echo t; fi"#;

impl Remote<'_> {
    /// Looks at a path.
    pub(super) async fn look(&self, path: &str) -> Result<Found, Failure> {
        let mut said = Vec::new();
        let attach = self.run(LOOK, path).await?;
        let (mut to, mut from) = (mpsc::channel(16), Vec::new());
        to.1.close();
        let keep = |bytes: Bytes| {
            from.extend_from_slice(&bytes);
            std::future::ready(true)
        };
        finish(talk(attach, &mut to.1, keep, &mut said).await?, &said)?;
        let kind = match from.first() {
            Some(b'd') => Kind::Folder,
            Some(b'f') => Kind::File,
            _ => Kind::Missing,
        };
        Ok(Found { kind, tar: from.contains(&b't') })
    }

    /// Runs a script whose input is what `source` gives.
    pub(super) async fn feed(
        &self,
        script: &str,
        path: &str,
        source: Source,
    ) -> Result<(), Failure> {
        let attach = self.run(script, path).await?;
        let (to, mut from) = mpsc::channel(16);
        let packing = tokio::task::spawn_blocking(move || source(to));
        let mut said = Vec::new();
        let code = talk(attach, &mut from, |_| std::future::ready(true), &mut said).await?;
        // A script that ended early leaves nobody to read.
        drop(from);
        let packed = packing.await.doing("cannot read the files")?;
        finish(code, &said)?;
        packed
    }

    /// Runs a script whose output `sink` takes.
    pub(super) async fn drain(&self, script: &str, path: &str, sink: Sink) -> Result<(), Failure> {
        let attach = self.run(script, path).await?;
        let (to, from) = mpsc::channel::<Bytes>(16);
        let unpacking = tokio::task::spawn_blocking(move || sink(from));
        let (none, mut input) = mpsc::channel(1);
        drop(none);
        let mut said = Vec::new();
        let pass = |bytes| {
            let to = to.clone();
            async move { to.send(bytes).await.is_ok() }
        };
        let code = talk(attach, &mut input, pass, &mut said).await;
        drop(to);
        let unpacked = unpacking.await.doing("cannot write the files")?;
        // Why it could not be written here matters more than that the other side then stopped.
        unpacked?;
        finish(code?, &said)
    }

    async fn run(&self, script: &str, path: &str) -> Result<Attach, Failure> {
        let command = ["sh", "-c", script, "loom-cp", path].map(str::to_owned).to_vec();
        let options = ExecOptions { command, tty: false, size: None };
        Ok(self.client.exec(self.attach_url, &options).await?)
    }
}

/// Moves bytes both ways until the program's end and returns its code; `None` when `output` wants
/// no more.
async fn talk<F: Future<Output = bool>>(
    mut attach: Attach,
    input: &mut mpsc::Receiver<Bytes>,
    mut output: impl FnMut(Bytes) -> F,
    said: &mut Vec<u8>,
) -> Result<Option<i32>, Failure> {
    // Beside the events, not among them: input waits for acknowledgements, which are events.
    let mut pouring = pin!(pour(attach.sender(), input));
    let mut poured = false;
    loop {
        let event = tokio::select! {
            event = attach.next() => event?,
            () = &mut pouring, if !poured => {
                poured = true;
                continue;
            }
        };
        match event {
            Event::Frame(Frame::Output { data, .. }) => {
                if !output(data).await {
                    return Ok(None);
                }
            }
            Event::Frame(Frame::Stderr { data, .. }) => {
                let room = MAX_SAID.saturating_sub(said.len());
                said.extend_from_slice(&data[..data.len().min(room)]);
            }
            Event::Frame(Frame::Exit { code }) => return Ok(Some(code)),
            Event::Frame(_) => {}
            Event::Close(close) => {
                return Err(Failure::new("the connection was closed").next(close.reason));
            }
        }
    }
}

/// Sends all input and its end, as fast as the program reads it.
async fn pour(to: FrameSender, input: &mut mpsc::Receiver<Bytes>) {
    let mut offset = 0;
    loop {
        let piece = input.recv().await;
        let length = piece.as_ref().map_or(0, Bytes::len) as u64;
        let last = piece.is_none();
        let frame = match piece {
            Some(data) => Frame::Input { offset, data },
            None => Frame::Eof { offset },
        };
        offset += length;
        // Why it cannot be sent is told by the next event.
        if to.send(frame).await.is_err() || last {
            return;
        }
    }
}

/// Turns a script's failure into what it said.
fn finish(code: Option<i32>, said: &[u8]) -> Result<(), Failure> {
    match code {
        Some(0) | None => Ok(()),
        Some(126 | 127) if said.is_empty() || said.starts_with(b"loom: sh: ") => {
            Err(Failure::new("the image has no sh, without which nothing can be copied"))
        }
        Some(code) => {
            let said = String::from_utf8_lossy(said);
            let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Err(Failure::new(format!("copying failed in the weaver with {code}: {line}")))
        }
    }
}
