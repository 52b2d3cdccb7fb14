//! `GET /api/weavers/{id}/exec`: a program beside the session, in the frames of attach v2.
//!
//! The viewer hears Hello, then output and errors, then Exit; it is slowed down by its own socket,
//! so nothing has to be acknowledged. Its input is acknowledged once the program's pipe has it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
/// How long a viewer of what is not only his may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// What Ctrl+D is to a program.
const CTRL_D: u8 = 4;
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
pub(crate) type Resize = Box<dyn FnMut(Size) -> BoxFuture<'static, ()> + Send>;

/// A program that runs.
pub(crate) struct Program {
    pub(crate) stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub(crate) stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub(crate) resize: Option<Resize>,
    pub(crate) end: BoxFuture<'static, End>,
    /// Whether it is the container's main process, which others see too and which goes on.
    pub(crate) is_main: bool,
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
        Self {
            stdin: exec.stdin.map(|stdin| Box::new(stdin) as _),
            stdout: Box::new(exec.stdout),
            stderr: exec.stderr.map(|stderr| Box::new(stderr) as _),
            resize: exec.resizer.map(resize),
            end: end.boxed(),
            is_main: false,
        }
    }

    /// Carries bytes between the program and its viewer until one of them is gone.
    pub(crate) async fn run(mut self, far: Far, tty: bool, size: Option<Size>) {
        let Far { said, frames, end, left } = far;
        // Offsets of a main process count from where this viewer came.
        let session = if self.is_main { uuid::Uuid::new_v4().into_bytes() } else { [0; 16] };
        let hello = Hello { session, input: 0, tty, size: size.unwrap_or_default() };
        // A viewer that is gone already is noticed below.
        let _ = frames.push(Frame::Hello { offset: 0, hello });
        self.begin(size).await;
        let count = AtomicU64::new(0);
        let lasting = self.is_main && tty;
        let input = take(said, self.stdin, self.resize, &frames, lasting);
        let output = async {
            let to = Sink { frames: &frames, count: &count, lasting };
            let out = to.copy(self.stdout, |offset, data| Frame::Output { offset, data });
            let errors = async {
                match self.stderr {
                    Some(stderr) => {
                        to.copy(stderr, |offset, data| Frame::Stderr { offset, data }).await
                    }
                    None => Ok(()),
                }
            };
            if let Err(end) = tokio::try_join!(out, errors) {
                return end;
            }
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

    /// Tells the terminal's size. What runs already has painted for somebody else, and paints anew
    /// when its terminal changes, so it is told of another size first.
    async fn begin(&mut self, size: Option<Size>) {
        let (Some(resize), Some(size)) = (&mut self.resize, size) else { return };
        if self.is_main {
            let Size { rows, cols } = size;
            resize(Size { rows: rows.saturating_add(1), cols: cols.saturating_add(1) }).await;
        }
        resize(size).await;
    }
}

/// Returns how a program's terminal gets its size.
pub(crate) fn resize(resizer: cluster::Resizer) -> Resize {
    Box::new(move |size: Size| {
        let mut resizer = resizer.clone();
        // An error means that the program has ended, which is told elsewhere.
        async move { drop(resizer.resize(size.rows, size.cols).await) }.boxed()
    })
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

/// Where the program's output goes.
struct Sink<'a> {
    frames: &'a Filler,
    count: &'a AtomicU64,
    /// Who takes nothing for long holds up a program that is not only his.
    lasting: bool,
}

impl Sink<'_> {
    /// Sends what the program writes, no faster than the viewer takes it.
    async fn copy(
        &self,
        mut from: impl AsyncRead + Unpin,
        frame: impl Fn(u64, Bytes) -> Frame,
    ) -> Result<(), End> {
        let mut buffer = BytesMut::new();
        let patience = if self.lasting { PATIENCE } else { Duration::MAX };
        loop {
            let room = tokio::time::timeout(patience, self.frames.room()).await;
            room.map_err(|_| End::Slow)?;
            buffer.reserve(CHUNK);
            let Ok(read @ 1..) = from.read_buf(&mut buffer).await else { return Ok(()) };
            let offset = self.count.fetch_add(read as u64, Ordering::SeqCst);
            if !self.frames.push(frame(offset, buffer.split().freeze())) {
                return Ok(());
            }
        }
    }
}

/// Passes on what the viewer sends.
async fn take(
    mut said: mpsc::Receiver<Record>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    mut resize: Option<Resize>,
    frames: &Filler,
    lasting: bool,
) {
    while let Some(record) = said.recv().await {
        // Only a host knows whether somebody who presses Ctrl+D means to leave.
        let record = match record {
            Record::Frame(viewer, Frame::Leave { offset }) => {
                Record::Frame(viewer, Frame::Input { offset, data: Bytes::from_static(&[CTRL_D]) })
            }
            record => record,
        };
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
            // A terminal outlives this viewer, and its end would be the weaver's.
            Record::Frame(_, Frame::Eof { .. }) if lasting => {}
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
