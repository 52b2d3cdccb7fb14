//! A cluster that is down, slow, rude or broken: 503 or 504 in time, and nothing left behind.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::fake::{Fake, Fault, nobody};
use crate::rig::{Rig, request, rig, server, until};

#[tokio::test]
async fn abuse_kubernetes_is_down() {
    let server = server(nobody().await, |_| {});
    for answer in [
        server.create(json!({})).await,
        server.get("/api/weavers").await,
        server.get("/api/weavers/W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c").await,
        server.delete("/api/weavers/W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c").await,
    ] {
        assert_eq!(answer.problem().0, 503, "{}", answer.text);
        assert!(!answer.text.contains("127.0.0.1"), "addresses are not told: {}", answer.text);
    }
}

#[tokio::test]
async fn abuse_kubernetes_is_slow() {
    let fake = Fake::start().await;
    let server = server(fake.impatient_cluster(Duration::from_millis(200)).await, |_| {});
    server.made().await;
    for verb in ["create", "list", "get"] {
        fake.fail(verb, Some(Fault::Hang));
    }
    assert_eq!(server.create(json!({})).await.problem().0, 504);
    assert_eq!(server.get("/api/weavers").await.problem().0, 504);
    assert_eq!(fake.store().pods().len(), 1);
}

#[tokio::test]
async fn abuse_the_request_has_a_deadline_of_its_own() {
    let fake = Fake::start().await;
    let server = server(fake.cluster().await, |api| api.request_deadline_secs = 0);
    fake.fail("list", Some(Fault::Hang));
    assert_eq!(server.get("/api/weavers").await.problem().0, 504);
}

#[tokio::test]
async fn abuse_kubernetes_refuses_to_create() {
    let Rig { fake, server } = rig().await;
    server.made().await;
    for (fault, status) in [
        (Fault::TooMany(7), 503),
        (Fault::Status(500, "InternalError", "etcdserver: no leader"), 503),
        (Fault::Status(503, "ServiceUnavailable", ""), 503),
        (Fault::Garbage, 503),
        (Fault::Cut, 503),
        (Fault::Status(403, "Forbidden", "exceeded quota: q, requested: pods=1"), 429),
        (Fault::Status(403, "Forbidden", "violates PodSecurity \"restricted\""), 403),
        (Fault::Status(404, "NotFound", "namespaces \"loom-weavers\" not found"), 503),
        (Fault::Status(422, "Invalid", "Pod is invalid: spec.x"), 400),
    ] {
        fake.fail("create", Some(fault.clone()));
        let answer = server.create(json!({})).await;
        assert_eq!(answer.problem().0, status, "{fault:?}: {}", answer.text);
        if matches!(fault, Fault::TooMany(_)) {
            assert_eq!(answer.headers["retry-after"], "7");
        }
        if status == 429 {
            assert!(answer.headers.contains_key("retry-after"));
            assert!(answer.text.contains("exceeded quota"), "{}", answer.text);
        }
    }
    assert_eq!(fake.store().pods().len(), 1);
}

#[tokio::test]
async fn abuse_a_create_whose_answer_is_lost_leaves_no_pod() {
    for fault in [Fault::DoneThenCut, Fault::DoneThenHang] {
        let fake = Fake::start().await;
        let server = server(fake.impatient_cluster(Duration::from_millis(300)).await, |_| {});
        fake.fail("create", Some(fault));
        let status = server.create(json!({})).await.problem().0;
        assert!(matches!(status, 503 | 504), "{status}");
        until("the pod is deleted", || fake.store().pods().is_empty()).await;
    }
}

#[tokio::test]
async fn abuse_a_create_whose_caller_leaves_leaves_no_pod() {
    let Rig { fake, server } = rig().await;
    fake.fail("create", Some(Fault::DoneThenHang));
    {
        let creating = server.create(json!({}));
        tokio::pin!(creating);
        tokio::select! {
            answer = &mut creating => panic!("{}", answer.text),
            () = until("the pod is made", || fake.store().pods().len() == 1) => {}
        }
    }
    until("the pod is deleted", || fake.store().pods().is_empty()).await;
}

#[tokio::test]
async fn a_create_with_a_key_is_found_again_after_its_answer_was_lost() {
    let Rig { fake, server } = rig().await;
    fake.fail("create", Some(Fault::DoneThenCut));
    assert_eq!(server.create_with_key("k", &json!({})).await.problem().0, 503);
    fake.fail("create", None);
    assert_eq!(server.create_with_key("k", &json!({})).await.status, StatusCode::CREATED);
    assert_eq!(fake.store().pods().len(), 1);
}

#[tokio::test]
async fn a_role_without_a_verb_is_named() {
    let Rig { fake, server } = rig().await;
    let words = "pods is forbidden: User \"x\" cannot list resource \"pods\"";
    fake.fail("list", Some(Fault::Status(403, "Forbidden", words)));
    let answer = server.get("/api/weavers").await;
    assert_eq!(answer.problem().0, 503);
    assert!(answer.text.contains("list pods in namespace loom-weavers"), "{}", answer.text);
}

#[tokio::test]
async fn readiness_follows_the_namespace() {
    let Rig { fake, server } = rig().await;
    let words = "namespaces \"loom-weavers\" not found";
    fake.fail("get", Some(Fault::Status(404, "NotFound", words)));
    let watching = handlers::watch_namespace(fake.cluster().await, server.health.clone());
    let _task = service::Task::spawn(watching);
    until("it is noticed", || !server.health.is_ready()).await;
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.json()["waiting"]["namespace"].as_str().unwrap().contains("does not exist"));
    assert_eq!(server.get("/healthz").await.status, StatusCode::OK);
    fake.fail("get", None);
    until("it is there", || server.health.is_ready()).await;
}

#[tokio::test]
async fn health_needs_no_token() {
    let Rig { fake: _fake, server } = rig().await;
    for path in ["/healthz", "/readyz"] {
        let bare = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        assert_eq!(server.send(bare).await.status, StatusCode::OK, "{path}");
    }
    let shown = request(http::Method::GET, "/openapi.json");
    let document = server.send(shown.body(axum::body::Body::empty()).unwrap()).await.json();
    assert!(document["paths"]["/api/weavers/{id}/extend"]["post"].is_object());
    assert!(document["components"]["schemas"]["WeaverView"].is_object());
}
