//! An API server that is down, slow, overloaded, broken or wrong about the time: what comes of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fake;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use axum::http::StatusCode;
use cluster::{Change, Cluster, Deletion, Error, Query, Settings};
use fake::{Answer, Fake, admitted, list_of, pod, with_meta};
use futures::StreamExt;
use metrics_prometheus::Recorder;
use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};
use weaver::{Ttl, Weaver};

const DATE: &str = "Sat, 03 Mar 2001 10:00:00 GMT";

/// Answers /version, so that the time is known, and everything else by `answer`.
async fn fake(answer: impl Fn(&fake::Asked) -> Answer + Send + Sync + 'static) -> (Fake, Cluster) {
    let fake = Fake::start(move |asked| match asked.path.as_str() {
        "/version" => Answer::json(
            StatusCode::OK,
            &json!({"major": "1", "minor": "36",
            "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": ""}),
        ),
        _ => answer(asked),
    })
    .await;
    let cluster = fake.cluster(settings()).await;
    (fake, cluster)
}

fn settings() -> Settings {
    Settings {
        tools_image: Some("loom.test/tools:1".to_owned()),
        tools_mount: cluster::ToolsMount::Image,
        deadline: Duration::from_millis(500),
        watch_span: Duration::from_secs(1),
        ..Settings::default()
    }
}

/// Makes a weaver where the API server answers so, and returns the error's word and how often it
/// was asked to.
async fn create_gets(answer: Answer) -> (&'static str, usize) {
    let (fake, cluster) = fake(move |_| answer.clone()).await;
    let error = cluster.create(&admitted()).await.expect_err("the answer is bad");
    (error.code(), fake.asked("POST").len())
}

#[tokio::test]
async fn abuse_create_when_kubernetes_is_down() {
    let cluster = fake::nobody(settings()).await;
    let error = cluster.create(&admitted()).await.expect_err("nobody is there");
    assert_eq!(error.code(), "cluster_unavailable", "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn abuse_create_when_kubernetes_is_slow() {
    assert_eq!(create_gets(Answer::Never).await, ("cluster_timeout", 1));
    assert_eq!(create_gets(Answer::HeadersOnly).await, ("cluster_timeout", 1));
}

#[tokio::test]
async fn abuse_create_when_kubernetes_answers_badly() {
    let garbage = || b"<html>\xff nothing of use".to_vec();
    for (answer, code) in [
        (Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "oh no"), "cluster_unavailable"),
        (Answer::text(StatusCode::SERVICE_UNAVAILABLE, ""), "cluster_unavailable"),
        (Answer::Bytes(StatusCode::OK, garbage()), "cluster_unavailable"),
        (Answer::Bytes(StatusCode::BAD_GATEWAY, garbage()), "cluster_unavailable"),
        (Answer::Bytes(StatusCode::OK, b"{}".to_vec()), "unreadable"),
        (Answer::CutBody, "cluster_unavailable"),
        (Answer::text(StatusCode::TOO_MANY_REQUESTS, "slow down"), "cluster_overloaded"),
    ] {
        let shown = format!("{answer:?}");
        assert_eq!(create_gets(answer).await, (code, 1), "{shown}");
    }
}

#[tokio::test]
async fn abuse_create_when_kubernetes_asks_to_wait() {
    let (fake, cluster) = fake(|_| Answer::RetryAfter(7)).await;
    let error = cluster.create(&admitted()).await.expect_err("it is overloaded");
    assert!(
        matches!(error, Error::TooMany { retry_after } if retry_after == Duration::from_secs(7)),
        "{error}"
    );
    assert_eq!(fake.asked("POST").len(), 1);
}

