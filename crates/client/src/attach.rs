//! An attached terminal: frames of attach v2 over a WebSocket.

use std::time::Duration;

use reqwest::{Method, Response, Upgraded, header};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use url::Url;
use wire::frame::{Frame, SUBPROTOCOL, Size};
use wire::link::Resume;

use crate::{Client, Error};

mod socket;

pub use socket::FrameSender;

/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Events that wait for the reader before the socket is left to fill.
const EVENTS: usize = 64;

/// How a terminal is attached.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Names this client over reconnects, so that its input is not taken twice; 1 to 64 characters.
    pub client: String,
    /// Where the output goes on; the present screen without it.
    pub resume: Option<Resume>,
    /// The terminal's size, if there is one.
    pub size: Option<Size>,
    /// Whether all output that is still known is wanted rather than the present screen.
    pub from_start: bool,
}

/// What is run in a weaver beside its session.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// The terminal's size.
    pub size: Option<Size>,
}

/// What an attached terminal brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A frame of the host or the relay.
    Frame(Frame),
    /// The server's last word; nothing comes after it.
    Close(Close),
}

/// Why the server closed the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The WebSocket close code (RFC 6455, 7.4); 1005 if there was none.
    pub code: u16,
    /// Why, for people.
    pub reason: String,
}

impl Close {
    /// Tells whether attaching again, with [`AttachOptions::resume`], may go on.
    #[must_use]
    pub fn may_resume(&self) -> bool {
        matches!(self.code, 1012 | 1013)
    }
}

/// An attached terminal. Dropping it drops the connection.
#[derive(Debug)]
pub struct Attach {
    sender: FrameSender,
    events: mpsc::Receiver<Result<Event, Error>>,
    _tasks: JoinSet<()>,
}

impl Client {
    /// Attaches to a weaver's session; `url` is [`wire::api::WeaverView::attach_url`].
    ///
    /// # Errors
    /// The server's problem, or why it cannot be reached.
    pub async fn attach(&self, url: &str, options: &AttachOptions) -> Result<Attach, Error> {
        let mut url = self.socket_url(url)?;
        options.put(&mut url);
        self.open(url).await
    }

    /// Runs a program in a weaver beside its session; `url` is the weaver's `attach_url`.
    ///
    /// Input is [`Frame::Input`] and [`Frame::Eof`]; output is [`Frame::Output`] and
    /// [`Frame::Stderr`], and [`Frame::Exit`] ends it. Nothing needs to be acknowledged.
    ///
    /// # Errors
    /// See [`Self::attach`].
    pub async fn exec(&self, url: &str, options: &ExecOptions) -> Result<Attach, Error> {
        let mut url = self.socket_url(url)?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().pop().push("exec");
        }
        options.put(&mut url);
        self.open(url).await
    }

    /// Turns `ws` into the scheme that the HTTP client knows; the token never goes from TLS to none.
    fn socket_url(&self, given: &str) -> Result<Url, Error> {
        let wrong = |why| Error::Address { url: given.to_owned(), why };
        let mut url = Url::parse(given).map_err(|_| wrong("it is not a URL"))?;
        let secure = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(wrong("it must start with ws:// or wss://")),
        };
        if !secure && self.server().url.scheme() == "https" {
            return Err(wrong("the server is reached by https, so it must be wss://"));
        }
        // `set_scheme` does not go from ws to http on every version of the standard; text does.
        let rest = given.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
        let scheme = if secure { "https" } else { "http" };
        url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| wrong("it is not a URL"))?;
        Ok(url)
    }

    async fn open(&self, url: Url) -> Result<Attach, Error> {
        let request = self
            .request(Method::GET, url)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, fastwebsockets::handshake::generate_key())
            .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        let server = self.server().url.to_string();
        let response = tokio::time::timeout(HANDSHAKE, self.send(request)).await;
        let response = response.map_err(|_| Error::Timeout { url: server.clone() })??;
        if !speaks_v2(&response) {
            return Err(Error::Answer { url: server, status: response.status().as_u16() });
        }
        Ok(Attach::over(response.upgrade().await.map_err(Error::broken)?))
    }
}

fn speaks_v2(response: &Response) -> bool {
    let protocol = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    response.status() == reqwest::StatusCode::SWITCHING_PROTOCOLS
        && protocol.is_some_and(|protocol| protocol == SUBPROTOCOL)
}

impl Attach {
    fn over(stream: Upgraded) -> Self {
        let (to_reader, events) = mpsc::channel(EVENTS);
        let mut tasks = JoinSet::new();
        let sender = socket::start(stream, to_reader, &mut tasks);
        Self { sender, events, _tasks: tasks }
    }

    /// Returns a handle that sends frames; it can be cloned and used while events are awaited.
    #[must_use]
    pub fn sender(&self) -> FrameSender {
        self.sender.clone()
    }

    /// Returns the next event. It may be dropped and called again.
    ///
    /// # Errors
    /// The connection broke, or nothing came for a minute (the server pings every 20 s).
    pub async fn next(&mut self) -> Result<Event, Error> {
        self.events.recv().await.unwrap_or(Err(Error::Broken(None)))
    }
}

impl AttachOptions {
    fn put(&self, url: &mut Url) {
        let mut pairs = url.query_pairs_mut();
        if !self.client.is_empty() {
            pairs.append_pair("client", &self.client);
        }
        if let Some(resume) = &self.resume {
            pairs.append_pair("resume", &format!("{}.{}", resume.session, resume.offset));
        }
        if self.from_start {
            pairs.append_pair("from_start", "true");
        }
        pairs.extend_pairs(size_pairs(self.size));
    }
}

impl ExecOptions {
    fn put(&self, url: &mut Url) {
        let mut pairs = url.query_pairs_mut();
        pairs.extend_pairs(self.command.iter().map(|word| ("command", word)));
        if self.tty {
            pairs.append_pair("tty", "true");
        }
        pairs.extend_pairs(size_pairs(self.size));
    }
}

fn size_pairs(size: Option<Size>) -> impl Iterator<Item = (&'static str, String)> {
    let pairs = |size: Size| [("rows", size.rows.to_string()), ("cols", size.cols.to_string())];
    size.map(pairs).into_iter().flatten()
}
