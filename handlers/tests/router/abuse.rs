//! The rows of the abuse table about requests: refused by name, and nothing reaches the cluster.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::body::Body;
use http::Method;
use metrics_prometheus::Recorder;
use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};

use crate::rig::{Rig, request, rig};

/// Sends each body and expects 400 naming the field, without a call to the cluster.
async fn refused(field: &str, bodies: impl IntoIterator<Item = Value>) {
    let Rig { fake, server } = rig().await;
    for body in bodies {
        let answer = server.create(body.clone()).await;
        let (status, code, named) = answer.problem();
        let shown: String = body.to_string().chars().take(100).collect();
        assert_eq!((status, code.as_str()), (400, "invalid"), "{shown}");
        assert!(named.starts_with(field), "{named} names {field} in {shown}");
    }
    assert_eq!(fake.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn abuse_images() {
    let long = "a".repeat(500);
    let bad = ["", &long, "a b", "--flag", "http://a/b", "a\nb", "image@sha256:bad"];
    refused("image", bad.map(|image| json!({"image": image}))).await;
}

#[tokio::test]
async fn abuse_env_keys() {
    let bad = ["", "A=B", "A\0", "A B", "LOOM_WEAVER_ID", "LOOM_X"];
    refused("env", bad.map(|key| json!({"env": {key: "x"}}))).await;
    let Rig { fake: _fake, server } = rig().await;
    for key in ["lower", "LD_PRELOAD", "BASH_ENV", "GIT_SSH_COMMAND"] {
        assert_eq!(server.create(json!({"env": {key: "x"}})).await.status, 201, "{key}");
    }
}

#[tokio::test]
async fn abuse_env_sizes() {
    let many = |count: usize, size: usize| {
        let all = (0..count).map(|nth| (format!("K{nth}"), "x".repeat(size)));
        json!({"env": all.collect::<BTreeMap<_, _>>()})
    };
    refused("env", [many(1, 32 * 1024 + 1), many(9, 30 * 1024), many(1000, 1)]).await;
}

#[tokio::test]
async fn abuse_lifetimes() {
    let bad = [json!(0), json!(-1), json!(49), json!(1e9), json!("4"), json!(4.5)];
    refused("lifetime_hours", bad.map(|hours| json!({"lifetime_hours": hours}))).await;
}

#[tokio::test]
async fn abuse_repos() {
    let bad = [
        "ext::sh -c id",
        "file:///etc",
        "ssh://git@host/x",
        "--upload-pack=x",
        "https://user:pw@host/x",
        "https://host/x#--foo",
        "https://host/a b",
    ];
    refused("repo", bad.map(|repo| json!({"repo": repo}))).await;
    let branches = ["-x", "--", "a b", ""];
    let of = |branch| json!({"repo": "https://github.com/user/project", "branch": branch});
    refused("branch", branches.map(of)).await;
}

#[tokio::test]
async fn abuse_tags() {
    let long = "k".repeat(64);
    let bad = ["loom.dev/x", "kubernetes.io/x", "a,b!", "a in (b)", "", &long];
    refused("tags", bad.map(|key| json!({"tags": {key: "x"}}))).await;
    let bad = ["a,b!=c", &long, "a b", "\u{1b}[31m"];
    refused("tags", bad.map(|value| json!({"tags": {"k": value}}))).await;
}

#[tokio::test]
async fn abuse_filters_never_reach_a_selector() {
    let Rig { fake, server } = rig().await;
    let tag = format!("tag=k%3D{}", "v".repeat(64));
    let all = [
        "tag=a%3Db,b!%3Dc",
        "tag=loom.dev/org%3DO-x",
        &tag,
        "status=a,b!%3Dc",
        "owner=U-a,app!%3Dx",
        "limit=501",
        "labelSelector=app",
    ];
    for query in all {
        let answer = server.get(&format!("/api/weavers?{query}")).await;
        assert_eq!(answer.problem().0, 400, "{query}");
    }
    assert_eq!(fake.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn abuse_bodies() {
    let Rig { fake, server } = rig().await;
    let large = format!(r#"{{"image":"{}"}}"#, "a".repeat(10 * 1024 * 1024));
    let mut deep = r#"{"command":"#.to_owned();
    for _ in 0..10_000 {
        deep.write_char('[').unwrap();
    }
    for (body, status, field) in [
        (large.as_str(), 413, ""),
        (&deep, 400, "command"),
        (r#"{"image":"a","image":"b"}"#, 400, "image"),
        (r#"{"env":{"A":"1","A":"2"}}"#, 400, "env.A"),
        (r#"{"privileged":true}"#, 400, "privileged"),
        (r#"{"resources":{"gpu":1}}"#, 400, "resources.gpu"),
        (r#"{"resources":[1000,2048]}"#, 400, "resources"),
        (r#"{"terminal":["xterm",null,null]}"#, 400, "terminal"),
        (r#"{"terminal":{"shell":"zsh"}}"#, 400, "terminal.shell"),
        (r#"{"env":["A","1"]}"#, 400, "env"),
        ("", 400, ""),
        ("[]", 400, ""),
    ] {
        let answer = server.post_text("/api/weavers", body.to_owned()).await;
        let shown: String = body.chars().take(60).collect();
        let (got, _, named) = answer.problem();
        assert_eq!(got, status, "{shown}: {}", answer.text);
        assert!(named.starts_with(field), "{shown}: {named}");
    }
    assert_eq!(fake.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn abuse_a_large_body_without_a_length() {
    let Rig { fake: _fake, server } = rig().await;
    let piece = bytes::Bytes::from(vec![b' '; 64 * 1024]);
    let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
    let answer = server.post_text("/api/weavers", Body::from_stream(endless)).await;
    assert_eq!(answer.problem().0, 413);
}

#[tokio::test]
async fn abuse_content_types() {
    let Rig { fake, server } = rig().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"] {
        let request = request(Method::POST, "/api/weavers").header("content-type", kind);
        let answer = server.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(answer.problem().0, 415, "{kind}");
    }
    let bare = request(Method::POST, "/api/weavers").body(Body::from("{}")).unwrap();
    assert_eq!(server.send(bare).await.problem().0, 415);
    assert_eq!(fake.calls(), Vec::<String>::new());
    let right = request(Method::POST, "/api/weavers")
        .header("content-type", "application/json; charset=utf-8");
    assert_eq!(server.send(right.body(Body::from("{}")).unwrap()).await.status, 201);
}

#[tokio::test]
async fn abuse_local_server() {
    let Rig { fake, server } = rig().await;
    let ask = |headers: &[(&str, &str)], path: &str| {
        let mut request = http::Request::builder().method(Method::POST).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.header("content-type", "application/json").body(Body::from("{}")).unwrap()
    };
    let (host, token) = (("host", "127.0.0.1:8080"), ("authorization", "Bearer hush"));
    for path in ["/api/weavers", "/metrics", "/openapi.json"] {
        let evil = server.send(ask(&[("host", "evil.example"), token], path)).await;
        assert_eq!(evil.problem(), (403, "forbidden".into(), String::new()), "{path}");
        let page = server.send(ask(&[host, token, ("origin", "https://evil.example")], path)).await;
        assert_eq!(page.problem().0, 403, "{path}");
        let bare = server.send(ask(&[host], path)).await;
        assert_eq!(bare.problem(), (401, "unauthenticated".into(), String::new()), "{path}");
        assert_eq!(bare.headers["www-authenticate"], "Bearer");
        assert!(bare.text.contains("run `loom login` first"), "{}", bare.text);
        let wrong = server.send(ask(&[host, ("authorization", "Bearer x")], path)).await;
        assert_eq!(wrong.problem().0, 401, "{path}");
    }
    assert_eq!(fake.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn abuse_paths_and_methods() {
    let Rig { fake, server } = rig().await;
    for id in ["x", "W-", "api", "W-018e2b3c4d5e7f8a9b0c1d2e3f4a5b6c", "..", "%00", "-"] {
        let answer = server.get(&format!("/api/weavers/{id}")).await;
        assert_eq!(answer.problem().0, 404, "{id}");
    }
    assert_eq!(server.get("/nothing").await.problem().0, 404);
    let put = request(Method::PUT, "/api/weavers").body(Body::empty()).unwrap();
    assert_eq!(server.send(put).await.problem().0, 405);
    assert_eq!(fake.calls(), Vec::<String>::new());
}

/// The words of callers without a token must not become series that are kept for ever.
#[test]
fn abuse_methods_and_paths_are_no_metrics_of_their_own() {
    let recorder = Recorder::builder().with_registry(Registry::new()).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(ask_with_odd_methods()));
    let text = TextEncoder::new().encode_to_string(&recorder.registry().gather()).unwrap();
    assert!(!text.contains("ODD") && !text.contains("nothing-"), "{text}");
    let counted = |line: &&str| line.starts_with("loom_http_request_seconds_count");
    let counts: Vec<_> = text.lines().filter(counted).collect();
    assert_eq!(counts.len(), 1, "{text}");
    assert!(counts[0].contains("other") && counts[0].ends_with(" 20"), "{text}");
}

async fn ask_with_odd_methods() {
    let Rig { fake: _fake, server } = rig().await;
    for nth in 0..20 {
        for path in ["/api/weavers".to_owned(), format!("/nothing-{nth}")] {
            let method = Method::from_bytes(format!("ODD{nth}").as_bytes()).unwrap();
            let bare = http::Request::builder().method(method).uri(path);
            let bare = bare.header("host", "127.0.0.1:8080").body(Body::empty()).unwrap();
            assert!(matches!(server.send(bare).await.status.as_u16(), 401 | 404));
        }
    }
}
