//! The WebSocket to a program: its streams, its terminal's size and its end, both ways at once.
//!
//! `kube` sends and receives in turns: while a program does not read what it is sent, nothing that
//! it writes arrives and neither does its exit code, and two programs that wait for each other like
//! this wait for ever.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::channel::{mpsc, oneshot};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::TerminalSize;
use kube::client::Connection;
use service::task::Task;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, SimplexStream, WriteHalf,
};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::ExecRequest;

/// How many bytes wait in each direction before the other side has to.
pub(super) const BUFFER: usize = 256 * 1024;
/// The most bytes of input in one message, as `kubectl` sends them.
const PIECE: usize = 32 * 1024;
/// Keeps proxies from closing what they take for dead.
const PING: Duration = Duration::from_secs(60);

// https://pkg.go.dev/k8s.io/apimachinery/pkg/util/remotecommand
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Closes the channel that is named next; since `v5.channel.k8s.io`.
const CLOSE: u8 = 255;

/// Our ends of everything.
pub(super) struct Link {
    pub(super) stdin: Option<WriteHalf<SimplexStream>>,
    pub(super) stdout: ReadHalf<SimplexStream>,
    pub(super) stderr: Option<ReadHalf<SimplexStream>>,
    pub(super) sizes: Option<mpsc::Sender<TerminalSize>>,
    /// Comes after all output; an error when the connection ended first.
    pub(super) ended: oneshot::Receiver<Status>,
    /// The connection ends with it.
    pub(super) task: Task,
}

/// Joins what `request` asked for to an open connection.
pub(super) fn open(connection: Connection, request: &ExecRequest) -> Link {
    let closes = connection.supports_stream_close();
    link(connection.into_stream(), closes, request)
}

fn link<S>(socket: WebSocketStream<S>, closes: bool, request: &ExecRequest) -> Link
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (to, from) = socket.split();
    let (stdin_out, stdin) = request.stdin.then(|| tokio::io::simplex(BUFFER)).unzip();
    let (stdout, stdout_in) = tokio::io::simplex(BUFFER);
    let (stderr, stderr_in) = (!request.tty).then(|| tokio::io::simplex(BUFFER)).unzip();
    let (sizes, sizes_out) = request.tty.then(|| mpsc::channel(1)).unzip();
    let (tell, ended) = oneshot::channel();
    let sending = Sending { to, closes, stdin: stdin_out, sizes: sizes_out };
    let receiving = Receiving { from, stdout: stdout_in, stderr: stderr_in };
    let task = Task::spawn(run(sending, receiving, tell));
    Link { stdin, stdout, stderr, sizes, ended, task }
}

async fn run<S>(sending: Sending<S>, receiving: Receiving<S>, tell: oneshot::Sender<Status>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let received = receiving.run();
    tokio::pin!(received);
    let status = tokio::select! {
        status = &mut received => status,
        // A server that takes no more may still have something to say.
        error = sending.run() => {
            tracing::debug!(%error, "a program's input cannot be sent");
            received.await
        }
    };
    if let Some(status) = status {
        // Nobody may want to know.
        tell.send(status).ok();
    }
}

