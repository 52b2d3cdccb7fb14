//! One connection from its first byte to its end.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::ServeOptions;
use super::body;
use super::door::Place;
use super::held::Held;

/// What all connections of a server have in common.
#[derive(Clone)]
pub(crate) struct Connection {
    router: Router,
    http: http1::Builder,
    tls: Option<TlsAcceptor>,
    first_byte: Duration,
    head: Duration,
    body: Duration,
    shutdown: CancellationToken,
}

impl Connection {
    pub(crate) fn new(router: Router, options: ServeOptions, shutdown: CancellationToken) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(options.head).max_headers(100);
        Self {
            router,
            http,
            tls: options.tls.map(TlsAcceptor::from),
            first_byte: options.first_byte,
            head: options.head,
            body: options.body,
            shutdown,
        }
    }

    /// Serves one connection; every way out closes it.
    pub(crate) async fn run(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let place = Arc::new(place);
        let evicted = place.evicted().clone();
        let whole = self.whole(stream, peer, place);
        if evicted.run_until_cancelled(whole).await.is_none() {
            dropped("evicted", peer);
        }
    }

    async fn whole(self, stream: TcpStream, peer: SocketAddr, place: Arc<Place>) {
        if !self.speaks(&stream).await {
            return dropped("silent", peer);
        }
        let Some(tls) = self.tls.clone() else {
            return self.http(stream, peer, place).await;
        };
        let handshake = tokio::time::timeout(self.head, tls.accept(stream));
        match self.shutdown.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => self.http(stream, peer, place).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            Some(Err(_)) => dropped("tls", peer),
            None => {}
        }
    }

    /// Waits for the first byte, not for the sake of a client that comes when we are leaving.
    async fn speaks(&self, stream: &TcpStream) -> bool {
        let mut byte = [0];
        let first = tokio::time::timeout(self.first_byte, stream.peek(&mut byte));
        let first = self.shutdown.run_until_cancelled(first).await;
        matches!(first, Some(Ok(Ok(1))))
    }

    async fn http<S>(self, stream: S, peer: SocketAddr, place: Arc<Place>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(Held::new(stream, Arc::clone(&place)));
        let Self { router, http, body, shutdown, .. } = self;
        let served = Arc::clone(&place);
        let answer = service_fn(move |request| {
            served.settle();
            answer(&router, request, peer, body)
        });
        let connection = http.serve_connection(stream, answer).with_upgrades();
        tokio::pin!(connection);
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            // Who has asked for nothing yet is owed nothing.
            () = shutdown.cancelled() => if place.is_half_open() {
                return;
            } else {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        match result {
            Err(error) if error.is_timeout() => dropped("head", peer),
            Err(error) => tracing::debug!(%error, %peer, "a connection ended early"),
            Ok(()) => {}
        }
    }
}

fn answer(
    router: &Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    time: Duration,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let mut request = request.map(|incoming| body::within(incoming, time));
    request.extensions_mut().insert(ConnectInfo(peer));
    // A router is always ready.
    router.clone().call(request)
}

fn dropped(why: &'static str, peer: SocketAddr) {
    metrics::counter!("loom_connections_dropped_total", "why" => why).increment(1);
    tracing::debug!(why, %peer, "a connection was dropped");
}