#[tokio::test]
async fn abuse_clocks_the_api_servers_time_is_written() {
    let (fake, cluster) = fake(|asked| Answer::json(StatusCode::CREATED, &asked.body)).await;
    let now = cluster.now().await.unwrap();
    let made = cluster.create(&admitted()).await.unwrap();
    let lag = made.weaver.created_at.duration_since("2001-03-03T10:00:00Z".parse().unwrap());
    assert!(!lag.is_negative() && lag.as_secs() < 60, "{}", made.weaver.created_at);
    assert!(now <= made.weaver.created_at + jiff::SignedDuration::from_secs(1));
    assert_eq!(made.weaver.expires_at(), Ttl::default().end(made.weaver.created_at));
    let asked = fake.asked("");
    let calls: Vec<_> =
        asked.iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    assert_eq!(calls, ["GET /version", "POST /api/v1/namespaces/loom-weavers/pods"]);
    assert_eq!(
        asked[1].body["metadata"]["annotations"]["loom.dev/created-at"],
        made.weaver.created_at.to_string()
    );
}

#[tokio::test]
async fn auto_asks_once_whether_image_volumes_are_to_be_had() {
    for (drops, calls) in [(false, 3), (true, 3)] {
        let (fake, _) = fake(move |asked| {
            let mut pod = asked.body.clone();
            if drops {
                pod["spec"]["volumes"][0].as_object_mut().unwrap().remove("image");
            }
            Answer::json(StatusCode::CREATED, &pod)
        })
        .await;
        let auto = Settings { tools_mount: cluster::ToolsMount::Auto, ..settings() };
        let cluster = fake.cluster(auto).await;
        cluster.create(&admitted()).await.unwrap();
        cluster.create(&admitted()).await.unwrap();
        let posts = fake.asked("POST");
        assert_eq!(posts.len(), calls);
        assert!(posts[0].query.contains("dryRun=All") && !posts[1].query.contains("dryRun"));
        for made in &posts[1..] {
            assert_eq!(made.body["spec"].get("initContainers").is_some(), drops);
        }
    }
}

#[tokio::test]
async fn a_second_pod_of_one_id_is_told_apart() {
    let (_fake, cluster) = fake(|_| Answer::status(409, "AlreadyExists", "already exists")).await;
    let error = cluster.create(&admitted()).await.expect_err("it exists");
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
}

#[tokio::test]
async fn get_and_list_are_one_call() {
    let (fake, cluster) = fake(|asked| match asked.path.contains("/pods/") {
        true => Answer::json(StatusCode::OK, &pod(1)),
        false => Answer::json(StatusCode::OK, &list_of(&[pod(1), pod(2)], "7", Some("more"))),
    })
    .await;
    assert_eq!(cluster.get(Weaver::sample().id).await.unwrap().unwrap().pod.uid, "uid-1");
    let query = Query { org: Some("O-123".parse().unwrap()), limit: Some(2), ..Query::default() };
    let page = cluster.list(&query).await.unwrap();
    assert_eq!((page.found.len(), page.next.as_deref()), (2, Some("more")));
    let asked = fake.asked("GET");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].query, "&labelSelector=app%3Dloom-weaver%2Cloom.dev%2Forg%3DO-123&limit=2");
}

#[tokio::test]
async fn a_cursor_that_is_too_old_is_told() {
    let (_fake, cluster) = fake(|_| Answer::status(410, "Expired", "too old")).await;
    let query = Query { cursor: Some("x&labelSelector=".to_owned()), ..Query::default() };
    let error = cluster.list(&query).await.expect_err("it is too old");
    assert!(matches!(error, Error::CursorExpired), "{error}");
}

#[test]
fn abuse_foreign_and_newer_pods_are_left_out_with_one_warning_and_a_metric() {
    let recorder = Recorder::builder().with_registry(Registry::new()).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(lists_with_foreign_pods()));
    let text = TextEncoder::new().encode_to_string(&recorder.registry().gather()).unwrap();
    for reason in ["foreign", "broken", "newer"] {
        let line = format!("loom_cluster_unreadable_pods_total{{reason=\"{reason}\"}} 1");
        assert!(text.contains(&line), "{text}");
    }
}

