//! What `bench/kubernetes` asks with: so many calls at once, of loom-handlers or of the API server
//! itself with a bare `kube` client. Prints the milliseconds, then the ids it made, a line each.
//!
//! `load ours|bare create|get|delete`; the settings of pods come from the variables that
//! loom-handlers reads, ids for get and delete from standard input.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

use std::io::Write;
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use cluster::{ClusterArgs, Settings};
use futures::stream::{self, StreamExt};
use http::{Method, Request};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use uuid::Uuid;
use weaver::{Policy, WeaverId, WeaverSpec};

#[derive(Clone, Copy, ValueEnum)]
enum Whom {
    Ours,
    Bare,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Create,
    Get,
    Delete,
}

#[derive(Parser)]
struct Args {
    #[arg(value_enum)]
    whom: Whom,
    #[arg(value_enum)]
    what: What,
    /// How many are made.
    #[arg(long, default_value = "0")]
    count: usize,
    #[arg(long, default_value = "16")]
    concurrency: usize,
    /// The bare client makes pods for the same request as this one, a JSON file.
    #[arg(long)]
    like: Option<PathBuf>,
    /// As if they had been made so many hours earlier.
    #[arg(long, default_value = "0")]
    age_hours: i64,
    #[arg(long, default_value = "")]
    url: String,
    #[arg(long, default_value = "")]
    token: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Makes one call; what it creates is returned.
enum Target {
    Ours(Box<Ours>),
    Bare(Box<Bare>),
}

struct Ours {
    client: hyper_util::client::legacy::Client<HttpConnector, Body>,
    url: String,
    token: String,
}

struct Bare {
    pods: Api<Pod>,
    spec: Option<WeaverSpec>,
    created_at: Timestamp,
    settings: Settings,
}

#[tokio::main(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn main() {
    service::install_crypto();
    let args = Args::parse();
    let target = Target::new(&args).await;
    let ids: Vec<_> = match args.what {
        What::Create => (0..args.count).map(|_| new_id()).collect(),
        What::Get | What::Delete => {
            let lines = std::io::stdin().lines();
            lines.map(|line| line.unwrap().parse().unwrap()).collect()
        }
    };
    // Connections are made before the clock starts.
    futures::future::join_all((0..args.concurrency).map(|_| target.warm())).await;
    let begun = std::time::Instant::now();
    let calls = stream::iter(ids).map(|id| target.call(args.what, id));
    let made: Vec<_> = calls.buffer_unordered(args.concurrency).collect().await;
    let took = begun.elapsed();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:.3}", took.as_secs_f64() * 1000.0).unwrap();
    made.iter().for_each(|id| writeln!(out, "{id}").unwrap());
}

fn new_id() -> WeaverId {
    WeaverId::from_uuid(Uuid::new_v4())
}

impl Target {
    async fn new(args: &Args) -> Self {
        match args.whom {
            Whom::Ours => Self::Ours(Box::new(Ours {
                client: hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                    .build(HttpConnector::new()),
                url: args.url.clone(),
                token: args.token.clone(),
            })),
            Whom::Bare => Self::Bare(Box::new(Bare::new(args).await)),
        }
    }

    async fn warm(&self) {
        match self {
            Self::Ours(ours) => drop(ours.ask(Method::GET, "?limit=1", Body::empty()).await),
            Self::Bare(bare) => {
                drop(bare.pods.list(&ListParams::default().limit(1)).await.unwrap())
            }
        }
    }

    async fn call(&self, what: What, id: WeaverId) -> String {
        match self {
            Self::Ours(ours) => ours.call(what, id).await,
            Self::Bare(bare) => bare.call(what, id).await,
        }
    }
}

impl Ours {
    async fn call(&self, what: What, id: WeaverId) -> String {
        match what {
            What::Create => {
                let made = self.ask(Method::POST, "", Body::from(b"{}".to_vec())).await;
                let made: Value = serde_json::from_slice(&made).unwrap();
                return made["id"].as_str().unwrap().to_owned();
            }
            What::Get => self.ask(Method::GET, &format!("/{id}"), Body::empty()).await,
            What::Delete => self.ask(Method::DELETE, &format!("/{id}"), Body::empty()).await,
        };
        id.to_string()
    }

    async fn ask(&self, method: Method, path: &str, body: Body) -> Bytes {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/weavers{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        let answer = self.client.request(request.body(body).unwrap()).await.unwrap();
        let status = answer.status();
        let body = axum::body::Body::new(answer.into_body());
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
        body
    }
}

impl Bare {
    async fn new(args: &Args) -> Self {
        let file = Kubeconfig::read_from(args.cluster.kubeconfig.as_ref().unwrap()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let settings = Settings::from(&args.cluster);
        let spec = args.like.as_ref().map(|like| {
            let pod: Pod = serde_json::from_slice(&std::fs::read(like).unwrap()).unwrap();
            cluster::pod::read(&pod).unwrap().weaver.spec
        });
        let earlier = SignedDuration::from_hours(args.age_hours);
        let created_at = service::clock::now() - earlier;
        Self { pods: Api::namespaced(client, &settings.namespace), spec, created_at, settings }
    }

    async fn call(&self, what: What, id: WeaverId) -> String {
        let name = id.pod_name();
        match what {
            What::Create => {
                let spec = self.spec.clone().unwrap();
                let admitted = Policy::default().admit(id, spec).unwrap();
                let pod = cluster::pod::render(&admitted, self.created_at, &self.settings);
                drop(self.pods.create(&PostParams::default(), &pod).await.unwrap());
            }
            What::Get => drop(self.pods.get(&name).await.unwrap()),
            What::Delete => {
                drop(self.pods.delete(&name, &DeleteParams::default()).await.unwrap());
            }
        }
        id.to_string()
    }
}
