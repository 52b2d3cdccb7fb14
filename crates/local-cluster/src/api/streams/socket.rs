//! The WebSocket below all streams: messages both ways, a pulse, a last word.

use std::time::Duration;

use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite,
};
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::super::Api;
use super::super::request::header;
use super::super::respond::{Answer, Body};
use super::super::status::Refusal;

/// What tells of an error, and of success.
pub(in crate::api) const ERROR: u8 = 3;
/// How often a client is asked whether it lives; what it answers does not matter.
const BEAT: Duration = Duration::from_secs(5);
/// No message of a client is larger.
const MAX_MESSAGE: usize = 1 << 20;
/// How long a client may take to leave after the last word.
const LINGER: Duration = Duration::from_secs(5);

type Socket = TokioIo<Upgraded>;
/// A connection whose handshake is over.
pub(in crate::api) type WebSocket = fastwebsockets::WebSocket<Socket>;

/// Returns the first of `known` that the client offers.
pub(in crate::api) fn protocol(
    request: &Request<Incoming>,
    known: &[&'static str],
) -> Result<&'static str, Refusal> {
    if !fastwebsockets::upgrade::is_upgrade_request(request) {
        let message = "unable to upgrade: the local cluster speaks WebSocket, not SPDY";
        return Err(Refusal::bad_request(message));
    }
    let offered = header(request.headers(), "sec-websocket-protocol");
    let offers = |wanted: &&&str| offered.split(',').any(|given| given.trim() == **wanted);
    known.iter().find(offers).copied().ok_or_else(|| {
        Refusal::bad_request(format!("unable to upgrade: no known protocol in {offered:?}"))
    })
}

/// Answers with an upgrade, and serves what comes of it until that ends or we do.
pub(in crate::api) fn upgrade<F>(
    api: &Api,
    mut request: Request<Incoming>,
    protocol: &'static str,
    serve: impl FnOnce(Inbox, Sender) -> F + Send + 'static,
) -> Result<Answer, Refusal>
where
    F: Future<Output = ()> + Send + 'static,
{
    let upgraded = fastwebsockets::upgrade::upgrade(&mut request);
    let (answer, upgrade) =
        upgraded.map_err(|error| Refusal::bad_request(format!("unable to upgrade: {error}")))?;
    let shutdown = api.shutdown.clone();
    api.tasks.spawn(async move {
        let session = async { run(upgrade.await?, serve).await };
        tokio::select! {
            ended = session => if let Err(error) = ended {
                tracing::debug!(%error, "a stream ended early");
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

/// A message to the client, or a control frame's answer.
pub(in crate::api) enum Outgoing {
    Message(Vec<u8>),
    Control(OpCode, Vec<u8>),
}

/// Where messages to the client go; it is full while the client takes none.
pub(in crate::api) type Sender = mpsc::Sender<Outgoing>;

async fn run<F: Future<Output = ()>>(
    socket: WebSocket,
    serve: impl FnOnce(Inbox, Sender) -> F,
) -> Result<(), WebSocketError> {
    let (mut reader, writer) = socket.split(tokio::io::split);
    reader.set_max_message_size(MAX_MESSAGE);
    let (sender, outgoing) = mpsc::channel(8);
    let pulse = beat(sender.clone());
    let writing = write_all(writer, outgoing);
    tokio::pin!(writing);
    let inbox = Inbox { reader: FragmentCollectorRead::new(reader), sender: sender.clone() };
    tokio::select! {
        // Nobody is there any more.
        written = &mut writing => return written,
        () = serve(inbox, sender) => {}
        () = pulse => {}
    }
    writing.await
}

/// Writes something now and then. A client that goes without a word while its input is full is
/// noticed only so: nothing is read from it then.
async fn beat(sender: Sender) {
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

/// Sends bytes of a channel.
pub(in crate::api) async fn send(sender: &Sender, channel: u8, bytes: &[u8]) {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(channel);
    message.extend_from_slice(bytes);
    sender.send(Outgoing::Message(message)).await.ok();
}

/// Closes the connection.
pub(in crate::api) async fn close(sender: &Sender, code: u16) {
    sender.send(Outgoing::Control(OpCode::Close, code.to_be_bytes().to_vec())).await.ok();
}

/// Says the last word, and reads on for a while: a client that was cut off while it sends input
/// which nobody wants would never hear it.
pub(in crate::api) async fn finish(
    status: &Value,
    sender: &Sender,
    input: impl Future<Output = ()>,
) {
    let say = async {
        send(sender, ERROR, status.to_string().as_bytes()).await;
        close(sender, 1000).await;
    };
    let both = async { tokio::join!(say, input) };
    tokio::time::timeout(LINGER, both).await.ok();
}

/// What the client says.
pub(in crate::api) struct Inbox {
    reader: FragmentCollectorRead<ReadHalf<Socket>>,
    sender: Sender,
}

impl Inbox {
    /// Returns the next message; nothing once the client has left. It must be awaited to its end.
    pub(in crate::api) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut answer = |frame: Frame<'_>| {
                let control = Outgoing::Control(frame.opcode, frame.payload.to_vec());
                let sender = &self.sender;
                async move { sender.send(control).await.map_err(|_| Gone) }
            };
            let frame = self.reader.read_frame::<_, Gone>(&mut answer).await.ok()?;
            match frame.opcode {
                OpCode::Binary | OpCode::Text => return Some(frame.payload.to_vec()),
                OpCode::Close => return None,
                OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
            }
        }
    }

    /// Reads until the client leaves.
    pub(in crate::api) async fn discard(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// The writer's end of this connection has ended.
#[derive(Debug, thiserror::Error)]
#[error("the connection has ended")]
struct Gone;
