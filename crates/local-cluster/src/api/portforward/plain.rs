//! Port-forwarding on the channels of `v4.channel.k8s.io`: two for each port, data and errors.

use futures::future::join_all;
use tokio::sync::mpsc;

use super::Dialer;
use super::carry::{Ends, Way, carry};
use crate::api::request::Query;
use crate::api::status::Refusal;
use crate::api::streams::socket::{Inbox, Sender, close, send};

pub(super) const PROTOCOL: &str = "v4.channel.k8s.io";
/// Channels are numbered by one byte.
const MAX_PORTS: usize = 100;
const PIECES: usize = 16;

/// Reads `?ports=`, which may come often and hold several.
pub(in crate::api) fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let words = query.all("ports");
    let ports = words.iter().flat_map(|word| word.split(',')).map(|word| {
        word.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
            Refusal::bad_request(format!("query parameter \"ports\" has no port: {word:?}"))
        })
    });
    let ports = ports.collect::<Result<Vec<u16>, Refusal>>()?;
    match ports.len() {
        0 => Err(Refusal::bad_request("query parameter \"ports\" is required")),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(Refusal::bad_request("too many ports")),
    }
}

/// Serves until every connection has ended or the client leaves.
pub(super) async fn serve(dialer: Dialer, ports: Vec<u16>, mut inbox: Inbox, sender: Sender) {
    let (to_pods, from_client): (Vec<_>, Vec<_>) =
        ports.iter().map(|_| mpsc::channel(PIECES)).unzip();
    // Kubernetes tells first which channels are whose.
    for (number, port) in (0_u8..).zip(&ports) {
        for channel in [2 * number, 2 * number + 1] {
            send(&sender, channel, &port.to_le_bytes()).await;
        }
    }
    let connections = (0_u8..).zip(ports.iter().copied()).zip(from_client).map(
        |((number, port), from_client)| {
            let channel = Channel { number: 2 * number, sender: &sender };
            connection(&dialer, channel, port, from_client)
        },
    );
    let reading = async {
        while let Some(message) = inbox.next().await {
            let Some((channel, bytes)) = message.split_first() else { continue };
            let to_pod = to_pods.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(to_pod) = to_pod {
                // A connection that has ended takes nothing.
                to_pod.send(bytes.to_vec()).await.ok();
            }
        }
    };
    tokio::select! {
        _ = join_all(connections) => close(&sender, 1000).await,
        () = reading => {}
    }
}

async fn connection(
    dialer: &Dialer,
    channel: Channel<'_>,
    port: u16,
    from_client: mpsc::Receiver<Vec<u8>>,
) {
    match dialer.dial(port).await {
        // There is no way to tell that a channel has ended: a program that has closed its side is
        // done with.
        Ok(stream) => carry(stream, from_client, &channel, Ends::Together).await,
        Err(message) => send(channel.sender, channel.number + 1, message.as_bytes()).await,
    }
}

/// The data of one port.
struct Channel<'a> {
    number: u8,
    sender: &'a Sender,
}

impl Way for Channel<'_> {
    async fn pass(&self, bytes: &[u8]) {
        send(self.sender, self.number, bytes).await;
    }

    async fn end(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_one_parameter_or_in_several() {
        let ports = |text: &str| {
            let (parts, ()) =
                http::Request::get(format!("http://x/?{text}")).body(()).unwrap().into_parts();
            ports(&Query::of(&parts)).ok()
        };
        assert_eq!(ports("ports=80&ports=81,82").unwrap(), [80, 81, 82]);
        for wrong in ["", "ports=", "ports=0", "ports=65536", "ports=80,x"] {
            assert!(ports(wrong).is_none(), "{wrong}");
        }
        assert!(ports(&"ports=1&".repeat(MAX_PORTS + 1)).is_none());
    }
}