async fn lists_with_foreign_pods() {
    let foreign = with_meta(2, |meta| meta["labels"]["weaver-id"] = Value::Null);
    let broken = with_meta(3, |meta| meta["annotations"]["loom.dev/expires-at"] = json!("soon"));
    let newer = with_meta(4, |meta| {
        meta["annotations"]["loom.dev/spec"] = json!("{\"version\":99}");
    });
    let all = list_of(&[foreign, pod(1), broken, newer], "7", None);
    let (_fake, cluster) = fake(move |_| Answer::json(StatusCode::OK, &all)).await;
    for _ in 0..3 {
        let page = cluster.list(&Query::default()).await.unwrap();
        let names: Vec<_> = page.skipped.iter().map(|skipped| skipped.uid.as_str()).collect();
        assert_eq!(names, ["uid-2", "uid-3", "uid-4"]);
        assert_eq!(page.found.len(), 1);
    }
}

#[tokio::test]
async fn deletion_carries_its_guard() {
    for (answer, expected) in [
        (Answer::json(StatusCode::OK, &pod(1)), Deletion::Deleted),
        (Answer::status(404, "NotFound", "not found"), Deletion::Gone),
        (Answer::status(409, "Conflict", "the UID in the precondition"), Deletion::Changed),
    ] {
        let (fake, cluster) = fake(move |asked| match asked.method.as_str() {
            "GET" => Answer::json(StatusCode::OK, &pod(1)),
            _ => answer.clone(),
        })
        .await;
        let found = cluster.get(Weaver::sample().id).await.unwrap().unwrap();
        assert_eq!(cluster.delete(found.weaver.id, &found.guard()).await.unwrap(), expected);
        let guard = &fake.asked("DELETE")[0].body["preconditions"];
        assert_eq!(guard, &json!({"uid": "uid-1", "resourceVersion": "1"}));
    }
}

#[tokio::test]
async fn an_extension_that_comes_too_late_loses() {
    let (fake, cluster) = fake(|asked| match asked.method.as_str() {
        "GET" => Answer::json(StatusCode::OK, &pod(1)),
        _ => Answer::status(409, "Conflict", "the object has been modified"),
    })
    .await;
    let mut found = cluster.get(Weaver::sample().id).await.unwrap().unwrap();
    let day = Ttl::from_hours(24).unwrap();
    let error = cluster.extend(&found, day).await.expect_err("it has changed");
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    let meta = &fake.asked("PATCH")[0].body["metadata"];
    assert_eq!((&meta["resourceVersion"], &meta["uid"]), (&json!("1"), &json!("uid-1")));
    assert_eq!(meta["annotations"]["loom.dev/expires-at"], "2025-03-04T10:00:00Z");
    let spec = meta["annotations"]["loom.dev/spec"].as_str().unwrap();
    let spec: Value = serde_json::from_str(spec).unwrap();
    assert_eq!((&spec["lifetime_hours"], &spec["asked_hours"]), (&json!(24), &json!(4)));
    found.pod.deleting = true;
    let error = cluster.extend(&found, day).await.expect_err("it is going");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(fake.asked("PATCH").len(), 1);
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

#[tokio::test]
async fn a_watch_resumes_and_starts_anew_after_410() {
    let watches = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = watches.clone();
    let (fake, cluster) = fake(move |asked| {
        if !asked.query.contains("watch=true") {
            return Answer::json(StatusCode::OK, &list_of(&[pod(1)], "10", None));
        }
        let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
            "message": "too old resource version"});
        let bookmark = json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"resourceVersion": "12", "creationTimestamp": null}});
        match count.fetch_add(1, SeqCst) {
            0 => Answer::Stream(event("MODIFIED", &pod(11)) + &event("BOOKMARK", &bookmark), true),
            1 => Answer::Stream(event("ERROR", &gone), true),
            _ => Answer::Stream(event("DELETED", &pod(13)), false),
        }
    })
    .await;
    let mut changes = std::pin::pin!(cluster.watch(&Query::default()));
    let mut next = async || changes.next().await.unwrap().unwrap();
    assert!(matches!(next().await, Change::All(found) if found.len() == 1));
    assert!(matches!(next().await, Change::Set(found) if found.pod.resource_version == "11"));
    assert!(matches!(next().await, Change::All(found) if found.len() == 1));
    assert_eq!(next().await, Change::Gone(Weaver::sample().id));
    assert_eq!(fake.versions(), ["10", "12", "10"]);
}

