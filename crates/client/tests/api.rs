//! The client against a server that answers as Loom's does, and against ones that do not.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use client::{AttachOptions, Client, Error, ListQuery, LogsQuery, Server, Token};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use weaver::{Phase, WeaverId};
use wire::api::{CreateWeaver, Progress};
use wire::frame::Frame;
use wire::problem::{Code, Problem};

const ID: &str = "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c";

fn id() -> WeaverId {
    ID.parse().unwrap()
}

fn view(name: &str) -> Value {
    json!({"id": ID, "image": "i", "status": "Running", "created_at": "2025-03-03T10:00:00Z",
        "lifetime_hours": 4, "expires_at": "2025-03-03T14:00:00Z", "pod_name": "weaver-1",
        "pod_phase": null, "pod_ip": null, "age_hours": null, "remaining_hours": 1.5,
        "name": name, "reason": null, "message": null, "exit_code": null, "org_id": "O-1",
        "owner": "U-1", "owner_name": "ada", "repo": null, "branch": null, "command": [],
        "args": [], "workdir": null, "tags": {}, "resources": {}, "tty": true,
        "attach_url": "ws://127.0.0.1:1/", "from_the_future": 1})
}

fn problem(code: Code, detail: &str) -> Response {
    let problem = Problem::new(code, detail);
    let status = StatusCode::from_u16(problem.status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
}

fn sse(body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// Echoes the idempotency key as the weaver's name.
async fn create(headers: HeaderMap, Json(ask): Json<CreateWeaver>) -> Response {
    assert_eq!(headers[header::AUTHORIZATION], "Bearer hush");
    assert_eq!(ask.image.as_deref(), Some("i"));
    let key = headers.get("idempotency-key").map_or("none", |key| key.to_str().unwrap());
    (StatusCode::CREATED, Json(view(key))).into_response()
}

/// Two pages; the second one is named by the query that asked for it.
async fn list(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    if !query.contains("cursor=c%2F1") {
        return Json(json!({"weavers": [view("first")], "next": "c/1"})).into_response();
    }
    Json(json!({"weavers": [view(&query)], "next": null})).into_response()
}

async fn one(Path(id): Path<String>) -> Response {
    assert_eq!(id, ID);
    problem(Code::NotFound, "there is no such weaver")
}

const EVENTS: &str = ": hi\n\ndata: {\"event\":\"scheduled\"}\n\n\
    data: {\"event\":\"failed\",\"reason\":\"A\",\"message\":\"b\",\"last\":true}\n\n";
const LOGS: &str = "data: {\"offset\":0,\"data\":\"aGk=\"}\n\nevent: problem\ndata: \
    {\"title\":\"x\",\"status\":503,\"code\":\"unavailable\",\"detail\":\"gone\"}\n\n";

/// Agrees to frames, breaks that at once, and neither reads nor hangs up.
#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
async fn deaf(mut request: Request) -> Response {
    let (response, upgraded) = fastwebsockets::upgrade::upgrade(&mut request).unwrap();
    tokio::spawn(async move {
        let mut socket = upgraded.await.unwrap();
        let text = fastwebsockets::Frame::text((&b"hello"[..]).into());
        socket.write_frame(text).await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut response = response.map(axum::body::Body::new);
    let name = header::HeaderValue::from_static(wire::frame::SUBPROTOCOL);
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    response
}

struct Rig {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Rig {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new()
            .route("/api/weavers", post(create).get(list))
            .route("/api/weavers/{id}", get(one).delete(async || StatusCode::NO_CONTENT))
            .route("/api/weavers/{id}/events", get(async || sse(EVENTS)))
            .route("/api/weavers/{id}/logs", get(async || sse(LOGS)))
            .route("/api/weavers/{id}/attach", get(async || "hello"))
            .route("/deaf", get(deaf))
            .route("/api/weavers/{id}/extend", post(async || StatusCode::UNAUTHORIZED));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, _tasks: tasks }
    }

    fn client(&self) -> Client {
        client(&self.address.to_string())
    }
}

fn client(address: &str) -> Client {
    Client::new(Server::new(address, Some(Token::new("hush"))).unwrap()).unwrap()
}

#[tokio::test]
async fn a_weaver_is_made_with_token_and_key() {
    let rig = Rig::start().await;
    let ask = CreateWeaver { image: Some("i".into()), ..CreateWeaver::default() };
    let made = rig.client().create(&ask, Some("k")).await.unwrap();
    assert_eq!((made.name.as_deref(), made.status), (Some("k"), Phase::Running));
    assert_eq!(rig.client().create(&ask, None).await.unwrap().name.as_deref(), Some("none"));
}

#[tokio::test]
async fn a_list_is_read_to_its_end() {
    let rig = Rig::start().await;
    let query = ListQuery {
        tags: [("a".to_owned(), "b&c".to_owned())].into(),
        status: Some(Phase::Running),
        owner: None,
        limit: Some(1),
    };
    let names: Vec<_> =
        rig.client().list(&query).await.unwrap().into_iter().map(|w| w.name).collect();
    let second = "tag=a%3Db%26c&status=Running&limit=1&cursor=c%2F1";
    assert_eq!(names, [Some("first".to_owned()), Some(second.to_owned())]);
}

#[tokio::test]
async fn problems_are_told_in_the_servers_words() {
    let rig = Rig::start().await;
    let error = rig.client().get(&id()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Some(Code::NotFound), "there is no such weaver")
    );
    rig.client().delete(&id()).await.unwrap();
    let error = rig.client().extend(&id(), 5).await.unwrap_err();
    assert!(error.to_string().ends_with("run `loom login` first"), "{error}");
}

#[tokio::test]
async fn events_and_logs_are_streams() {
    let rig = Rig::start().await;
    let mut events = rig.client().events(&id()).await.unwrap();
    assert_eq!(events.next().await.unwrap(), Some(Progress::Scheduled));
    assert!(matches!(events.next().await.unwrap(), Some(Progress::Failed { last: true, .. })));
    assert_eq!(events.next().await.unwrap(), None);
    let mut logs = rig.client().logs(&id(), &LogsQuery::default()).await.unwrap();
    assert_eq!(logs.next().await.unwrap().as_deref(), Some(&b"hi"[..]));
    assert_eq!(logs.next().await.unwrap_err().code(), Some(Code::Unavailable));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(&address.to_string()).get(&id()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.is_transient(), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_looms_is_named() {
    let rig = Rig::start().await;
    let url = format!("ws://{}/api/weavers/{ID}/attach", rig.address);
    let error = rig.client().attach(&url, &AttachOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Answer { status: 200, .. }), "{error:?}");
    let error = client(&format!("{}/other", rig.address)).get(&id()).await.unwrap_err();
    assert!(matches!(error, Error::Answer { status: 404, .. }), "{error:?}");
}

#[tokio::test]
async fn the_token_does_not_leave_tls() {
    let client = client("https://loom.example");
    let attach = client.attach("ws://loom.example/api", &AttachOptions::default()).await;
    assert!(matches!(attach.unwrap_err(), Error::Address { .. }));
}

#[tokio::test]
async fn a_sender_ends_with_the_reader_even_where_the_socket_is_full() {
    let rig = Rig::start().await;
    let url = format!("ws://{}/deaf", rig.address);
    let mut attach = rig.client().attach(&url, &AttachOptions::default()).await.unwrap();
    let sender = attach.sender();
    assert!(matches!(attach.next().await, Err(Error::Protocol(_))));
    // Input waits for acknowledgements, other frames only for the socket.
    let long = Frame::Notice { text: "x".repeat(64 * 1024) };
    let sending = async { while sender.send(long.clone()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), sending).await.unwrap();
}
