//! `GET /api/weavers/{id}/attach`: who may, whether there is anything to attach to, and the upgrade.

use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use fastwebsockets::upgrade::UpgradeFut;
use futures::future::FutureExt;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use weaver::WeaverId;
use wire::frame::{SUBPROTOCOL, Size};
use wire::link::{Open, Resume};
use wire::problem::Code;

use crate::app::Relay;
use crate::close::End;
use crate::doors::Session;
use crate::link::Seat;
use crate::main_process;
use crate::problem::Refusal;
use crate::viewer::{self, Protocol};

/// Most characters of a client's name.
const MAX_CLIENT: usize = 64;

/// The query of an attach.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttachQuery {
    resume: Option<String>,
    client: Option<String>,
    rows: Option<String>,
    cols: Option<String>,
    from_start: Option<bool>,
}

/// Attaches a viewer.
pub(crate) async fn attach(
    State(relay): State<Relay>,
    Path(id): Path<String>,
    mut request: Request,
) -> Result<Response, Refusal> {
    relay.guard.check(request.uri(), request.headers())?;
    let id: WeaverId = id.parse().map_err(|_| Refusal::no_such_weaver())?;
    let query = Query::<AttachQuery>::try_from_uri(request.uri());
    let Query(query) = query.map_err(|error| Refusal::new(Code::Invalid, error.body_text()))?;
    let open = query.open()?;
    let protocol = protocol(request.headers());
    let (mut response, upgraded) = upgrade(&mut request)?;
    let session = (relay.doors.find)(id).await?;
    tracing::debug!(weaver = %id, ?protocol, ?session, "viewer comes");
    let seat = match session {
        Session::Host => {
            let links = relay.links.clone();
            async move { links.join(id, open).await }.boxed()
        }
        Session::Own { tty } => main_process::sit(relay.clone(), id, open, tty).boxed(),
    };
    relay.serve(id, protocol, upgraded, seat)?;
    if protocol == Protocol::V2 {
        agree(&mut response);
    }
    Ok(response)
}

impl Relay {
    /// Serves a viewer as soon as its connection is upgraded.
    pub(crate) fn serve(
        &self,
        id: WeaverId,
        protocol: Protocol,
        upgraded: UpgradeFut,
        seat: impl Future<Output = Result<Seat, End>> + Send + 'static,
    ) -> Result<(), Refusal> {
        let (place, drain) = (self.place()?, self.drain.clone());
        self.tasks.spawn(async move {
            let Ok(stream) = upgraded.await else { return };
            let close = viewer::run(stream.into_inner(), protocol, seat, drain).await;
            let code = close.as_ref().map_or(0, |close| close.code);
            metrics::counter!("loom_relay_closes_total", "code" => code.to_string()).increment(1);
            tracing::info!(weaver = %id, code, "viewer left");
            drop(place);
        });
        Ok(())
    }
}

/// Says that v2 is spoken.
pub(crate) fn agree(response: &mut Response) {
    let name = HeaderValue::from_static(SUBPROTOCOL);
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
}

/// Checks the handshake (RFC 6455, 4.2.1) and prepares its answer.
pub(crate) fn upgrade(request: &mut Request) -> Result<(Response, UpgradeFut), Refusal> {
    let wrong = |what: &str| Refusal::new(Code::Invalid, what);
    if !fastwebsockets::upgrade::is_upgrade_request(request) {
        return Err(wrong("a WebSocket is expected here"));
    }
    let (response, upgraded) = fastwebsockets::upgrade::upgrade(request)
        .map_err(|_| wrong("the WebSocket handshake needs a key and version 13"))?;
    Ok((response.map(axum::body::Body::new), upgraded))
}

/// Takes v2 if it is offered.
pub(crate) fn protocol(headers: &HeaderMap) -> Protocol {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = offered.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    if names.any(|name| name.trim() == SUBPROTOCOL) { Protocol::V2 } else { Protocol::V1 }
}

impl AttachQuery {
    fn open(self) -> Result<Open, Refusal> {
        let client = match self.client {
            Some(client) => checked_client(client)?,
            None => uuid::Uuid::new_v4().to_string(),
        };
        Ok(Open {
            client,
            resume: self.resume.as_deref().map(resume).transpose()?,
            size: size(self.rows.as_deref(), self.cols.as_deref())?
                .map(|size| (size.rows, size.cols)),
            from_start: self.from_start.unwrap_or_default(),
        })
    }
}

fn checked_client(client: String) -> Result<String, Refusal> {
    let fits = (1..=MAX_CLIENT).contains(&client.len());
    if fits && client.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(client);
    }
    Err(Refusal::field("client", "client must be 1 to 64 visible ASCII characters"))
}

fn resume(text: &str) -> Result<Resume, Refusal> {
    let wrong = || Refusal::field("resume", "resume must be a session and an offset: HEX.NUMBER");
    let (session, offset) = text.split_once('.').ok_or_else(wrong)?;
    if session.len() != 32 || !session.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let offset = offset.parse().map_err(|_| wrong())?;
    Ok(Resume { session: session.to_ascii_lowercase(), offset })
}

/// Reads a size; it needs both sides.
pub(crate) fn size(rows: Option<&str>, cols: Option<&str>) -> Result<Option<Size>, Refusal> {
    let side = |text: &str| text.parse::<u16>().ok();
    let size = match (rows, cols) {
        (None, None) => return Ok(None),
        (Some(rows), Some(cols)) => side(rows).zip(side(cols)),
        (Some(_), None) | (None, Some(_)) => None,
    };
    let size = size.and_then(|(rows, cols)| Size::new(rows, cols));
    let why = "rows and cols must both be numbers from 1 to 65535";
    size.map(Some).ok_or_else(|| Refusal::field("rows", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_checked() {
        let open = |text: &str| {
            let uri = format!("/x?{text}").parse().unwrap();
            Query::<AttachQuery>::try_from_uri(&uri).ok().and_then(|Query(query)| query.open().ok())
        };
        let session = "0A".repeat(16);
        let read = open(&format!("resume={session}.12&client=c&rows=24&cols=80")).unwrap();
        assert_eq!(read.resume, Some(Resume { session: "0a".repeat(16), offset: 12 }));
        assert_eq!((read.client.as_str(), read.size), ("c", Some((24, 80))));
        assert!(open("").is_some());
        for wrong in [
            "resume=x.1",
            &format!("resume={session}.-1"),
            &format!("resume={session}"),
            "client=",
            "client=a%00b",
            "rows=24",
            "rows=0&cols=80",
            "rows=65536&cols=80",
            "unknown=1",
        ] {
            assert!(open(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn v2_is_taken_where_it_is_offered() {
        let mut headers = HeaderMap::new();
        assert_eq!(protocol(&headers), Protocol::V1);
        let offered = HeaderValue::from_static("other, loom.attach.v2");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        assert_eq!(protocol(&headers), Protocol::V2);
    }
}
