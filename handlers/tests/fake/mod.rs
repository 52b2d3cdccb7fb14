//! A Kubernetes API server that fits in a test: pods and events in memory, with real
//! resourceVersions, preconditions, paging and watches, a clock of its own, and faults on demand.

// Each test program uses a part of it.
#![allow(dead_code, clippy::allow_attributes, reason = "each test program uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod select;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use cluster::{Cluster, Settings};
use futures::stream::{self, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use jiff::SignedDuration;
use serde_json::{Value, json};
use service::{ServeOptions, Task};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use store::Store;

/// What happens instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No answer, ever.
    Hang,
    /// The call is done, its answer never comes.
    DoneThenHang,
    /// The call is done, its answer is cut in the middle.
    DoneThenCut,
    /// The answer is cut in the middle.
    Cut,
    /// Bytes that are no JSON.
    Garbage,
    /// A Status with this code, reason and message.
    Status(u16, &'static str, &'static str),
    /// 429 with this Retry-After.
    TooMany(u32),
}

/// What is done to the store before a call.
type Hook = Box<dyn FnOnce(&Store) + Send>;

/// The server. Dropping it ends it.
pub(crate) struct Fake {
    server: Server,
    kubeconfig: NamedTempFile,
    _task: Task<usize>,
}

#[derive(Clone)]
struct Server {
    store: Arc<Store>,
    faults: Arc<Mutex<HashMap<String, Fault>>>,
    once: Arc<Mutex<HashMap<String, Fault>>>,
    hooks: Arc<Mutex<HashMap<String, Hook>>>,
    calls: Arc<Mutex<Vec<String>>>,
    skew: Arc<Mutex<SignedDuration>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server {
            store: Arc::default(),
            faults: Arc::default(),
            once: Arc::default(),
            hooks: Arc::default(),
            calls: Arc::default(),
            skew: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        let options = ServeOptions { drain: Duration::ZERO, ..ServeOptions::default() };
        let serving = service::serve(listener, router, options, CancellationToken::new());
        let kubeconfig = kubeconfig(&format!("http://{address}"));
        Self { server, kubeconfig, _task: Task::spawn(serving) }
    }

    /// Connects to it with the product's own client.
    pub(crate) async fn cluster(&self) -> Cluster {
        connect(&self.kubeconfig, Duration::from_secs(5)).await
    }

    /// The same with a shorter deadline for every call.
    pub(crate) async fn impatient_cluster(&self, deadline: Duration) -> Cluster {
        connect(&self.kubeconfig, deadline).await
    }

    /// The file with which a program finds it.
    pub(crate) fn kubeconfig(&self) -> &std::path::Path {
        self.kubeconfig.path()
    }

    /// What is stored.
    pub(crate) fn store(&self) -> &Store {
        &self.server.store
    }

    /// Makes the next call of `verb` fail; `list continued` is a page that is not the first.
    pub(crate) fn fail_once(&self, verb: &str, fault: Fault) {
        self.server.once.lock().unwrap().insert(verb.to_owned(), fault);
    }

    /// Does something to the store just before the next call of `verb` is done.
    pub(crate) fn before(&self, verb: &str, hook: impl FnOnce(&Store) + Send + 'static) {
        self.server.hooks.lock().unwrap().insert(verb.to_owned(), Box::new(hook));
    }

    /// Makes every call of `verb` (`create`, `get`, `list`, ...) fail, or none.
    pub(crate) fn fail(&self, verb: &str, fault: Option<Fault>) {
        let mut faults = self.server.faults.lock().unwrap();
        match fault {
            Some(fault) => faults.insert(verb.to_owned(), fault),
            None => faults.remove(verb),
        };
    }

    /// Sets its clock that far from this machine's.
    pub(crate) fn skew(&self, skew: SignedDuration) {
        *self.server.skew.lock().unwrap() = skew;
    }

    /// Returns the calls since the last time, e.g. `create pods`.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.server.calls.lock().unwrap())
    }
}

/// A cluster at whose address nobody listens.
pub(crate) async fn nobody() -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    connect(&kubeconfig(&format!("http://{address}")), Duration::from_secs(5)).await
}

async fn connect(kubeconfig: &NamedTempFile, deadline: Duration) -> Cluster {
    service::install_crypto();
    let settings = Settings {
        tools_image: Some("loom.local/tools".to_owned()),
        tools_mount: cluster::ToolsMount::Image,
        deadline,
        ..Settings::default()
    };
    Cluster::connect(Some(kubeconfig.path()), settings).await.unwrap()
}

fn kubeconfig(server: &str) -> NamedTempFile {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": server}}],
        "users": [{"name": "fake", "user": {"token": "fake"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    });
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config.to_string()).unwrap();
    file
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let mut response = server.faulty(request).await;
    let now = service::clock::now() + *server.skew.lock().unwrap();
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    response.headers_mut().insert(header::DATE, HeaderValue::from_str(&date).unwrap());
    response
}

