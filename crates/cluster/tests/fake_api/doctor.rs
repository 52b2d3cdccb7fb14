//! What the doctor says of clusters that lack something, and what it leaves behind: nothing.

use std::sync::Arc;

use axum::http::StatusCode;
use cluster::doctor::{Check, State, Topic};
use cluster::rights::Service;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::fake::{Answer, Asked, Fake};

async fn look(
    topic: Topic,
    script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (Fake, Vec<Check>) {
    let fake = Fake::start(script).await;
    let doctor = fake.doctor().await;
    let checks = doctor.check(topic).await;
    assert_eq!(doctor.clean_up().await, Vec::<String>::new());
    for check in &checks {
        assert_eq!(check.state == State::Ok, check.fix.is_none(), "{check:?}");
    }
    (fake, checks)
}

fn states(checks: &[Check]) -> Vec<(&str, State)> {
    checks.iter().map(|check| (check.name, check.state)).collect()
}

fn version(minor: &str) -> Answer {
    let info = json!({"major": "1", "minor": minor, "gitVersion": format!("v1.{minor}.0"),
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "",
        "platform": ""});
    Answer::json(StatusCode::OK, &info)
}

/// Its clock stands in the past, as that of all these fakes.
#[tokio::test]
async fn an_old_version_and_a_wrong_clock_are_told() {
    let (_fake, checks) = look(Topic::Api, |_| version("29")).await;
    let expected = [("api", State::Ok), ("version", State::Failed), ("clock", State::Failed)];
    assert_eq!(states(&checks), expected);
    assert!(checks[1].detail.contains("v1.29.0 is older than 1.30"), "{checks:?}");
    assert!(checks[2].detail.contains(" s behind this machine's"), "{checks:?}");
    let (_fake, checks) = look(Topic::Api, |_| Answer::status(401, "Unauthorized", "no")).await;
    assert_eq!(states(&checks)[0], ("api", State::Failed));
    assert!(checks[0].fix.as_ref().unwrap().contains("log in"), "{checks:?}");
}

fn account() -> Answer {
    Answer::json(StatusCode::OK, &json!({"metadata": {"name": "x"}}))
}

fn review(allowed: bool) -> Answer {
    let status = json!({"allowed": allowed});
    Answer::json(StatusCode::CREATED, &json!({"metadata": {}, "spec": {}, "status": status}))
}

/// Answers reviews as a cluster whose roles are those of the registry, but for `other`.
fn roles(asked: &Asked, other: impl Fn(&str, &str, &Value) -> Option<bool>) -> Answer {
    if asked.method == "GET" {
        return account();
    }
    let (spec, about) = (&asked.body["spec"], &asked.body["spec"]["resourceAttributes"]);
    let user = spec["user"].as_str().unwrap();
    let verb = about["verb"].as_str().unwrap();
    if let Some(allowed) = other(user, verb, about) {
        return review(allowed);
    }
    let service = Service::ALL.into_iter().find(|service| user.ends_with(service.name())).unwrap();
    let resource = match about["subresource"].as_str() {
        Some(sub) => format!("{}/{sub}", about["resource"].as_str().unwrap()),
        None => about["resource"].as_str().unwrap().to_owned(),
    };
    let has = service.rights().iter().any(|r| r.verb == verb && r.resource == resource);
    review(has && about["namespace"] == "loom-weavers")
}

#[tokio::test]
async fn rights_as_the_registry_has_them_are_well() {
    let (fake, checks) = look(Topic::Rights, |asked| roles(asked, |_, _, _| None)).await;
    assert_eq!(states(&checks), [("rights", State::Ok); 3], "{checks:?}");
    let groups = &fake.asked("POST")[0].body["spec"]["groups"];
    assert!(groups.as_array().unwrap().contains(&json!("system:authenticated")), "{groups}");
}

#[tokio::test]
async fn abuse_rights_too_few_or_too_many_are_named() {
    let (_fake, checks) = look(Topic::Rights, |asked| {
        roles(asked, |user, verb, about| {
            let lacks = user.ends_with("loom-relay") && about["subresource"] == "exec";
            let has = user.ends_with("loom-janitor") && verb == "impersonate";
            (lacks || has).then_some(has)
        })
    })
    .await;
    let expected = [("rights", State::Ok), ("rights", State::Failed), ("rights", State::Failed)];
    assert_eq!(states(&checks), expected, "{checks:?}");
    let lacks = "loom-relay may not get pods/exec in namespace loom-weavers, create pods/exec";
    assert!(checks[1].detail.contains(lacks), "{checks:?}");
    let has = "loom-janitor may impersonate users in all namespaces";
    assert!(checks[2].detail.contains(has), "{checks:?}");
}

#[tokio::test]
async fn who_may_not_ask_or_cannot_is_told_so() {
    let words = "User \"x\" cannot create resource \"subjectaccessreviews\" in API group \"\"";
    for (answer, fix) in [
        (Answer::status(403, "Forbidden", words), "administrator"),
        (Answer::status(404, "NotFound", "could not find it"), "does not tell"),
    ] {
        let (_fake, checks) = look(Topic::Rights, move |asked| match asked.method.as_str() {
            "GET" => account(),
            _ => answer.clone(),
        })
        .await;
        assert_eq!(states(&checks), [("rights", State::Warning); 3], "{checks:?}");
        assert!(checks[0].fix.as_ref().unwrap().contains(fix), "{checks:?}");
    }
}

/// Takes all that is made and deleted, and never says how it fares.
fn takes_all(asked: &Asked) -> Answer {
    match asked.method.as_str() {
        "POST" => Answer::json(StatusCode::CREATED, &asked.body),
        "DELETE" => Answer::json(StatusCode::OK, &json!({"kind": "Status"})),
        "GET" if !asked.query.contains("watch") => Answer::json(
            StatusCode::OK,
            &json!({"metadata": {"resourceVersion": "1"}, "items": []}),
        ),
        _ => Answer::Never,
    }
}

/// The doctor is dropped while it waits for its pod; a creation whose answer is still to come is
/// waited for, so that nothing outlives the clean-up.
#[tokio::test]
async fn abuse_whatever_it_made_is_removed() {
    let asked_for = Arc::new(Notify::new());
    let tell = asked_for.clone();
    let fake = Fake::start(move |asked| {
        if asked.method == "POST" && asked.path.ends_with("/pods") {
            tell.notify_one();
        }
        takes_all(asked)
    })
    .await;
    let doctor = fake.doctor().await;
    tokio::select! {
        checks = doctor.check(Topic::Network) => panic!("{checks:?}"),
        () = asked_for.notified() => {}
    }
    assert_eq!(doctor.clean_up().await, Vec::<String>::new());
    let name = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let made = fake.asked("POST");
    let mut made: Vec<_> = made
        .iter()
        .map(|asked| asked.body["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let mut gone: Vec<_> = fake.asked("DELETE").iter().map(|asked| name(&asked.path)).collect();
    made.sort();
    gone.sort();
    assert_eq!(gone, made);
    assert!(made.len() >= 3, "{made:?}");
    asks_for_little(&fake);
}

/// What pod security `restricted` asks for, and an end of its own.
fn asks_for_little(fake: &Fake) {
    let pods = fake.asked("POST");
    let pod = pods.iter().find(|asked| asked.path.ends_with("/pods")).unwrap();
    let spec = &pod.body["spec"];
    assert!(spec["activeDeadlineSeconds"].as_i64().unwrap() > 0);
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["containers"][0]["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
}

#[tokio::test]
async fn what_another_run_has_left_is_removed() {
    let made = |name: &str, time: &str| json!({"metadata": {"name": name, "creationTimestamp": time}, "spec": {}});
    // By the cluster's clock one is an hour and a second old, the other a minute younger.
    let old = made("loom-doctor-old-server", "2001-03-03T08:59:59Z");
    let young = made("loom-doctor-now-server", "2001-03-03T09:00:59Z");
    let fake = Fake::start(move |asked| match asked.method.as_str() {
        "GET" => Answer::json(
            StatusCode::OK,
            &json!({"metadata": {"resourceVersion": "1"}, "items": match asked.query.contains("app%3Dloom-doctor") {
                true => json!([old, young]),
                false => json!([]),
            }}),
        ),
        "DELETE" => Answer::json(StatusCode::OK, &json!({"kind": "Status"})),
        _ => Answer::status(403, "Forbidden", "exceeded quota: q"),
    })
    .await;
    let doctor = fake.doctor().await;
    let checks = doctor.check(Topic::Network).await;
    assert!(checks[1].detail.contains("exceeded quota: q"), "{checks:?}");
    let gone = fake.asked("DELETE");
    let paths: Vec<_> = gone.iter().map(|asked| asked.path.as_str()).collect();
    let pod = "/api/v1/namespaces/loom-weavers/pods/loom-doctor-old-server";
    let policy = "/apis/networking.k8s.io/v1/namespaces/loom-weavers/networkpolicies/\
        loom-doctor-old-server";
    assert_eq!(paths[..2], [pod, policy]);
    assert!(!paths.iter().any(|path| path.contains("loom-doctor-now")), "{paths:?}");
}

#[tokio::test]
async fn a_cluster_without_network_policies_is_told() {
    let (fake, checks) =
        look(Topic::Network, |_| Answer::status(404, "NotFound", "could not find it")).await;
    assert_eq!(states(&checks), [("network-policy", State::Warning)]);
    assert!(fake.asked("POST").is_empty());
}
