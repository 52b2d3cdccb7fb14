//! Bytes between one connection to a program and whoever forwarded it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const CHUNK: usize = 32 << 10;

/// Where a program's bytes go.
pub(super) trait Way {
    /// Passes bytes on, waiting for room.
    fn pass(&self, bytes: &[u8]) -> impl Future<Output = ()> + Send;

    /// Tells that there will be no more.
    fn end(&self) -> impl Future<Output = ()> + Send;
}

/// When a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// When both directions have ended, each by itself.
    Apart,
    /// When the program has closed its side.
    Together,
}

/// Carries bytes both ways until both have ended.
pub(super) async fn carry(
    stream: TcpStream,
    mut from_client: mpsc::Receiver<Vec<u8>>,
    way: &impl Way,
    ends: Ends,
) {
    let (mut from_pod, mut to_pod) = stream.into_split();
    let down = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
            way.pass(&buffer[..count]).await;
        }
        way.end().await;
    };
    let up = async {
        while let Some(bytes) = from_client.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                // Nothing more is taken: whoever sends is not held up.
                from_client.close();
                while from_client.recv().await.is_some() {}
                return;
            }
        }
        to_pod.shutdown().await.ok();
    };
    match ends {
        Ends::Apart => drop(tokio::join!(down, up)),
        Ends::Together => tokio::select! {
            () = down => {}
            () = async { up.await; std::future::pending().await } => {}
        },
    }
}