impl Server {
    async fn faulty(&self, request: Request) -> Response {
        let call = Call::of(request).await;
        self.calls.lock().unwrap().push(format!("{} {}", call.verb, call.kind));
        let hook = self.hooks.lock().unwrap().remove(call.verb);
        if let Some(hook) = hook {
            hook(&self.store);
        }
        let name = if call.query.contains_key("continue") { "list continued" } else { call.verb };
        let once = self.once.lock().unwrap().remove(name);
        let fault = once.or_else(|| self.faults.lock().unwrap().get(call.verb).cloned());
        match fault {
            None => self.right(&call),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::DoneThenHang) => {
                self.right(&call);
                std::future::pending().await
            }
            Some(Fault::DoneThenCut) => {
                self.right(&call);
                cut()
            }
            Some(Fault::Cut) => cut(),
            Some(Fault::Garbage) => "<html>not JSON".into_response(),
            Some(Fault::Status(code, reason, message)) => status(code, reason, message),
            Some(Fault::TooMany(seconds)) => {
                let mut response = status(429, "TooManyRequests", "slow down");
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                response
            }
        }
    }

    fn right(&self, call: &Call) -> Response {
        let now = service::clock::now() + *self.skew.lock().unwrap();
        let store = &self.store;
        match (call.verb, call.kind.as_str()) {
            ("get", "version") => axum::Json(version()).into_response(),
            ("get", "namespaces") => axum::Json(store.namespace(&call.name)).into_response(),
            ("get", "log") => store.log(&call.name),
            ("get", kind) => found(store.get(kind, &call.name)),
            ("list", kind) => axum::Json(store.list(kind, &call.query)).into_response(),
            ("watch", kind) => watch(store, kind, &call.query),
            ("create", "pods") if call.query.contains_key("dryRun") => {
                axum::Json(call.body.clone()).into_response()
            }
            ("create", "pods") => found(store.create("pods", call.body.clone(), now)),
            ("patch", "pods") => found(store.patch(&call.name, &call.body)),
            ("delete", "pods") => found(store.delete(&call.name, &call.body)),
            (verb, kind) => status(404, "NotFound", &format!("the fake does not {verb} {kind}")),
        }
    }
}

struct Call {
    verb: &'static str,
    kind: String,
    name: String,
    query: HashMap<String, String>,
    body: Value,
}

impl Call {
    async fn of(request: Request) -> Self {
        let (parts, body) = request.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let query: HashMap<_, _> = query.into_owned().collect();
        let (kind, name) = kind_and_name(parts.uri.path());
        let verb = match parts.method {
            Method::POST => "create",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if query.get("watch").is_some_and(|watch| watch == "true") => "watch",
            _ if name.is_empty() && kind != "version" => "list",
            _ => "get",
        };
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self { verb, kind, name, query, body }
    }
}

fn kind_and_name(path: &str) -> (String, String) {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (kind, name) = match parts.as_slice() {
        ["version"] => ("version", ""),
        ["api", "v1", "namespaces", name] => ("namespaces", *name),
        ["api", "v1", "namespaces", _, "pods", name, "log"] => ("log", *name),
        ["api", "v1", "namespaces", _, kind] => (*kind, ""),
        ["api", "v1", "namespaces", _, kind, name] => (*kind, *name),
        _ => ("unknown", ""),
    };
    (kind.to_owned(), name.to_owned())
}

fn found(result: Result<Value, (u16, &'static str)>) -> Response {
    match result {
        Ok(object) => axum::Json(object).into_response(),
        Err((code, reason)) => status(code, reason, "the fake says no"),
    }
}

fn status(code: u16, reason: &str, message: &str) -> Response {
    let kind = if message.starts_with("namespaces") { "namespaces" } else { "pods" };
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code, "details": {"kind": kind}});
    (StatusCode::from_u16(code).unwrap(), axum::Json(body)).into_response()
}

fn cut() -> Response {
    let begun = Ok(Bytes::from_static(br#"{"kind":"Pod","metadata":{"#));
    let cut = Err(std::io::Error::other("cut"));
    Body::from_stream(stream::iter([begun, cut])).into_response()
}

fn watch(store: &Arc<Store>, kind: &str, query: &HashMap<String, String>) -> Response {
    let changes = store
        .watch(kind, query)
        .map(|event| Ok::<_, std::io::Error>(Bytes::from(format!("{event}\n"))));
    Body::from_stream(changes).into_response()
}

fn version() -> Value {
    json!({"major": "1", "minor": "35", "gitVersion": "v1.35.0", "gitCommit": "", "buildDate": "",
        "gitTreeState": "", "goVersion": "", "compiler": "", "platform": ""})
}
