//! A server on a fake cluster, and requests to it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use clap::Parser;
use cluster::Cluster;
use handlers::{ApiArgs, App, Args, Parts};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use service::{Guard, Health, Metrics, Secret};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::fake::Fake;

pub(crate) const TOKEN: &str = "hush";

/// A server and the cluster below it.
pub(crate) struct Rig {
    pub(crate) fake: Fake,
    pub(crate) server: Server,
}

/// The server alone.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) app: App,
    pub(crate) health: Health,
    pub(crate) shutdown: CancellationToken,
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// Status, code and field of a problem.
    pub(crate) fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16());
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("code"), text("field"))
    }
}

pub(crate) async fn rig() -> Rig {
    let fake = Fake::start().await;
    let server = server(fake.cluster().await, |_| {});
    Rig { fake, server }
}

pub(crate) fn server(cluster: Cluster, change: impl FnOnce(&mut ApiArgs)) -> Server {
    let mut api = Args::parse_from(["loom-handlers"]).api;
    change(&mut api);
    let (health, shutdown) = (Health::new(), CancellationToken::new());
    let app = App::new(Parts {
        cluster,
        guard: Guard::loopback(Secret::new(TOKEN)),
        api,
        health: health.clone(),
        metrics: Metrics::detached(),
        shutdown: shutdown.clone(),
    });
    Server { router: handlers::app(app.clone()), app, health, shutdown }
}

impl Server {
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(request(Method::DELETE, path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, body.to_string()).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = request(Method::POST, path).header("content-type", "application/json");
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn create(&self, body: Value) -> Answer {
        self.post("/api/weavers", &body).await
    }

    pub(crate) async fn create_with_key(&self, key: &str, body: &Value) -> Answer {
        let request = request(Method::POST, "/api/weavers")
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        self.send(request.body(body.to_string().into()).unwrap()).await
    }

    /// Makes a weaver and returns its id.
    pub(crate) async fn made(&self) -> String {
        let answer = self.create(json!({})).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }
}

/// A request as our own client makes it.
pub(crate) fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:8080")
        .header("authorization", format!("Bearer {TOKEN}"))
}

pub(crate) fn pod_name(id: &str) -> String {
    id.replacen("W-", "weaver-", 1)
}

/// Waits until something is so; only a hang makes it fail.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}
