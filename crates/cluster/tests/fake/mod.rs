//! An API server below the client: plain HTTP on loopback that answers as it is told.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cluster::{Cluster, Settings};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use weaver::{Admitted, Policy, Weaver};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
    /// How many requests came before it.
    pub(crate) nth: usize,
    /// How many watches came before it.
    pub(crate) nth_watch: usize,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Bytes(StatusCode, Vec<u8>),
    RetryAfter(u64),
    /// Nothing, for ever.
    Never,
    /// Headers that promise a body, and then nothing.
    HeadersOnly,
    /// Headers that promise a body, a part of it, and the end of the connection.
    CutBody,
    /// This, and then the end or silence.
    Stream(String, bool),
}

impl Answer {
    pub(crate) fn json(status: StatusCode, value: &Value) -> Self {
        Self::Bytes(status, value.to_string().into_bytes())
    }

    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        Self::Bytes(status, text.as_bytes().to_vec())
    }

    pub(crate) fn status(code: u16, reason: &str, message: &str) -> Self {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message});
        Self::json(StatusCode::from_u16(code).unwrap(), &status)
    }
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server; it ends when dropped.
pub(crate) struct Fake {
    address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (seen, script): (_, Arc<Script>) = (asked.clone(), Arc::new(script));
        let app = Router::new().fallback(move |request: Request| {
            let (seen, script) = (seen.clone(), script.clone());
            async move { handle(request, &seen, &*script).await }
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, asked, _tasks: tasks }
    }

    pub(crate) async fn cluster(&self, settings: Settings) -> Cluster {
        connect(self.address, settings).await
    }

    /// Returns from which versions on watches were asked for.
    pub(crate) fn versions(&self) -> Vec<String> {
        let asked = self.asked("GET");
        let parts = asked.iter().flat_map(|asked| asked.query.split('&'));
        parts.filter_map(|part| Some(part.strip_prefix("resourceVersion=")?.to_owned())).collect()
    }

    /// Returns the requests of this method, or all.
    pub(crate) fn asked(&self, method: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.method.starts_with(method)).cloned().collect()
    }
}

/// Connects to a port at which nobody listens.
pub(crate) async fn nobody(settings: Settings) -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    connect(address, settings).await
}

async fn connect(address: std::net::SocketAddr, settings: Settings) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]});
    std::fs::write(&path, config.to_string()).unwrap();
    Cluster::connect(Some(&path), settings).await.unwrap()
}

async fn handle(request: Request, seen: &Mutex<Vec<Asked>>, script: &Script) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let asked = {
        let mut seen = seen.lock().unwrap();
        let of_script = |asked: &&Asked| asked.path != "/version";
        let asked = Asked {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            nth: seen.iter().filter(of_script).count(),
            nth_watch: seen.iter().filter(|asked| asked.query.contains("watch=true")).count(),
        };
        seen.push(asked.clone());
        asked
    };
    let mut response = respond(script(&asked)).await;
    response.headers_mut().insert(header::DATE, HeaderValue::from_static(super::DATE));
    response
}

async fn respond(answer: Answer) -> Response {
    let part = |text: String| Ok::<_, std::io::Error>(Bytes::from(text));
    match answer {
        Answer::Bytes(status, bytes) => (status, bytes).into_response(),
        Answer::RetryAfter(seconds) => {
            let wait = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, wait, "wait").into_response()
        }
        Answer::Never => std::future::pending().await,
        Answer::HeadersOnly => {
            Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()).into_response()
        }
        Answer::CutBody => {
            let cut = stream::iter([
                part("{\"kind\":".to_owned()),
                Err(std::io::ErrorKind::Other.into()),
            ]);
            Body::from_stream(cut).into_response()
        }
        Answer::Stream(text, true) => Body::from_stream(stream::iter([part(text)])).into_response(),
        Answer::Stream(text, false) => {
            let silent = stream::iter([part(text)]).chain(stream::pending());
            Body::from_stream(silent).into_response()
        }
    }
}

/// Returns the sample weaver, admitted.
pub(crate) fn admitted() -> Admitted {
    let sample = Weaver::sample();
    Policy::default().admit(sample.id, sample.spec).unwrap()
}

/// Returns the sample's pod as a server would, with this number as uid and version.
pub(crate) fn pod(number: u32) -> Value {
    let settings = Settings { tools_image: Some("t".to_owned()), ..Settings::default() };
    let pod = cluster::pod::render(&admitted(), Weaver::sample().created_at, &settings);
    let mut pod = serde_json::to_value(pod).unwrap();
    pod["metadata"]["uid"] = json!(format!("uid-{number}"));
    pod["metadata"]["resourceVersion"] = json!(number.to_string());
    pod
}

/// Returns such a pod with changed metadata.
pub(crate) fn with_meta(number: u32, change: impl Fn(&mut Value)) -> Value {
    let mut pod = pod(number);
    change(&mut pod["metadata"]);
    if pod["metadata"]["labels"]["weaver-id"].is_null() {
        pod["metadata"]["labels"].as_object_mut().unwrap().remove("weaver-id");
    }
    pod
}

/// Returns a list.
pub(crate) fn list_of(pods: &[Value], version: &str, next: Option<&str>) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "items": pods,
        "metadata": {"resourceVersion": version, "continue": next.unwrap_or_default()}})
}
