//! The relay on a real socket, with a host in this process behind it.

mod abuse;
mod exec;
mod host;
mod main_process;
mod socket;
mod v1;
mod v2;

use std::net::SocketAddr;
use std::sync::Arc;

use client::{Client, Server, Token};
use futures::future::FutureExt;
use service::{Guard, Secret, ServeOptions, Task};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weaver::WeaverId;
use wire::problem::Code;

use crate::app::{Relay, app};
use crate::doors::{Doors, Session};
use crate::problem::Refusal;
use host::Host;
use main_process::Own;
use socket::Socket;

const TOKEN: &str = "hush";
const WEAVER: &str = "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c";
const ENDED: &str = "W-018e2b3c-4d5e-7f8a-9b0c-000000000007";
/// Runs its image's own program.
const OWN: &str = "W-018e2b3c-4d5e-7f8a-9b0c-000000000001";
const UNKNOWN: &str = "W-018e2b3c-4d5e-7f8a-9b0c-000000000404";

/// A relay that serves, and the host behind it.
struct Rig {
    address: SocketAddr,
    host: Host,
    own: Own,
    relay: Relay,
    shutdown: CancellationToken,
    _server: Task<usize>,
}

impl Rig {
    async fn start() -> Self {
        Self::with(ServeOptions::default()).await
    }

    async fn with(options: ServeOptions) -> Self {
        let (host, own) = (Host::default(), Own::default());
        let shutdown = CancellationToken::new();
        let guard = Guard::loopback(Secret::new(TOKEN));
        let doors = Doors {
            find: Arc::new(|id| async move { find(id) }.boxed()),
            run: Arc::new(|_, ask| async move { exec::run(&ask) }.boxed()),
            own: own.door(),
        };
        let relay = Relay::over(doors, host.serve(), guard, shutdown.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served =
            service::serve(listener, app(relay.clone()), options, CancellationToken::new());
        Self { address, host, own, relay, shutdown, _server: Task::spawn(served) }
    }

    fn url(&self, id: &str) -> String {
        format!("ws://{}/api/weavers/{id}/attach", self.address)
    }

    fn client(&self) -> Client {
        self.client_with(Some(TOKEN))
    }

    fn client_with(&self, token: Option<&str>) -> Client {
        let server = Server::new(&self.address.to_string(), token.map(Token::new)).unwrap();
        Client::new(server).unwrap()
    }

    /// Attaches by v1.
    async fn v1(&self) -> Socket {
        Socket::open(self.address, &format!("/api/weavers/{WEAVER}/attach"), TOKEN).await
    }
}

fn find(id: WeaverId) -> Result<Session, Refusal> {
    match id.to_string().as_str() {
        UNKNOWN => Err(Refusal::no_such_weaver()),
        ENDED => Err(Refusal::new(Code::Conflict, format!("{id} has ended with exit code 7"))),
        OWN => Ok(Session::Own { tty: true }),
        _ => Ok(Session::Host),
    }
}
