//! `pods/exec` over WebSocket: the channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite,
};
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use pod_runtime::Exec;
use pod_runtime::spec::ExecSpec;
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::log::container;
use super::ready::ready;
use super::request::{Query, Target, header};
use super::respond::{Answer, Body};
use super::status::Refusal;
use super::{Api, pod_of};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Of v5: the byte after it names a channel that the client has closed.
const CLOSE: u8 = 255;
/// The best first.
const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
const CHUNK: usize = 32 << 10;
/// How often a client is asked whether it lives; what it answers does not matter.
const BEAT: Duration = Duration::from_secs(5);
/// No message of a client is larger.
const MAX_MESSAGE: usize = 1 << 20;
/// How long a client may take to leave after the last word.
const LINGER: Duration = Duration::from_secs(5);

/// Answers with an upgrade to a WebSocket that carries a program's streams.
pub(crate) async fn answer(
    api: &Api,
    target: &Target,
    query: &Query,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let pod = pod_of(api, target)?;
    let spec = spec(&pod, query)?;
    let protocol = protocol(&request)?;
    let started = start(api, &pod, spec).await?;
    let upgraded = fastwebsockets::upgrade::upgrade(&mut request);
    let (answer, upgrade) =
        upgraded.map_err(|error| Refusal::bad_request(format!("unable to upgrade: {error}")))?;
    let shutdown = api.shutdown.clone();
    let streams = Streams { stdout: query.flag("stdout"), stderr: query.flag("stderr") };
    api.tasks.spawn(async move {
        let session = async {
            let socket = upgrade.await?;
            run(socket, started, streams).await
        };
        tokio::select! {
            ended = session => if let Err(error) = ended {
                tracing::debug!(%error, "an exec ended early");
            },
            () = shutdown.cancelled() => {}
        }
    });
    let mut answer = answer.map(|body| -> Body { body.boxed() });
    answer
        .headers_mut()
        .insert(http::header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(answer)
}

/// Which outputs the client wants.
#[derive(Debug, Clone, Copy)]
struct Streams {
    stdout: bool,
    stderr: bool,
}

fn spec(pod: &Value, query: &Query) -> Result<ExecSpec, Refusal> {
    let argv = query.all("command");
    if argv.is_empty() || argv.iter().any(|word| word.contains('\0')) {
        let message = "you must specify at least 1 command for the pod exec";
        return Err(Refusal::bad_request(message));
    }
    let (stdin, tty) = (query.flag("stdin"), query.flag("tty"));
    if !stdin && !query.flag("stdout") && !query.flag("stderr") {
        let message = "you must specify at least one of stdin, stdout, stderr";
        return Err(Refusal::bad_request(message));
    }
    if tty && query.flag("stderr") {
        return Err(Refusal::bad_request("tty and stderr cannot both be true"));
    }
    Ok(ExecSpec { container: container(pod, query, false)?, argv, tty, stdin })
}

fn protocol(request: &Request<Incoming>) -> Result<&'static str, Refusal> {
    if !fastwebsockets::upgrade::is_upgrade_request(request) {
        let message = "unable to upgrade: the local cluster speaks WebSocket for exec, not SPDY";
        return Err(Refusal::bad_request(message));
    }
    let offered = header(request.headers(), "sec-websocket-protocol");
    let offers = |wanted: &&&str| offered.split(',').any(|given| given.trim() == **wanted);
    PROTOCOLS.iter().find(offers).copied().ok_or_else(|| {
        Refusal::bad_request(format!("unable to upgrade: no known protocol in {offered:?}"))
    })
}

