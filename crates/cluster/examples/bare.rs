//! The floor of `bench/coldstart`: axum that passes one list of pods on, and nothing else.
//! Usage: bare KUBECONFIG ADDRESS
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

use std::path::Path;

use axum::routing::get;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;

const PODS: &str = "/api/v1/namespaces/loom-weavers/pods?labelSelector=app%3Dloom-weaver&limit=500";

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    service::install_crypto();
    let mut args = std::env::args().skip(1);
    let file = Kubeconfig::read_from(Path::new(&args.next().unwrap())).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let list = move || async move {
        client.request_text(http::Request::get(PODS).body(Vec::new()).unwrap()).await.unwrap()
    };
    let listener = TcpListener::bind(args.next().unwrap()).await.unwrap();
    axum::serve(listener, axum::Router::new().route("/pods", get(list))).await.unwrap();
}
