//! One way to serve HTTP/1.1: every wait has a deadline, every connection a place, and an end.
//!
//! ```text
//! accept -> place (cap) -> first byte -> TLS -> request head -> router -> body -> keep-alive ...
//!             |               |           |         |                      |
//!             oldest half-    each has its own deadline; what is late is closed
//!             open gives way
//! ```

mod body;
mod connection;
mod door;
mod held;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use body::BodyTimedOut;
use connection::Connection;
use door::Door;

/// How long the loop rests when the machine has no more files for a connection.
const OUT_OF_FILES: Duration = Duration::from_millis(50);

/// Deadlines and bounds of a server.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How long a new connection may stay silent.
    pub first_byte: Duration,
    /// How long a TLS handshake, and each request's head, may take; also how long a connection
    /// may idle between two requests.
    pub head: Duration,
    /// How long a request's body may take, from its head to its last byte.
    pub body: Duration,
    /// Most connections at once, upgraded ones included.
    pub max_connections: usize,
    /// How long requests may go on after the shutdown.
    pub drain: Duration,
    /// Serve HTTPS with this.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(15),
            body: Duration::from_secs(30),
            max_connections: 8192,
            drain: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// The flags of [`ServeOptions`], the same in every server.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Seconds that a new connection may stay silent
    #[arg(long, env = "LOOM_SERVER_FIRST_BYTE_SECS", default_value = "10",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub first_byte_secs: u64,
    /// Seconds that a request's head may take, and that a connection may idle
    #[arg(long, env = "LOOM_SERVER_HEAD_SECS", default_value = "15",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub head_secs: u64,
    /// Seconds that a request's body may take
    #[arg(long, env = "LOOM_SERVER_BODY_SECS", default_value = "30",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub body_secs: u64,
    /// Most connections at once
    #[arg(long, env = "LOOM_SERVER_MAX_CONNECTIONS", default_value = "8192",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Seconds that requests may go on after SIGTERM
    #[arg(long, env = "LOOM_SERVER_DRAIN_SECS", default_value = "10",
        value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub drain_secs: u64,
}

impl From<&ServeArgs> for ServeOptions {
    fn from(args: &ServeArgs) -> Self {
        Self {
            first_byte: Duration::from_secs(args.first_byte_secs),
            head: Duration::from_secs(args.head_secs),
            body: Duration::from_secs(args.body_secs),
            max_connections: usize::try_from(args.max_connections).unwrap_or(usize::MAX),
            drain: Duration::from_secs(args.drain_secs),
            tls: None,
        }
    }
}

/// Serves `router` until `shutdown`, then lets requests end, but no longer than `options.drain`.
///
/// Returns how many connections had to be cut off at that deadline. Upgraded connections belong to
/// whoever upgraded them: they hold their place here but are not waited for. Requests carry
/// [`axum::extract::ConnectInfo`] of the peer's address.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> usize {
    let door = Door::new(options.max_connections);
    let drain = options.drain;
    let connection = Connection::new(router, options, shutdown.clone());
    let mut tasks = JoinSet::new();
    let accepting = accept(listener, door, connection, &mut tasks);
    let _ = shutdown.run_until_cancelled(accepting).await;
    crate::task::drain(&mut tasks, drain).await
}

async fn accept(
    listener: TcpListener,
    mut door: Door,
    connection: Connection,
    tasks: &mut JoinSet<()>,
) {
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                not_accepted(&error).await;
                continue;
            }
        };
        let place = door.enter().await;
        prepare(&stream, peer);
        tasks.spawn(connection.clone().run(stream, peer, place));
    }
}

async fn not_accepted(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "a connection cannot be accepted");
    tokio::time::sleep(OUT_OF_FILES).await;
}

/// Keystrokes must not wait for more of them, and a peer that is gone must be noticed.
fn prepare(stream: &TcpStream, peer: SocketAddr) {
    use rustix::net::sockopt;
    let set = || -> io::Result<()> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
        sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
        Ok(sockopt::set_tcp_keepcnt(stream, 3)?)
    };
    if let Err(error) = set() {
        tracing::debug!(%error, %peer, "a connection's options cannot be set");
    }
}