/// Starts the program; that it cannot be started is told inside the WebSocket, as Kubernetes does.
async fn start(api: &Api, pod: &Value, spec: ExecSpec) -> Result<Result<Exec, String>, Refusal> {
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let (pods, name) = (api.pods.clone(), spec.container.clone());
    let started = tokio::task::spawn_blocking(move || pods.find(&uid)?.exec(&spec)).await;
    match started.map_err(|error| Refusal::internal(error.to_string()))? {
        Ok(exec) => Ok(Ok(exec)),
        Err(pod_runtime::Error::Program(message)) => Ok(Err(message)),
        Err(
            pod_runtime::Error::NotRunning(_)
            | pod_runtime::Error::Gone { .. }
            | pod_runtime::Error::NotFound(_),
        ) => {
            let message = format!("unable to upgrade connection: container not found ({name:?})");
            Err(Refusal::internal(message))
        }
        Err(error) => Err(Refusal::internal(error.to_string())),
    }
}

type Socket = TokioIo<Upgraded>;

/// A message to the client, or a control frame's answer.
enum Outgoing {
    Message(Vec<u8>),
    Control(OpCode, Vec<u8>),
}

async fn run(
    socket: fastwebsockets::WebSocket<Socket>,
    started: Result<Exec, String>,
    streams: Streams,
) -> Result<(), WebSocketError> {
    let (mut reader, writer) = socket.split(tokio::io::split);
    reader.set_max_message_size(MAX_MESSAGE);
    let (sender, outgoing) = mpsc::channel(8);
    let pulse = beat(sender.clone());
    let writing = write_all(writer, outgoing);
    tokio::pin!(writing);
    let working = async move {
        let mut reader = FragmentCollectorRead::new(reader);
        match started {
            Ok(exec) => session(exec, streams, &mut reader, &sender).await,
            Err(message) => {
                let said = failure(&format!("error executing command in container: {message}"));
                finish(&said, &sender, discard(&mut reader, &sender)).await;
            }
        }
    };
    tokio::select! {
        // Nobody is there any more.
        written = &mut writing => return written,
        () = working => {}
        () = pulse => {}
    }
    writing.await
}

