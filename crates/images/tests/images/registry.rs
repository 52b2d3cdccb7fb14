//! A registry on loopback that does what a test wants.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What it does with a request instead of answering it as it should.
#[derive(Debug, Clone)]
pub(crate) enum Trick {
    Status(u16),
    Redirect(String),
    /// So many bytes, and then the end of the connection.
    Cut(usize),
    /// So many bytes, and then nothing.
    Hang(usize),
    /// Other bytes.
    Instead(Vec<u8>),
    /// All of it, although a part was asked for.
    Whole,
}

/// What came in.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (String, Bytes)>,
    /// By a part of the path; each is done once, in order.
    tricks: HashMap<String, Vec<Trick>>,
    login: Option<String>,
    asked: Vec<Asked>,
}

#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) host: String,
    state: Arc<Mutex<State>>,
    _tasks: Arc<JoinSet<()>>,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Registry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::<Mutex<State>>::default();
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let answer = answer(&mut shared.lock().unwrap(), &request);
                        std::future::ready(Ok::<_, Infallible>(answer))
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { host, state, _tasks: Arc::new(tasks) }
    }

    pub(crate) fn put(&self, path: &str, kind: &str, bytes: impl Into<Bytes>) {
        let object = (kind.to_owned(), bytes.into());
        self.state.lock().unwrap().objects.insert(path.to_owned(), object);
    }

    /// Puts an image there; returns its reference and its layers' digests.
    pub(crate) fn push(&self, name: &str, layers: &[Vec<u8>]) -> (String, Vec<String>) {
        let mut described = Vec::new();
        for layer in layers {
            let digest = digest(layer);
            self.put(
                &format!("/v2/{name}/blobs/{digest}"),
                "application/octet-stream",
                layer.clone(),
            );
            described.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest, "size": layer.len()}));
        }
        let config = serde_json::to_vec(&json!({"os": "linux", "config": {"User": "7",
            "Env": ["A=1"], "Cmd": ["/bin/x"]}}))
        .unwrap();
        let called = digest(&config);
        let kind = "application/vnd.oci.image.config.v1+json";
        let descriptor = json!({"mediaType": kind, "digest": called, "size": config.len()});
        self.put(&format!("/v2/{name}/blobs/{called}"), kind, config);
        self.manifest(
            name,
            "1",
            &json!({"schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor, "layers": described}),
        );
        (format!("{}/{name}:1", self.host), layers.iter().map(|layer| digest(layer)).collect())
    }

    /// Puts a manifest there; returns its digest.
    pub(crate) fn manifest(&self, name: &str, tag: &str, manifest: &serde_json::Value) -> String {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = digest(&bytes);
        let kind = manifest["mediaType"].as_str().unwrap();
        for called in [tag, &digest] {
            self.put(&format!("/v2/{name}/manifests/{called}"), kind, bytes.clone());
        }
        digest
    }

    pub(crate) fn trick(&self, part: &str, trick: Trick) {
        self.state.lock().unwrap().tricks.entry(part.to_owned()).or_default().push(trick);
    }

    pub(crate) fn lock(&self, user: &str, password: &str) {
        use base64::Engine;
        let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.state.lock().unwrap().login = Some(format!("Basic {both}"));
    }

    /// What was asked for with this in its path.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|asked| asked.path.contains(part)).cloned().collect()
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn empty(status: u16, name: &str, value: &str) -> Response<Body> {
    let response = Response::builder().status(status).header(name, value);
    response.body(full(Bytes::new())).unwrap()
}

fn answer(state: &mut State, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let of = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (authorization, range) = (of(header::AUTHORIZATION), of(header::RANGE));
    let asked = Asked { path: path.clone(), authorization, range };
    state.asked.push(asked.clone());
    if state.login.is_some() && state.login != asked.authorization {
        return empty(401, "www-authenticate", "Basic realm=\"here\"");
    }
    let mut tricks = state.tricks.iter_mut();
    let trick = tricks.find(|(part, left)| path.contains(*part) && !left.is_empty());
    let trick = trick.map(|(_, left)| left.remove(0));
    let Some((kind, bytes)) = state.objects.get(&path).cloned() else {
        return empty(404, "content-length", "0");
    };
    let range = asked.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
    let from = range.and_then(|range| range.split('-').next()?.parse().ok());
    let digest = digest(&bytes);
    let found = |from: Option<usize>, body: Body| {
        let status = from.map_or(StatusCode::OK, |_| StatusCode::PARTIAL_CONTENT);
        let response = Response::builder().status(status).header("content-type", kind);
        response.header("docker-content-digest", digest).body(body).unwrap()
    };
    let rest = bytes.slice(from.unwrap_or(0)..);
    match trick {
        Some(Trick::Status(code)) => empty(code, "retry-after", "7"),
        Some(Trick::Redirect(to)) => empty(307, "location", &to),
        Some(Trick::Cut(count)) => found(from, part(rest.slice(..count), false)),
        Some(Trick::Hang(count)) => found(from, part(rest.slice(..count), true)),
        Some(Trick::Instead(other)) => found(None, full(other.into())),
        Some(Trick::Whole) => found(None, full(bytes)),
        None => found(from, full(rest)),
    }
}

/// These bytes, and then no more or the end of the connection.
fn part(bytes: Bytes, hangs: bool) -> Body {
    let then = futures::stream::once(async move {
        if hangs {
            std::future::pending::<()>().await;
        }
        // Not at once, or what came before is thrown away with it.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    });
    BodyExt::boxed(StreamBody::new(futures::stream::iter([Ok(Frame::data(bytes))]).chain(then)))
}