#[tokio::test]
async fn a_list_whose_cursor_expires_midway_starts_again_without_a_duplicate() {
    let (fake, cluster) = fake(|asked| match asked.nth {
        0 => Answer::json(StatusCode::OK, &list_of(&[pod(1)], "10", Some("more"))),
        1 => Answer::status(410, "Expired", "the continue token is too old"),
        _ => Answer::json(StatusCode::OK, &list_of(&[pod(1)], "12", None)),
    })
    .await;
    let mut changes = std::pin::pin!(cluster.watch(&Query::default()));
    let first = changes.next().await.unwrap().unwrap();
    assert!(matches!(first, Change::All(found) if found.len() == 1));
    assert_eq!(fake.asked("GET").len(), 3);
}

#[tokio::test]
async fn a_watch_that_silently_stops_is_noticed() {
    let (fake, cluster) = fake(|asked| {
        if !asked.query.contains("watch=true") {
            return Answer::json(StatusCode::OK, &list_of(&[], "10", None));
        }
        match asked.nth_watch {
            0 => Answer::Stream(String::new(), false),
            _ => Answer::Stream(event("ADDED", &pod(11)), false),
        }
    })
    .await;
    let mut changes = std::pin::pin!(cluster.watch(&Query::default()));
    assert_eq!(changes.next().await.unwrap().unwrap(), Change::All(Vec::new()));
    assert!(matches!(changes.next().await.unwrap().unwrap(), Change::Set(_)));
    assert_eq!(fake.versions(), ["10", "10"]);
}

#[tokio::test]
async fn a_watch_reports_trouble_and_goes_on() {
    let (_fake, cluster) = fake(|asked| match asked.nth {
        0 => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "oh no"),
        1 => Answer::CutBody,
        _ => Answer::json(StatusCode::OK, &list_of(&[pod(1)], "10", None)),
    })
    .await;
    let mut changes = std::pin::pin!(cluster.watch_one(Weaver::sample().id));
    assert_eq!(changes.next().await.unwrap().unwrap_err().code(), "cluster_unavailable");
    assert_eq!(changes.next().await.unwrap().unwrap_err().code(), "cluster_unavailable");
    assert!(changes.next().await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn a_namespace_that_is_missing_or_going_is_named() {
    let missing = r#"namespaces "loom-weavers" not found"#;
    let going = json!({"kind": "Namespace", "apiVersion": "v1",
        "metadata": {"name": "loom-weavers"}, "status": {"phase": "Terminating"}});
    let rbac = r#"namespaces "loom-weavers" is forbidden: User "x" cannot get resource"#;
    for (answer, words) in [
        (Answer::status(404, "NotFound", missing), "namespace loom-weavers does not exist"),
        (Answer::json(StatusCode::OK, &going), "namespace loom-weavers is being deleted"),
        (Answer::status(403, "Forbidden", rbac), "get namespaces in namespace loom-weavers"),
    ] {
        let (_fake, cluster) = fake(move |_| answer.clone()).await;
        let error = cluster.validate_namespace().await.expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn without_a_cluster_it_is_said_what_to_do() {
    let path = std::path::Path::new("/nonexistent/kubeconfig");
    let error = Cluster::connect(Some(path), settings()).await.err().expect("no such file");
    assert_eq!(error.code(), "cluster_config");
    assert!(error.to_string().contains("/nonexistent/kubeconfig"), "{error}");
}
