//! A program's streams on the channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use futures::FutureExt;
use pod_runtime::Exec;
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::super::ready::ready;
use super::super::request::Query;
use super::super::status::Refusal;
use super::socket::{ERROR, Inbox, Sender, finish, send};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const RESIZE: u8 = 4;
/// Of v5: the byte after it names a channel that the client has closed.
const CLOSE: u8 = 255;
/// The best first.
pub(in crate::api) const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
const CHUNK: usize = 32 << 10;

/// What the client wants to write and to see.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Wanted {
    pub(in crate::api) stdin: bool,
    stdout: bool,
    stderr: bool,
    pub(in crate::api) tty: bool,
}

impl Wanted {
    pub(in crate::api) fn of(query: &Query) -> Result<Self, Refusal> {
        let [stdin, stdout, stderr, tty] =
            ["stdin", "stdout", "stderr", "tty"].map(|name| query.flag(name));
        if !stdin && !stdout && !stderr {
            let message = "you must specify at least one of stdin, stdout, stderr";
            return Err(Refusal::bad_request(message));
        }
        if tty && stderr {
            return Err(Refusal::bad_request("tty and stderr cannot both be true"));
        }
        Ok(Self { stdin, stdout, stderr, tty })
    }
}

/// Whose streams they are, which decides what their ends mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Whose {
    /// A program's that ends when its client leaves, and whose exit code is told.
    Exec,
    /// A container's, which goes on. When the client's input ends the session does; but with
    /// `once` it is the container's input that ends, and its output is seen to the end.
    Container {
        /// `stdinOnce`, without a terminal.
        once: bool,
    },
}

/// Carries everything until the program ends or the client leaves.
pub(in crate::api) async fn carry(
    exec: Exec,
    wanted: Wanted,
    whose: Whose,
    (mut inbox, sender): (Inbox, Sender),
) {
    let sender = &sender;
    // Kubernetes tells so that the streams stand.
    send(sender, if wanted.stdout { STDOUT } else { ERROR }, b"").await;
    let pipes = match Pipes::open(exec) {
        Ok(pipes) => pipes,
        Err(error) => return finish(&failure(&error.to_string()), sender, inbox.discard()).await,
    };
    let Pipes { stdin, stdout, stderr, control } = pipes;
    let (control_in, mut control_out) = control.into_split();
    let (ended, _) = watch::channel(false);
    let exit = async {
        let exit = read_exit(control_in).await;
        ended.send_replace(true);
        exit
    };
    let out = pump(stdout, STDOUT, wanted.stdout, sender, ended.subscribe());
    let err = async {
        if let Some(stderr) = stderr {
            pump(stderr, STDERR, wanted.stderr, sender, ended.subscribe()).await;
        }
    };
    let mut input = Box::pin(read_client(&mut inbox, stdin, &mut control_out, whose));
    let program = async { tokio::join!(exit, out, err).0 };
    tokio::select! {
        exit = program => {
            finish(&status(whose, exit.as_ref()), sender, input.map(|_| ())).await;
        }
        left = &mut input => {
            drop(input);
            if left == Left::Input {
                finish(&success(), sender, inbox.discard()).await;
            }
        }
    }
}

/// What the shim says at the end of a program, if it says it.
async fn read_exit(control: OwnedReadHalf) -> Option<Value> {
    let mut line = String::new();
    BufReader::new(control).read_line(&mut line).await.ok()?;
    serde_json::from_str(&line).ok()
}

/// What the client has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Connection,
    Input,
}

/// A program's ends, ready for waiting.
struct Pipes {
    stdin: Option<AsyncFd<OwnedFd>>,
    stdout: AsyncFd<OwnedFd>,
    stderr: Option<AsyncFd<OwnedFd>>,
    control: UnixStream,
}

impl Pipes {
    fn open(exec: Exec) -> io::Result<Self> {
        exec.control.set_nonblocking(true)?;
        Ok(Self {
            stdin: exec.stdin.map(ready).transpose()?,
            stdout: ready(exec.stdout)?,
            stderr: exec.stderr.map(ready).transpose()?,
            control: UnixStream::from_std(exec.control)?,
        })
    }
}