/// Writes something now and then. A client that goes without a word while its input is full is
/// noticed only so: nothing is read from it then.
async fn beat(sender: mpsc::Sender<Outgoing>) {
    loop {
        tokio::time::sleep(BEAT).await;
        if sender.send(Outgoing::Control(OpCode::Ping, Vec::new())).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn write_all(
    mut writer: WebSocketWrite<WriteHalf<Socket>>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> Result<(), WebSocketError> {
    let mut closed = false;
    while let Some(next) = outgoing.recv().await {
        if closed {
            continue;
        }
        closed = matches!(next, Outgoing::Control(OpCode::Close, _));
        let frame = match next {
            Outgoing::Message(bytes) => Frame::binary(Payload::Owned(bytes)),
            Outgoing::Control(code, bytes) => Frame::new(true, code, None, Payload::Owned(bytes)),
        };
        writer.write_frame(frame).await?;
    }
    writer.flush().await
}

async fn send(sender: &mpsc::Sender<Outgoing>, channel: u8, bytes: &[u8]) {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(channel);
    message.extend_from_slice(bytes);
    sender.send(Outgoing::Message(message)).await.ok();
}

/// Says the last word, and reads on for a while: a client that was cut off while it sends input
/// which nobody wants would never hear it.
async fn finish(status: &Value, sender: &mpsc::Sender<Outgoing>, input: impl Future<Output = ()>) {
    let say = async {
        send(sender, ERROR, status.to_string().as_bytes()).await;
        let code = 1000_u16.to_be_bytes().to_vec();
        sender.send(Outgoing::Control(OpCode::Close, code)).await.ok();
    };
    let both = async { tokio::join!(say, input) };
    tokio::time::timeout(LINGER, both).await.ok();
}

/// Reads until the client leaves.
async fn discard(
    reader: &mut FragmentCollectorRead<ReadHalf<Socket>>,
    sender: &mpsc::Sender<Outgoing>,
) {
    loop {
        let mut answer = |frame: Frame<'_>| {
            let control = Outgoing::Control(frame.opcode, frame.payload.to_vec());
            async move { sender.send(control).await.map_err(|_| Gone) }
        };
        let read = reader.read_frame::<_, Gone>(&mut answer).await;
        if !read.is_ok_and(|frame| frame.opcode != OpCode::Close) {
            return;
        }
    }
}

/// Carries everything until the program ends; a client that leaves first ends the program.
async fn session(
    exec: Exec,
    streams: Streams,
    reader: &mut FragmentCollectorRead<ReadHalf<Socket>>,
    sender: &mpsc::Sender<Outgoing>,
) {
    // Kubernetes tells so that the streams stand.
    send(sender, if streams.stdout { STDOUT } else { ERROR }, b"").await;
    let pipes = match Pipes::open(exec) {
        Ok(pipes) => pipes,
        Err(error) => {
            return finish(&failure(&error.to_string()), sender, discard(reader, sender)).await;
        }
    };
    let Pipes { stdin, stdout, stderr, control } = pipes;
    let (control_in, mut control_out) = control.into_split();
    let (ended, _) = watch::channel(false);
    let exit = async {
        let mut line = String::new();
        let read = BufReader::new(control_in).read_line(&mut line).await;
        ended.send_replace(true);
        read.ok().and_then(|_| serde_json::from_str::<Value>(&line).ok())
    };
    let out = pump(stdout, STDOUT, streams.stdout, sender, ended.subscribe());
    let err = async {
        if let Some(stderr) = stderr {
            pump(stderr, STDERR, streams.stderr, sender, ended.subscribe()).await;
        }
    };
    let mut input = pin!(read_client(reader, stdin, &mut control_out, sender));
    let program = async { tokio::join!(exit, out, err).0 };
    tokio::select! {
        exit = program => finish(&status(exit.as_ref()), sender, input).await,
        () = &mut input => {}
    }
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
    sender: &mpsc::Sender<Outgoing>,
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
    reader: &mut FragmentCollectorRead<ReadHalf<Socket>>,
    mut stdin: Option<AsyncFd<OwnedFd>>,
    control: &mut tokio::net::unix::OwnedWriteHalf,
    sender: &mpsc::Sender<Outgoing>,
) {
    loop {
        let mut answer = |frame: Frame<'_>| {
            let control = Outgoing::Control(frame.opcode, frame.payload.to_vec());
            async move { sender.send(control).await.map_err(|_| Gone) }
        };
        let Ok(frame) = reader.read_frame::<_, Gone>(&mut answer).await else { return };
        let message = match frame.opcode {
            OpCode::Binary | OpCode::Text => frame.payload.to_vec(),
            OpCode::Close => return,
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => continue,
        };
        match message.split_first() {
            Some((&STDIN, bytes)) => feed(&mut stdin, bytes).await,
            Some((&RESIZE, size)) => resize(control, size).await,
            Some((&CLOSE, [STDIN])) => stdin = None,
            _ => {}
        }
    }
}

/// The writer's end of this connection has ended.
#[derive(Debug, thiserror::Error)]
#[error("the connection has ended")]
struct Gone;

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

async fn resize(control: &mut tokio::net::unix::OwnedWriteHalf, size: &[u8]) {
    let Ok(size) = serde_json::from_slice::<Value>(size) else { return };
    let side = |name: &str| size[name].as_u64().filter(|side| (1..=65_535).contains(side));
    let (Some(rows), Some(cols)) = (side("Height"), side("Width")) else { return };
    let line = format!("{}\n", json!({"resize": {"rows": rows, "cols": cols}}));
    control.write_all(line.as_bytes()).await.ok();
}

fn failure(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
           "message": format!("Internal error occurred: {message}"),
           "details": {"causes": [{"message": message}]}})
}

/// The last word: how the program ended.
fn status(exit: Option<&Value>) -> Value {
    match exit.and_then(|line| line["exit"].as_i64()) {
        Some(0) => json!({"metadata": {}, "status": "Success"}),
        Some(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: command terminated \
                                with exit code {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        None => failure("the program's pod has ended"),
    }
}
