//! `GET`, `DELETE` and `POST …/extend` of one weaver.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::rig::{Rig, pod_name, rig};

const UNKNOWN: &str = "/api/weavers/W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c";

#[tokio::test]
async fn a_running_weaver_is_as_the_documents_show_it() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    fake.store().run(&pod_name(&id));
    // Seen 2.3 hours after it was made.
    fake.skew(SignedDuration::from_mins(138));
    fake.calls();
    let shown = server.get(&format!("/api/weavers/{id}")).await.json();
    assert_eq!(fake.calls(), ["get pods"]);
    let fields =
        ["id", "status", "pod_name", "pod_phase", "pod_ip", "age_hours", "remaining_hours"];
    let shown: Vec<_> = fields.iter().map(|field| shown[*field].clone()).collect();
    let name = pod_name(&id);
    assert_eq!(Value::from(shown), json!([id, "Running", name, "Running", "10.244.1.5", 2.3, 1.7]));
}

#[tokio::test]
async fn deleting_is_idempotent() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    fake.calls();
    for calls in [2, 1] {
        let answer = server.delete(&format!("/api/weavers/{id}")).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NO_CONTENT, ""));
        assert_eq!(fake.calls().len(), calls);
    }
    assert!(fake.store().pods().is_empty());
    assert_eq!(server.delete(UNKNOWN).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(&format!("/api/weavers/{id}")).await.problem().1, "not_found");
}

#[tokio::test]
async fn extending_counts_from_creation() {
    let Rig { fake: _fake, server } = rig().await;
    let made = server.create(json!({})).await.json();
    let path = format!("/api/weavers/{}/extend", made["id"].as_str().unwrap());
    let longer = server.post(&path, &json!({"lifetime_hours": 48})).await.json();
    let created: Timestamp = made["created_at"].as_str().unwrap().parse().unwrap();
    let expires = created + SignedDuration::from_hours(48);
    assert_eq!(longer["expires_at"], expires.to_string());
    assert_eq!(longer["created_at"], made["created_at"]);
    let shown = server.get(path.strip_suffix("/extend").unwrap()).await.json();
    assert_eq!(
        (&shown["lifetime_hours"], &shown["expires_at"]),
        (&json!(48), &longer["expires_at"])
    );
}

#[tokio::test]
async fn extending_refuses_what_cannot_be() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    let path = format!("/api/weavers/{id}/extend");
    for body in [json!({"lifetime_hours": 0}), json!({"lifetime_hours": 49}), json!({})] {
        assert_eq!(server.post(&path, &body).await.problem().0, 400, "{body}");
    }
    let unknown = server.post(&path, &json!({"lifetime_hours": 5, "by": 1})).await.problem();
    assert_eq!(unknown.2, "by");
    fake.skew(SignedDuration::from_hours(3));
    let past = server.post(&path, &json!({"lifetime_hours": 2})).await.problem();
    assert_eq!(past, (400, "invalid".into(), "lifetime_hours".into()));
    let missing = server.post(&format!("{UNKNOWN}/extend"), &json!({"lifetime_hours": 5})).await;
    assert_eq!(missing.problem().0, 404);
}

#[tokio::test]
async fn abuse_clocks_deadlines_are_the_api_servers() {
    for minutes in [-5, 5] {
        let Rig { fake, server } = rig().await;
        let skew = SignedDuration::from_mins(minutes);
        fake.skew(skew);
        let made = server.create(json!({"lifetime_hours": 1})).await.json();
        let created: Timestamp = made["created_at"].as_str().unwrap().parse().unwrap();
        let there = service::clock::now() + skew;
        let off = there.duration_since(created).abs();
        assert!(off < SignedDuration::from_mins(1), "created {off} off the API server's clock");
    }
}
