//! `GET /api/weavers`: all of them, pages, filters, and what is no weaver.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fake::Fault;
use crate::rig::{Rig, pod_name, request, rig};

fn ids(list: &Value) -> Vec<String> {
    let all = list["weavers"].as_array().unwrap().iter();
    all.map(|weaver| weaver["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_empty_list_is_a_list() {
    let Rig { fake: _fake, server } = rig().await;
    assert_eq!(server.get("/api/weavers").await.text, r#"{"weavers":[],"next":null}"#);
}

#[tokio::test]
async fn pages_hold_each_weaver_once() {
    let Rig { fake, server } = rig().await;
    let mut made = BTreeSet::new();
    for _ in 0..5 {
        made.insert(server.made().await);
    }
    let all = server.get("/api/weavers").await.json();
    assert_eq!(ids(&all).into_iter().collect::<BTreeSet<_>>(), made);
    assert_eq!(all["next"], Value::Null);
    fake.calls();
    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), String::new(), 0);
    loop {
        let page = server.get(&format!("/api/weavers?limit=2{cursor}")).await.json();
        seen.extend(ids(&page));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((seen, pages), (made, 3));
    assert_eq!(fake.calls(), ["list pods"; 3]);
}

#[tokio::test]
async fn long_lists_are_streamed_page_by_page() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    let sample = fake.store().pods()[0].clone();
    for nth in 0..1100 {
        let mut pod = sample.clone();
        let other = format!("W-018e2b3c-4d5e-7f8a-9b0c-{nth:012}");
        pod["metadata"]["name"] = json!(pod_name(&other));
        pod["metadata"]["uid"] = json!(other);
        pod["metadata"]["labels"]["weaver-id"] = json!(other);
        fake.store().plant(pod);
    }
    fake.fail_once("list continued", Fault::Status(410, "Expired", "too old"));
    fake.calls();
    let all = ids(&server.get("/api/weavers").await.json());
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 1101);
    assert_eq!(all.len(), 1101);
    assert!(all.contains(&id));
    assert_eq!(fake.calls(), ["list pods"; 5], "the second page is lost, and all three follow");
}

#[tokio::test]
async fn filters_narrow() {
    let Rig { fake, server } = rig().await;
    let web = server.create(json!({"tags": {"team": "web"}})).await.json()["id"].clone();
    let other = server.made().await;
    fake.store().run(&pod_name(&other));
    let of = async |query: &str| ids(&server.get(&format!("/api/weavers?{query}")).await.json());
    assert_eq!(of("tag=team%3Dweb").await, [web.as_str().unwrap()]);
    assert_eq!(of("tag=team%3Dapi").await, Vec::<String>::new());
    assert_eq!(of("status=Running").await, [other.as_str()]);
    assert_eq!(of("status=running&status=Pending").await.len(), 2);
    assert_eq!(of("owner=U-local").await.len(), 2);
    assert_eq!(of("owner=U-other").await, Vec::<String>::new());
}

#[tokio::test]
async fn another_organizations_weavers_are_not_there() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    fake.store().edit(&pod_name(&id), |pod| {
        pod["metadata"]["labels"]["loom.dev/org"] = json!("O-other");
    });
    let unknown = "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c";
    assert_eq!(ids(&server.get("/api/weavers").await.json()), Vec::<String>::new());
    for rest in ["", "/logs", "/events"] {
        fake.calls();
        let foreign = server.get(&format!("/api/weavers/{id}{rest}")).await;
        let foreign_calls = fake.calls();
        let missing = server.get(&format!("/api/weavers/{unknown}{rest}")).await;
        assert_eq!((foreign.status.as_u16(), &foreign.text), (404, &missing.text), "{rest}");
        assert_eq!(foreign.headers, missing.headers, "{rest}");
        assert_eq!(foreign_calls, fake.calls(), "{rest}");
    }
    let body = json!({"lifetime_hours": 8});
    let foreign = server.post(&format!("/api/weavers/{id}/extend"), &body).await;
    let missing = server.post(&format!("/api/weavers/{unknown}/extend"), &body).await;
    assert_eq!((foreign.status.as_u16(), &foreign.text), (404, &missing.text));
    fake.calls();
    let foreign = server.delete(&format!("/api/weavers/{id}")).await;
    assert_eq!((foreign.status.as_u16(), fake.calls()), (204, vec!["get pods".to_owned()]));
    assert_eq!(fake.store().pods().len(), 1, "nothing is done to it");
}

#[tokio::test]
async fn abuse_what_is_no_weaver_is_left_out() {
    let Rig { fake, server } = rig().await;
    let good = server.made().await;
    let (broken, newer) = (server.made().await, server.made().await);
    fake.store().edit(&pod_name(&broken), |pod| {
        pod["metadata"]["annotations"]["loom.dev/expires-at"] = json!("tomorrow");
    });
    fake.store().edit(&pod_name(&newer), |pod| {
        let text = pod["metadata"]["annotations"]["loom.dev/spec"].as_str().unwrap();
        let mut spec: Value = serde_json::from_str(text).unwrap();
        spec["version"] = json!(99);
        pod["metadata"]["annotations"]["loom.dev/spec"] = json!(spec.to_string());
    });
    fake.store().plant(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "stranger", "uid": "s", "labels": {"app": "loom-weaver"}},
        "spec": {"containers": []}}));
    let listed = server.get("/api/weavers").await.json();
    assert_eq!(ids(&listed), [good.as_str()]);
    for id in [broken, newer] {
        assert_eq!(server.get(&format!("/api/weavers/{id}")).await.problem().0, 404);
    }
    assert_eq!(fake.store().pods().len(), 4);
}

#[tokio::test]
async fn an_old_cursor_is_gone() {
    let Rig { fake, server } = rig().await;
    server.made().await;
    fake.fail(
        "list",
        Some(Fault::Status(410, "Expired", "The provided continue parameter is too old")),
    );
    let answer = server.get("/api/weavers?limit=1&cursor=x").await;
    assert_eq!(answer.problem().1, "cursor_expired");
}

#[tokio::test]
async fn a_list_that_fails_in_the_middle_is_no_whole_list() {
    let Rig { fake, server } = rig().await;
    server.made().await;
    let sample = fake.store().pods()[0].clone();
    for nth in 0..600 {
        let mut pod = sample.clone();
        let other = format!("W-018e2b3c-4d5e-7f8a-9b0c-{nth:012}");
        pod["metadata"]["name"] = json!(pod_name(&other));
        pod["metadata"]["labels"]["weaver-id"] = json!(other);
        fake.store().plant(pod);
    }
    fake.fail_once("list continued", Fault::Status(500, "InternalError", "no leader"));
    let asked = request(http::Method::GET, "/api/weavers").body(Body::empty()).unwrap();
    let answer = server.router.clone().oneshot(asked).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(axum::body::to_bytes(answer.into_body(), usize::MAX).await.is_err());
}