/// Passes output on until its end, or until all that was written when the program ended is sent:
/// a process left behind may hold the pipe open for ever.
async fn pump(
    fd: AsyncFd<OwnedFd>,
    channel: u8,
    wanted: bool,
    sender: &Sender,
    mut ended: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = async {
            let read = |fd: &OwnedFd| Ok(rustix::io::read(fd, &mut buffer)?);
            fd.async_io(Interest::READABLE, read).await
        };
        let count = tokio::select! {
            biased;
            count = read => count.unwrap_or(0),
            _ = ended.wait_for(|ended| *ended) => {
                rustix::io::read(fd.as_fd(), &mut buffer).unwrap_or(0)
            }
        };
        if count == 0 {
            return;
        }
        if wanted {
            send(sender, channel, &buffer[..count]).await;
        }
    }
}

/// Passes the client's messages on until it leaves.
async fn read_client(
    inbox: &mut Inbox,
    mut stdin: Option<AsyncFd<OwnedFd>>,
    control: &mut OwnedWriteHalf,
    whose: Whose,
) -> Left {
    let left = loop {
        let Some(message) = inbox.next().await else { break Left::Connection };
        match message.split_first() {
            Some((&STDIN, bytes)) => feed(&mut stdin, bytes).await,
            Some((&RESIZE, size)) => resize(control, size).await,
            Some((&CLOSE, [STDIN])) => match whose {
                Whose::Exec => stdin = None,
                Whose::Container { once: true } => close_input(&mut stdin, control).await,
                Whose::Container { once: false } => break Left::Input,
            },
            _ => {}
        }
    };
    if whose == (Whose::Container { once: true }) {
        close_input(&mut stdin, control).await;
    }
    left
}

/// Lets the container read the end of its input, if this client was there to give it any.
async fn close_input(stdin: &mut Option<AsyncFd<OwnedFd>>, control: &mut OwnedWriteHalf) {
    if stdin.take().is_some() {
        control.write_all(b"\"closeStdin\"\n").await.ok();
    }
}

async fn feed(stdin: &mut Option<AsyncFd<OwnedFd>>, mut bytes: &[u8]) {
    let Some(fd) = stdin else { return };
    while !bytes.is_empty() {
        let write = |fd: &OwnedFd| Ok(rustix::io::write(fd, bytes)?);
        match fd.async_io(Interest::WRITABLE, write).await {
            Ok(count) => bytes = &bytes[count..],
            // The program no longer reads: what comes is dropped.
            Err(_) => {
                *stdin = None;
                return;
            }
        }
    }
}

async fn resize(control: &mut OwnedWriteHalf, size: &[u8]) {
    if let Some(line) = resized(size) {
        control.write_all(line.as_bytes()).await.ok();
    }
}

/// Returns what the shim is told of a size, if it can be one.
pub(in crate::api) fn resized(size: &[u8]) -> Option<String> {
    let size = serde_json::from_slice::<Value>(size).ok()?;
    let side = |name: &str| size[name].as_u64().filter(|side| (1..=65_535).contains(side));
    let (rows, cols) = (side("Height")?, side("Width")?);
    Some(format!("{}\n", json!({"resize": {"rows": rows, "cols": cols}})))
}

/// Says that something of ours went wrong.
pub(in crate::api) fn failure(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
           "message": format!("Internal error occurred: {message}"),
           "details": {"causes": [{"message": message}]}})
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

/// The last word: how the program ended.
fn status(whose: Whose, exit: Option<&Value>) -> Value {
    match exit.and_then(|line| line["exit"].as_i64()) {
        Some(0) => success(),
        // How a container has ended is told by its pod's status.
        Some(_) if whose != Whose::Exec => success(),
        Some(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: command terminated \
                                with exit code {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        None => failure("the program's pod has ended"),
    }
}