/// From us to the program.
struct Sending<S> {
    to: SplitSink<WebSocketStream<S>, Message>,
    closes: bool,
    stdin: Option<ReadHalf<SimplexStream>>,
    sizes: Option<mpsc::Receiver<TerminalSize>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sending<S> {
    /// Sends until it cannot.
    async fn run(mut self) -> Error {
        let mut ping = tokio::time::interval(PING);
        ping.reset();
        loop {
            let message = tokio::select! {
                piece = piece(&mut self.stdin) => match piece {
                    Some(message) => message,
                    None => self.end_of_input(),
                },
                Some(size) = size(&mut self.sizes) => channel(RESIZE, &size),
                _ = ping.tick() => Message::Ping(Bytes::new()),
            };
            if let Err(error) = self.to.send(message).await {
                return error;
            }
        }
    }

    /// Without a way to close one channel all of them are closed, which is what `kubectl` does.
    fn end_of_input(&mut self) -> Message {
        self.stdin = None;
        match self.closes {
            true => channel(CLOSE, &[STDIN]),
            false => Message::Close(None),
        }
    }
}

/// Returns the next piece of input; `None` is its end, and comes once.
async fn piece(stdin: &mut Option<ReadHalf<SimplexStream>>) -> Option<Message> {
    let Some(stdin) = stdin else { return std::future::pending().await };
    let mut piece = BytesMut::with_capacity(PIECE);
    piece.extend_from_slice(&[STDIN]);
    match stdin.read_buf(&mut piece).await {
        Ok(1..) => Some(Message::Binary(piece.freeze())),
        Ok(0) | Err(_) => None,
    }
}

/// Returns the next size of the terminal.
async fn size(sizes: &mut Option<mpsc::Receiver<TerminalSize>>) -> Option<Vec<u8>> {
    let size = match sizes {
        Some(sizes) => sizes.next().await,
        None => None,
    };
    match size {
        Some(size) => serde_json::to_vec(&size).ok(),
        None => std::future::pending().await,
    }
}

fn channel(channel: u8, bytes: &[u8]) -> Message {
    Message::Binary([&[channel], bytes].concat().into())
}

/// From the program to us.
struct Receiving<S> {
    from: SplitStream<WebSocketStream<S>>,
    stdout: WriteHalf<SimplexStream>,
    stderr: Option<WriteHalf<SimplexStream>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Receiving<S> {
    /// Receives until the program has ended, or `None` when the connection did.
    async fn run(mut self) -> Option<Status> {
        loop {
            let bytes = match self.from.next().await? {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(%error, "the connection to a program ended");
                    return None;
                }
            };
            // Of each channel an empty message comes first.
            let Some((channel, bytes)) = bytes.split_first().filter(|(_, rest)| !rest.is_empty())
            else {
                continue;
            };
            let written = match (*channel, &mut self.stderr) {
                (STDOUT, _) => self.stdout.write_all(bytes).await,
                (STDERR, Some(stderr)) => stderr.write_all(bytes).await,
                (STATUS, _) => return serde_json::from_slice(bytes).ok(),
                _ => Ok(()),
            };
            written.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// Links a program whose side is played here; the pipe between holds little.
    async fn linked(request: &ExecRequest, closes: bool) -> (Link, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        (link(client, closes, request), server)
    }

    fn asks(stdin: bool, tty: bool) -> ExecRequest {
        ExecRequest { argv: Vec::new(), stdin, tty }
    }

    fn success() -> Message {
        channel(STATUS, br#"{"status":"Success"}"#)
    }

    #[tokio::test]
    async fn a_program_that_does_not_read_is_heard() {
        let (mut link, mut program) = linked(&asks(true, false), true).await;
        let mut stdin = link.stdin.take().unwrap();
        let typing = Task::spawn(async move { stdin.write_all(&vec![7; 4 * BUFFER]).await });
        // It takes one message, so that the others fill all there is on the way.
        assert!(program.next().await.unwrap().unwrap().is_binary());
        let pieces = 64_usize;
        let says = Task::spawn(async move {
            for _ in 0..pieces {
                program.send(channel(STDOUT, &[1; 1000])).await.unwrap();
            }
            program.send(success()).await.unwrap();
            program
        });
        let mut out = vec![0; pieces * 1000];
        link.stdout.read_exact(&mut out).await.unwrap();
        assert_eq!(link.ended.await.unwrap().status.unwrap(), "Success");
        assert!(!typing.is_finished());
        drop(says.join().await.unwrap());
    }

    #[tokio::test]
    async fn each_stream_has_its_channel() {
        let (mut link, mut program) = linked(&asks(true, false), true).await;
        let mut stdin = link.stdin.take().unwrap();
        stdin.write_all(b"in").await.unwrap();
        assert_eq!(program.next().await.unwrap().unwrap(), channel(STDIN, b"in"));
        stdin.shutdown().await.unwrap();
        assert_eq!(program.next().await.unwrap().unwrap(), channel(CLOSE, &[STDIN]));
        for (number, bytes) in [(STDOUT, &b""[..]), (STDERR, b""), (STDERR, b"err"), (9, b"?")] {
            program.send(channel(number, bytes)).await.unwrap();
        }
        program.send(channel(STDOUT, b"out")).await.unwrap();
        let (mut out, mut err) = ([0; 3], [0; 3]);
        link.stdout.read_exact(&mut out).await.unwrap();
        link.stderr.as_mut().unwrap().read_exact(&mut err).await.unwrap();
        assert_eq!((&out, &err), (b"out", b"err"));
        assert!(link.sizes.is_none());
        program.send(success()).await.unwrap();
        assert!(link.ended.await.is_ok());
    }

    #[tokio::test]
    async fn a_terminal_has_sizes_and_no_errors_of_its_own() {
        let (link, mut program) = linked(&asks(false, true), true).await;
        assert!(link.stdin.is_none() && link.stderr.is_none());
        link.sizes.unwrap().send(TerminalSize { width: 80, height: 24 }).await.unwrap();
        let size = channel(RESIZE, br#"{"Width":80,"Height":24}"#);
        assert_eq!(program.next().await.unwrap().unwrap(), size);
    }

    #[tokio::test]
    async fn without_a_way_to_close_a_channel_all_is_closed() {
        let (mut link, mut program) = linked(&asks(true, false), false).await;
        link.stdin.take().unwrap().shutdown().await.unwrap();
        assert_eq!(program.next().await.unwrap().unwrap(), Message::Close(None));
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_no_end_of_the_program() {
        for last in [None, Some(channel(STATUS, b"no status"))] {
            let (link, mut program) = linked(&asks(false, false), true).await;
            if let Some(last) = last {
                program.send(last).await.unwrap();
            }
            drop(program);
            assert!(link.ended.await.is_err());
        }
    }
}
