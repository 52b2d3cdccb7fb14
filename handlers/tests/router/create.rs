//! `POST /api/weavers`: the documents' JSON, keys and names.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::rig::{Rig, pod_name, rig, server};

fn documents() -> Value {
    serde_json::from_str(
        r#"{
            "image": "ghcr.io/ghuntley/loom/weaver:latest",
            "org_id": "O-local",
            "env": {
                "NODE_ENV": "production"
            },
            "repo": "https://github.com/user/project",
            "branch": "main",
            "lifetime_hours": 4
        }"#,
    )
    .unwrap()
}

#[tokio::test]
async fn the_documents_request_makes_the_documents_pod() {
    let Rig { fake, server } = rig().await;
    let answer = server.create(documents()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let made = answer.json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["status"], "Pending");
    assert_eq!(made["image"], "ghcr.io/ghuntley/loom/weaver:latest");
    assert_eq!(made["lifetime_hours"], 4);
    let time = |name: &str| made[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(time("expires_at"), time("created_at") + SignedDuration::from_hours(4));
    assert_eq!(made["attach_url"], format!("ws://127.0.0.1:8080/api/weavers/{id}/attach"));
    assert_eq!(answer.headers["location"], format!("/api/weavers/{id}"));
    assert_eq!((&made["pod_ip"], &made["age_hours"]), (&Value::Null, &json!(0.0)));
    let pod = &fake.store().pods()[0];
    assert_eq!(pod["metadata"]["name"], pod_name(id));
    assert_eq!(pod["metadata"]["labels"]["app"], "loom-weaver");
    assert_eq!(pod["metadata"]["labels"]["weaver-id"], id);
    assert_eq!(uuid::Uuid::parse_str(&id[2..]).unwrap().get_version_num(), 7);
}

#[tokio::test]
async fn everything_is_optional_and_costs_one_create() {
    let Rig { fake, server } = rig().await;
    let made = server.create(json!({})).await.json();
    assert_eq!(made["image"], "ghcr.io/ghuntley/loom/weaver:latest");
    assert_eq!((&made["org_id"], &made["owner"]), (&json!("O-local"), &json!("U-local")));
    assert_eq!(made["resources"], json!({"cpu_millicores": 2000, "memory_mb": 2048}));
    fake.calls();
    server.create(json!({})).await;
    assert_eq!(fake.calls(), ["create pods"]);
}

#[tokio::test]
async fn what_was_asked_for_is_shown() {
    let Rig { fake: _fake, server } = rig().await;
    let asked = json!({"name": "api", "command": ["sh"], "args": ["-c", "exit 7"], "tty": false,
        "workdir": "/srv", "tags": {"team": "web"}, "resources": {"cpu_millicores": 1000}});
    let made = server.create(asked).await.json();
    assert_eq!(made["name"], "api");
    assert_eq!(made["command"], json!(["sh", "-c", "exit 7"]));
    assert_eq!((&made["workdir"], &made["tty"]), (&json!("/srv"), &json!(false)));
    assert_eq!(made["tags"], json!({"team": "web"}));
    assert_eq!(made["resources"], json!({"cpu_millicores": 1000, "memory_mb": 2048}));
    let alone = server.create(json!({"args": ["x"]})).await;
    assert_eq!(alone.problem(), (400, "invalid".into(), "args".into()));
}

#[tokio::test]
async fn the_relay_may_be_elsewhere() {
    let fake = crate::fake::Fake::start().await;
    let relay = "wss://relay.example/loom/".parse().unwrap();
    let server = server(fake.cluster().await, |api| api.relay_url = Some(relay));
    let made = server.create(json!({})).await.json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["attach_url"], format!("wss://relay.example/loom/api/weavers/{id}/attach"));
}

#[tokio::test]
async fn another_organization_is_forbidden() {
    let Rig { fake, server } = rig().await;
    assert_eq!(server.create(json!({"org_id": "O-other"})).await.problem().0, 403);
    let wrong = server.create(json!({"org_id": "other"})).await.problem();
    assert_eq!(wrong, (400, "invalid".into(), "org_id".into()));
    assert!(fake.store().pods().is_empty());
}

