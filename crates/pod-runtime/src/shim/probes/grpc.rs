//! One question by gRPC's health protocol (grpc.health.v1.Health/Check), in plain HTTP/2.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};

use super::http::USER_AGENT;

/// The longest answer that is looked at; one that is well is 7 bytes long.
const MOST: usize = 64 << 10;
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
const UNIMPLEMENTED: u32 = 12;
/// How an answer without a status of gRPC's counts.
const UNKNOWN: u32 = 2;
/// What gRPC calls its statuses, as Go writes them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Says in Kubernetes' words that nobody speaks HTTP/2 there.
pub(super) fn no_connection(address: SocketAddr, patience: Duration) -> String {
    let seconds = patience.as_secs();
    let why = "context deadline exceeded";
    format!("timeout: failed to connect service \"{address}\" within {seconds}s: {why}")
}

/// Asks, as long as time is left of the patience; says in Kubernetes' words why it failed.
pub(super) fn check(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
    (left, patience): (Duration, Duration),
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("error: health rpc probe failed: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(failed)?.block_on(async {
        stream.set_nonblocking(true).map_err(failed)?;
        let stream = tokio::net::TcpStream::from_std(stream).map_err(failed)?;
        let mut met = false;
        let answer = Box::pin(ask(stream, address, service, &mut met));
        let answer = tokio::time::timeout(left, answer).await;
        match answer {
            _ if !met => Err(no_connection(address, patience)),
            Ok(answer) => judge(answer),
            Err(_) => {
                let seconds = patience.as_secs();
                Err(format!("timeout: health rpc did not complete within {seconds}s"))
            }
        }
    })
}

/// What a server said, or which status of gRPC's stands for it.
type Answer = Result<u64, (u32, String)>;

fn judge(answer: Answer) -> Result<(), String> {
    match answer {
        Ok(1) => Ok(()),
        Ok(status) => {
            let word = match status {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            Err(format!("service unhealthy (responded with {word:?})"))
        }
        Err((UNIMPLEMENTED, message)) => Err(format!(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): {message}"
        )),
        Err((code, message)) => {
            let known = CODES.get(code as usize).map(|name| (*name).to_owned());
            let code = known.unwrap_or_else(|| format!("Code({code})"));
            Err(format!(
                "error: health rpc probe failed: rpc error: code = {code} desc = {message}"
            ))
        }
    }
}

async fn ask(
    stream: tokio::net::TcpStream,
    address: SocketAddr,
    service: &str,
    met: &mut bool,
) -> Answer {
    let (client, mut connection) = h2::client::handshake(stream).await.map_err(unavailable)?;
    let pings = connection.ping_pong();
    let answer = async {
        // Whatever is no server of HTTP/2 does not answer this.
        if let Some(mut pings) = pings {
            pings.ping(h2::Ping::opaque()).await.map_err(unavailable)?;
        }
        *met = true;
        exchange(client, address, service).await
    };
    // The connection moves only while it is polled.
    tokio::select! {
        biased;
        answer = answer => answer,
        end = connection => {
            let why = end.err().map_or_else(|| "the connection ended".to_owned(), |e| e.to_string());
            Err((14, why))
        }
    }
}

async fn exchange(mut client: SendRequest<Bytes>, address: SocketAddr, service: &str) -> Answer {
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT)
        .body(())
        .map_err(unavailable)?;
    let (response, mut body) = client.send_request(request, false).map_err(unavailable)?;
    body.send_data(question(service), true).map_err(unavailable)?;
    read(response).await
}

async fn read(response: ResponseFuture) -> Answer {
    let (head, mut body) = response.await.map_err(unavailable)?.into_parts();
    if head.status != 200 {
        let code = if head.status == 404 { UNIMPLEMENTED } else { UNKNOWN };
        let why = format!("unexpected HTTP status code received from server: {}", head.status);
        return Err((code, why));
    }
    status(&head.headers).unwrap_or(Ok(()))?;
    let mut message = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(unavailable)?;
        // It always has that much to give.
        body.flow_control().release_capacity(part.len()).ok();
        message.extend_from_slice(&part);
        if message.len() > MOST {
            return Err((8, "the answer is too long".to_owned()));
        }
    }
    let trailers = body.trailers().await.map_err(unavailable)?.unwrap_or_default();
    status(&trailers).unwrap_or(Ok(()))?;
    said(&message).ok_or_else(|| (13, "the answer is malformed".to_owned()))
}

