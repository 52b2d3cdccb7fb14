//! The listener: TLS, deadlines, a cap on connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::api::{self, Api};

/// A request's body must be here by then.
pub(crate) const BODY_DEADLINE: Duration = Duration::from_secs(30);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Counts while a connection is idle, too: longer than clients keep theirs, so that it is they who
/// close and no request meets a closing server.
const HEADER_DEADLINE: Duration = Duration::from_secs(100);
const MAX_CONNECTIONS: usize = 2048;

/// Binds the port of the last time if it is free, so that kubeconfigs stay true.
pub(crate) async fn bind(wanted: SocketAddr, last: Option<u16>) -> std::io::Result<TcpListener> {
    if let Some(port) = last.filter(|_| wanted.port() == 0) {
        let again = TcpListener::bind(SocketAddr::new(wanted.ip(), port)).await;
        if again.is_ok() {
            return again;
        }
    }
    TcpListener::bind(wanted).await
}

/// Accepts until shut down.
pub(crate) async fn accept(listener: TcpListener, tls: Arc<rustls::ServerConfig>, api: Api) {
    let tls = TlsAcceptor::from(tls);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let shutdown = api.shutdown.clone();
    let accepting = async {
        while let Ok(permit) = permits.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = connection(stream, tls.clone(), api.clone(), permit);
                    api.tasks.spawn(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = accepting => {}
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, api: Api, _permit: OwnedSemaphorePermit) {
    stream.set_nodelay(true).ok();
    let shutdown = api.shutdown.clone();
    let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream));
    let Some(Ok(Ok(stream))) = shutdown.run_until_cancelled(handshake).await else { return };
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api::handle(api, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