#[tokio::test]
async fn root_and_ports_are_for_servers_that_allow_them() {
    let Rig { fake, server } = rig().await;
    let refused = server.create(json!({"root": true})).await.problem();
    assert_eq!((refused.0, refused.1.as_str()), (403, "root_not_allowed"));
    let ports = json!({"ports": [{"host": 8080, "container": 80}]});
    let refused = server.create(ports).await.problem();
    assert_eq!((refused.0, refused.1.as_str()), (403, "publish_not_allowed"));
    let wrong = json!({"ports": [{"host": 0, "container": 80}]});
    assert_eq!(server.create(wrong).await.problem(), (400, "invalid".into(), "ports".into()));
    assert!(fake.store().pods().is_empty());
    assert_eq!(server.create(json!({"root": false})).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn an_images_own_program_is_kept_with_arguments() {
    let Rig { fake, server } = rig().await;
    let refused = async |more: (&str, serde_json::Value)| {
        let mut body = json!({"keep_entrypoint": true});
        body[more.0] = more.1;
        server.create(body).await.problem()
    };
    let field = |name: &str| (400, "invalid".to_owned(), name.to_owned());
    assert_eq!(refused(("command", json!(["sh"]))).await, field("command"));
    assert_eq!(refused(("repo", json!("https://example.com/a/b"))).await, field("repo"));
    assert!(fake.store().pods().is_empty());
    let made = server.create(json!({"keep_entrypoint": true, "args": ["-v", ""]})).await.json();
    assert_eq!((&made["command"], &made["args"]), (&json!([]), &json!(["-v", ""])));
    assert_eq!(made["keep_entrypoint"], true);
    let container = &fake.store().pods()[0]["spec"]["containers"][0];
    assert_eq!((&container["args"], &container["tty"]), (&json!(["-v", ""]), &json!(true)));

    let strict = crate::rig::server(fake.cluster().await, |api| {
        api.weaver_allow_keep_entrypoint = false;
    });
    let refused = strict.create(json!({"keep_entrypoint": true})).await.problem();
    assert_eq!((refused.0, refused.1.as_str()), (403, "keep_entrypoint_not_allowed"));
}

#[tokio::test]
async fn a_key_finds_its_weaver_again() {
    let Rig { fake, server } = rig().await;
    let first = server.create_with_key("k", &documents()).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let again = server.create_with_key("k", &documents()).await;
    assert_eq!((again.status, &again.json()["id"]), (StatusCode::CREATED, &first.json()["id"]));
    let other = server.create_with_key("k", &json!({})).await;
    assert_eq!(other.problem().1, "idempotency_key_reused");
    assert_eq!(server.create_with_key("", &json!({})).await.problem().2, "Idempotency-Key");
    assert_eq!(fake.store().pods().len(), 1);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&id[2..]).unwrap().get_version_num(), 8);
}

#[tokio::test]
async fn a_key_finds_its_weaver_after_it_was_extended() {
    let Rig { fake, server } = rig().await;
    let first = server.create_with_key("k", &documents()).await.json();
    let extend = format!("/api/weavers/{}/extend", first["id"].as_str().unwrap());
    for hours in [8, 6, 4, 9] {
        let extended = server.post(&extend, &json!({"lifetime_hours": hours})).await;
        assert_eq!(extended.status, StatusCode::OK, "{}", extended.text);
        let again = server.create_with_key("k", &documents()).await;
        assert_eq!(again.status, StatusCode::CREATED, "{}", again.text);
        let again = again.json();
        assert_eq!((&again["id"], &again["lifetime_hours"]), (&first["id"], &json!(hours)));
    }
    let mut other = documents();
    other["lifetime_hours"] = json!(9);
    let other = server.create_with_key("k", &other).await;
    assert_eq!(other.problem().1, "idempotency_key_reused");
    assert_eq!(fake.store().pods().len(), 1);
}

#[tokio::test]
async fn one_key_at_once_is_one_weaver() {
    let Rig { fake, server } = rig().await;
    let body = json!({"name": "api"});
    let all = (0..100).map(|_| server.create_with_key("k", &body));
    let answers = futures::future::join_all(all).await;
    let id = answers[0].json()["id"].clone();
    for answer in &answers {
        assert_eq!((answer.status, &answer.json()["id"]), (StatusCode::CREATED, &id));
    }
    assert_eq!(fake.store().pods().len(), 1);
}

#[tokio::test]
async fn a_name_is_its_owners_once() {
    let Rig { fake, server } = rig().await;
    let named = json!({"name": "api"});
    let first = server.create(named.clone()).await.json();
    let second = server.create(named.clone()).await;
    assert_eq!(second.problem(), (409, "conflict".into(), "name".into()));
    assert!(second.text.contains(first["id"].as_str().unwrap()), "{}", second.text);
    assert_eq!(fake.store().pods().len(), 1);
    server.delete(&format!("/api/weavers/{}", first["id"].as_str().unwrap())).await;
    assert_eq!(server.create(named).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_name_taken_at_once_is_one_weaver() {
    for (many, keyed) in [(2, false), (20, false), (2, true), (20, true)] {
        let Rig { fake, server } = rig().await;
        let body = json!({"name": "api"});
        let all = (0..many).map(async |nth| match keyed {
            true => server.create_with_key(&format!("key-{nth}"), &body).await,
            false => server.create(body.clone()).await,
        });
        let answers = futures::future::join_all(all).await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(made, 1, "of {many}, keyed: {keyed}");
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            assert_eq!(answer.problem(), (409, "conflict".into(), "name".into()));
        }
        server.app.cleaned().await;
        assert_eq!(fake.store().pods().len(), 1);
    }
}
