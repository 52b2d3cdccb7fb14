//! `GET /api/weavers/{id}/exec`: a program beside the session, in the frames of attach v2.
//!
//! The viewer hears Hello, then output and errors, then Exit; it is slowed down by its own socket,
//! so nothing has to be acknowledged. Its input is acknowledged once the program's pipe has it.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use weaver::{WeaverId, Why};
use wire::frame::{Frame, Hello, Size};
use wire::link::Record;

use crate::app::Relay;
use crate::attach;
use crate::close::End;
use crate::link::{self, Far, Seat};
use crate::problem::Refusal;
use crate::queue::Filler;
use crate::viewer::Protocol;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Most words, and bytes in all, of a command.
const MAX_COMMAND: (usize, usize) = (1024, 64 * 1024);

/// What is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) argv: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) size: Option<Size>,
}

/// Passes a new size on to a program's terminal.
type Resize = Box<dyn FnMut(Size) -> BoxFuture<'static, ()> + Send>;

/// A program that runs.
pub(crate) struct Program {
    pub(crate) stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub(crate) stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub(crate) resize: Option<Resize>,
    pub(crate) end: BoxFuture<'static, End>,
}

/// Runs a program and attaches the caller to it.
pub(crate) async fn exec(
    State(relay): State<Relay>,
    Path(id): Path<String>,
    mut request: Request,
) -> Result<Response, Refusal> {
    relay.guard.check(request.uri(), request.headers())?;
    let id: WeaverId = id.parse().map_err(|_| Refusal::no_such_weaver())?;
    let ask = Ask::read(request.uri().query().unwrap_or_default())?;
    if attach::protocol(request.headers()) != Protocol::V2 {
        return Err(Refusal::field("subprotocol", "exec speaks loom.attach.v2 only"));
    }
    let (mut response, upgraded) = attach::upgrade(&mut request)?;
    let (tty, size) = (ask.tty, ask.size);
    let program = (relay.doors.run)(id, ask).await?;
    let (seat, far) = link::seat();
    relay.serve(id, Protocol::V2, upgraded, async { Ok::<Seat, End>(seat) })?;
    relay.tasks.spawn(program.run(far, tty, size));
    attach::agree(&mut response);
    Ok(response)
}

impl Ask {
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut ask = Self::default();
        let (mut rows, mut cols) = (None, None);
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "command" => ask.argv.push(value.into_owned()),
                "tty" => {
                    let tty = value.parse();
                    ask.tty = tty.map_err(|_| Refusal::field("tty", "tty is true or false"))?;
                }
                "rows" => rows = Some(value.into_owned()),
                "cols" => cols = Some(value.into_owned()),
                _ => return Err(Refusal::field(&key, "there is no such parameter")),
            }
        }
        ask.size = attach::size(rows.as_deref(), cols.as_deref())?;
        ask.check()
    }

    fn check(self) -> Result<Self, Refusal> {
        let bytes: usize = self.argv.iter().map(String::len).sum();
        let wrong = |why| Err(Refusal::field("command", why));
        match self.argv.first() {
            Some(program) if !program.is_empty() => {}
            _ => return wrong("command is missing: say what to run"),
        }
        if self.argv.len() > MAX_COMMAND.0 || bytes > MAX_COMMAND.1 {
            return wrong("command is longer than 1024 words or 64 KiB");
        }
        if self.argv.iter().any(|word| word.contains('\0')) {
            return wrong("command has a NUL byte");
        }
        Ok(self)
    }
}

impl Program {
    /// Takes what runs in a weaver's container under this name.
    pub(crate) fn new(exec: cluster::Exec, name: &str) -> Self {
        let (status, name) = (exec.status(), visible(name));
        let end = async move {
            match status.await {
                Ok(code) => End::Exited(code),
                Err(error) => end_of(&error, &name),
            }
        };
        let resize = exec.resizer.map(|resizer| -> Resize {
            Box::new(move |size: Size| {
                let mut resizer = resizer.clone();
                // An error means that the program has ended, which is told elsewhere.
                async move { drop(resizer.resize(size.rows, size.cols).await) }.boxed()
            })
        });
        Self {
            stdin: exec.stdin.map(|stdin| Box::new(stdin) as _),
            stdout: Box::new(exec.stdout),
            stderr: exec.stderr.map(|stderr| Box::new(stderr) as _),
            resize,
            end: end.boxed(),
        }
    }

