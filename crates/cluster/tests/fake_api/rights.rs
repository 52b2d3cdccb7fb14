//! Which rights a service lacks, as an authorizer of any kind tells it.

use std::num::NonZeroU16;

use axum::http::StatusCode;
use cluster::Settings;
use cluster::rights::Service;
use serde_json::{Value, json};

use super::{fake, settings};
use crate::fake::{Answer, Fake};

fn rules(verbs: &[&str], incomplete: bool) -> Answer {
    let status = json!({"incomplete": incomplete, "nonResourceRules": [], "resourceRules": [
        {"verbs": verbs, "apiGroups": [""], "resources": ["*"]}]});
    Answer::json(StatusCode::CREATED, &json!({"metadata": {}, "spec": {}, "status": status}))
}

fn allowed(allowed: bool) -> Answer {
    let status = json!({"allowed": allowed});
    Answer::json(StatusCode::CREATED, &json!({"metadata": {}, "spec": {}, "status": status}))
}

const ALL: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

#[tokio::test]
async fn one_call_tells_that_nothing_is_missing() {
    let (fake, cluster) = fake(|_| rules(&ALL, false)).await;
    for service in Service::ALL {
        assert_eq!(cluster.missing_rights(service).await.unwrap(), [], "{}", service.name());
    }
    assert_eq!(fake.asked("POST").len(), Service::ALL.len());
}

#[tokio::test]
async fn what_the_rules_do_not_show_is_asked_for() {
    let (fake, cluster) = fake(|asked| match asked.path.ends_with("rulesreviews") {
        true => rules(&["get", "list", "watch"], true),
        false => allowed(asked.body["spec"]["resourceAttributes"]["verb"] != "patch"),
    })
    .await;
    let missing = cluster.missing_rights(Service::Handlers).await.unwrap();
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["patch pods in namespace loom-weavers"]);
    let asked = fake.asked("POST");
    let verbs: Vec<&Value> = asked
        .iter()
        .skip(1)
        .map(|asked| &asked.body["spec"]["resourceAttributes"]["verb"])
        .collect();
    assert_eq!(verbs, ["create", "patch", "delete"]);
}

#[tokio::test]
async fn every_namespace_of_weavers_is_asked_about() {
    let fake = Fake::start(|asked| match &asked.body["spec"]["namespace"] {
        namespace if namespace == "loom-weavers-0" => rules(&ALL, false),
        namespace if namespace == "loom-weavers-1" => rules(&["get", "list", "watch"], false),
        _ => allowed(false),
    })
    .await;
    let cluster = fake.cluster(Settings { shards: NonZeroU16::new(2), ..settings() }).await;
    let missing = cluster.missing_rights(Service::Janitor).await.unwrap();
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["delete pods in namespace loom-weavers-1"]);
}

#[tokio::test]
async fn a_cluster_that_does_not_tell_is_not_in_the_way() {
    for answer in [
        Answer::status(404, "NotFound", "the server could not find the requested resource"),
        Answer::status(
            403,
            "Forbidden",
            "User \"x\" cannot create resource \"x\" in API group \"\"",
        ),
    ] {
        let (_fake, cluster) = fake(move |_| answer.clone()).await;
        assert_eq!(cluster.missing_rights(Service::Relay).await.unwrap(), []);
    }
    let (_fake, cluster) = fake(|_| Answer::text(StatusCode::BAD_GATEWAY, "no")).await;
    let error = cluster.missing_rights(Service::Relay).await.expect_err("it is away");
    assert!(error.is_transient(), "{error}");
}