fn unavailable(error: impl std::fmt::Display) -> (u32, String) {
    (14, error.to_string())
}

/// Returns how the call ended, if these headers tell.
fn status(headers: &HeaderMap) -> Option<Result<(), (u32, String)>> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().unwrap_or(UNKNOWN);
    let message = text("grpc-message").unwrap_or_default().replace("%20", " ");
    Some(if code == 0 { Ok(()) } else { Err((code, message)) })
}

/// Writes HealthCheckRequest, whose field 1 is the service.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        write_number(&mut message, service.len() as u64);
        message.extend(service.as_bytes());
    }
    // Services have names, not texts of 4 GiB.
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &len.to_be_bytes()[..], &message].concat().into()
}

fn write_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Reads HealthCheckResponse: field 1 is the status, and 0 when it is left out.
fn said(answer: &[u8]) -> Option<u64> {
    let (prefix, mut message) = answer.split_at_checked(PREFIX)?;
    let len = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(len) != Ok(message.len()) {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = number(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = number(&mut message)?,
            (_, 0) => drop(number(&mut message)?),
            (_, 1) => drop(message.split_off(..8)?),
            (_, 2) => {
                let len = usize::try_from(number(&mut message)?).ok()?;
                message.split_off(..len)?;
            }
            (_, 5) => drop(message.split_off(..4)?),
            _ => return None,
        }
    }
    Some(status)
}

fn number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *from.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// An answer as a fuzzer gives it: it is read to its end or not at all.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    if said(bytes).is_some() {
        assert!(said(&bytes[..bytes.len() - 1]).is_none(), "half an answer is none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answer: &[u8]) -> Result<(), String> {
        judge(said(answer).ok_or((13, "malformed".to_owned())))
    }

    #[test]
    fn only_who_serves_is_well() {
        assert_eq!(judged(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        // Unknown fields of every kind are passed over.
        let more = [
            0, 0, 0, 0, 23, 0x1a, 2, 9, 9, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x2d, 0, 0, 0, 0, 0x30,
            0x81, 1, 8, 1,
        ];
        assert_eq!(judged(&more), Ok(()));
        let not = |word| Err(format!("service unhealthy (responded with \"{word}\")"));
        assert_eq!(judged(&[0, 0, 0, 0, 2, 8, 2]), not("NOT_SERVING"));
        assert_eq!(judged(&[0, 0, 0, 0, 0]), not("UNKNOWN"));
        assert_eq!(judged(&[0, 0, 0, 0, 2, 8, 9]), not("9"));
        for broken in [
            &[][..],
            &[0; 4],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 8],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0x0b, 1],
        ] {
            assert!(judged(broken).unwrap_err().contains("code = Internal"), "{broken:?}");
        }
    }

    #[test]
    fn a_status_is_told_as_go_tells_it() {
        let mut headers = HeaderMap::new();
        assert!(status(&headers).is_none());
        headers.insert("grpc-status", "5".parse().unwrap());
        headers.insert("grpc-message", "unknown%20service".parse().unwrap());
        let (code, message) = status(&headers).unwrap().unwrap_err();
        let why =
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
        assert_eq!(judge(Err((code, message))), Err(why.to_owned()));
        let none = judge(Err((UNIMPLEMENTED, "no such method".to_owned()))).unwrap_err();
        assert!(none.ends_with("(grpc.health.v1.Health): no such method"), "{none}");
    }

    #[test]
    fn a_question_names_its_service() {
        assert_eq!(question("")[..], [0; 5]);
        assert_eq!(question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(question(&"x".repeat(300))[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }
}