    /// Carries bytes between the program and its viewer until one of them is gone.
    async fn run(mut self, far: Far, tty: bool, size: Option<Size>) {
        let Far { said, frames, end, left } = far;
        let hello = Hello { session: [0; 16], input: 0, tty, size: size.unwrap_or_default() };
        // A viewer that is gone already is noticed below.
        let _ = frames.push(Frame::Hello { offset: 0, hello });
        if let (Some(resize), Some(size)) = (&mut self.resize, size) {
            resize(size).await;
        }
        let count = AtomicU64::new(0);
        let input = take(said, self.stdin, self.resize, &frames);
        let output = async {
            let out =
                copy(self.stdout, &frames, &count, |offset, data| Frame::Output { offset, data });
            let errors = async {
                if let Some(stderr) = self.stderr {
                    let frame = |offset, data| Frame::Stderr { offset, data };
                    copy(stderr, &frames, &count, frame).await;
                }
            };
            tokio::join!(out, errors);
            match self.end.await {
                End::CannotRun(code, why) => {
                    // A viewer that is gone needs no reason.
                    let _ = frames.push(excuse(count.load(Ordering::SeqCst), &why, tty));
                    End::Exited(code)
                }
                end => end,
            }
        };
        tokio::select! {
            why = output => drop(end.send(why)),
            () = async { input.await; std::future::pending().await } => {}
            _ = left => {}
        }
    }
}

/// Says why there is no program, or no word of how it ended.
fn end_of(error: &cluster::Error, name: &str) -> End {
    if let Some(cluster::CannotRun { code, why }) = cluster::CannotRun::read(error) {
        return End::CannotRun(code, format!("{name}: {why}"));
    }
    match error {
        cluster::Error::NotRunning { message } => {
            End::Failed(Why { reason: "NotStarted".to_owned(), message: message.clone() })
        }
        _ => End::Broken,
    }
}

/// Puts a line of ours where the program's errors go.
fn excuse(offset: u64, why: &str, tty: bool) -> Frame {
    match tty {
        true => Frame::Output { offset, data: format!("loom: {why}\r\n").into() },
        false => Frame::Stderr { offset, data: format!("loom: {why}\n").into() },
    }
}

/// Leaves out what would do something to a terminal.
fn visible(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Sends what the program writes, no faster than the viewer takes it.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    frames: &Filler,
    count: &AtomicU64,
    frame: impl Fn(u64, Bytes) -> Frame,
) {
    let mut buffer = BytesMut::new();
    loop {
        frames.room().await;
        buffer.reserve(CHUNK);
        let Ok(read @ 1..) = from.read_buf(&mut buffer).await else { return };
        let offset = count.fetch_add(read as u64, Ordering::SeqCst);
        if !frames.push(frame(offset, buffer.split().freeze())) {
            return;
        }
    }
}

/// Passes on what the viewer sends.
async fn take(
    mut said: mpsc::Receiver<Record>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    mut resize: Option<Resize>,
    frames: &Filler,
) {
    while let Some(record) = said.recv().await {
        match record {
            Record::Frame(_, Frame::Input { offset, data }) => {
                if let Some(open) = &mut stdin
                    && (open.write_all(&data).await.is_err() || open.flush().await.is_err())
                {
                    // It reads no more; as with a pipe, what is written is lost.
                    stdin = None;
                }
                let offset = offset.saturating_add(data.len() as u64);
                if !frames.push(Frame::InputAck { offset }) {
                    return;
                }
            }
            Record::Frame(_, Frame::Eof { .. }) => {
                if let Some(mut open) = stdin.take() {
                    // A program that is gone needs no end of input.
                    let _ = open.shutdown().await;
                }
            }
            Record::Frame(_, Frame::Resize(size)) => {
                if let Some(resize) = &mut resize {
                    resize(size).await;
                }
            }
            Record::Frame(..) | Record::Open(..) | Record::Close(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_what_to_run() {
        let ask = Ask::read("command=sh&command=-c&command=a+b%26c&tty=true&rows=24&cols=80");
        let ask = ask.unwrap();
        assert_eq!(ask.argv, ["sh", "-c", "a b&c"]);
        assert_eq!((ask.tty, ask.size), (true, Size::new(24, 80)));
        let long = format!("command={}", "a".repeat(65 * 1024));
        for wrong in ["", "command=", "command=a%00", "command=a&tty=x", "command=a&x=1", &long] {
            assert!(Ask::read(wrong).is_err(), "{wrong:.30}");
        }
    }
}
