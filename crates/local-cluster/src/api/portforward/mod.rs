//! `pods/portforward` over WebSocket, with or without SPDY inside.

mod carry;
mod plain;
mod spdy;

use http::Request;
use hyper::body::Incoming;
use tokio::net::TcpStream;

use super::request::{Query, Target};
use super::respond::Answer;
use super::status::Refusal;
use super::streams::socket::{protocol, upgrade};
use super::{Api, pod_of};
use crate::kubelet::Pods;

#[cfg(any(test, feature = "fuzz"))]
pub(super) use plain::ports;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use spdy::fuzz;

const PROTOCOLS: &[&str] = &[spdy::PROTOCOL, plain::PROTOCOL];

/// Answers with an upgrade to a WebSocket that carries connections to a pod's ports.
pub(crate) async fn answer(
    api: &Api,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let pod = pod_of(api, target)?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let dialer = Dialer { pods: api.pods.clone(), uid, name: target.name.clone() };
    let protocol = protocol(&request, PROTOCOLS)?;
    if pod["status"]["phase"] != "Running" {
        let message =
            format!("unable to forward port because pod {:?} is not running", dialer.name);
        return Err(Refusal::bad_request(message));
    }
    if protocol == spdy::PROTOCOL {
        return upgrade(api, request, protocol, |inbox, sender| spdy::serve(dialer, inbox, sender));
    }
    let ports = plain::ports(query)?;
    upgrade(api, request, protocol, |inbox, sender| plain::serve(dialer, ports, inbox, sender))
}

/// Connects to one pod's loopback.
#[derive(Clone)]
struct Dialer {
    pods: Pods,
    uid: String,
    name: String,
}

impl Dialer {
    async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        let (pods, uid) = (self.pods.clone(), self.uid.clone());
        let dial = move || pods.find(&uid)?.dial(port);
        let connected = match tokio::task::spawn_blocking(dial).await {
            Ok(Ok(stream)) => stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream))
                .map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        connected.map_err(|why| {
            let Self { name, uid, .. } = self;
            format!("error forwarding port {port} to pod {name}, uid {uid}: {why}")
        })
    }
}
