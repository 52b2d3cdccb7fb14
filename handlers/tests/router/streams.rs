//! Server-sent events: how a weaver comes up, and what it writes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::fake::Fault;
use crate::rig::{Rig, pod_name, rig, until};

/// Returns the data of every event, in order.
fn data(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn written(chunks: &[Value]) -> String {
    let mut all = Vec::new();
    for chunk in chunks {
        assert_eq!(chunk["offset"], all.len());
        all.extend(STANDARD.decode(chunk["data"].as_str().unwrap()).unwrap());
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_start_is_told_step_by_step() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    let path = format!("/api/weavers/{id}/events");
    let starting = async {
        let pod = pod_name(&id);
        until("it watches", || fake.calls().iter().any(|call| call == "watch events")).await;
        fake.store().edit(&pod, |pod| pod["spec"]["nodeName"] = "node".into());
        fake.store().event(&pod, "Pulling");
        fake.store().event(&pod, "Pulled");
        fake.store().run(&pod);
    };
    let (answer, ()) = tokio::join!(server.get(&path), starting);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let told = data(&answer.text);
    let steps: Vec<_> = told.iter().map(|step| step["event"].as_str().unwrap()).collect();
    assert_eq!((steps.first(), steps.last()), (Some(&"scheduled"), Some(&"ready")), "{steps:?}");
    let order = ["scheduled", "pulling", "pulled", "started", "ready"];
    let ranks: Vec<_> = steps.iter().map(|step| order.iter().position(|o| o == step)).collect();
    assert!(ranks.is_sorted() && !ranks.contains(&None), "{steps:?}");
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    fake.store().edit(&pod_name(&id), |pod| {
        pod["status"] = serde_json::json!({"phase": "Failed", "containerStatuses": [{
            "name": "weaver", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
    });
    let told = data(&server.get(&format!("/api/weavers/{id}/events")).await.text);
    let last = told.last().unwrap();
    assert_eq!((&last["event"], &last["reason"]), (&"failed".into(), &"OOMKilled".into()));
    assert_eq!(last["last"], true);
    let shown = server.get(&format!("/api/weavers/{id}")).await.json();
    assert_eq!((&shown["status"], &shown["reason"]), (&"Failed".into(), &"OOMKilled".into()));
    assert_eq!(shown["exit_code"], 137);
}

#[tokio::test]
async fn a_program_that_ends_well_at_once_is_no_failure() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    fake.store().edit(&pod_name(&id), |pod| {
        pod["spec"]["nodeName"] = "node".into();
        pod["status"] = serde_json::json!({"phase": "Succeeded", "containerStatuses": [{
            "name": "weaver", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
    });
    let told = data(&server.get(&format!("/api/weavers/{id}/events")).await.text);
    let steps: Vec<_> = told.iter().map(|step| &step["event"]).collect();
    assert_eq!(steps, ["scheduled", "started"]);
    let shown = server.get(&format!("/api/weavers/{id}")).await.json();
    assert_eq!((&shown["status"], &shown["exit_code"]), (&"Succeeded".into(), &0.into()));
}

#[tokio::test]
async fn a_weaver_that_is_deleted_while_it_starts_is_told() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    let path = format!("/api/weavers/{id}");
    let events = format!("{path}/events");
    let deleting = async {
        until("it watches", || fake.calls().iter().any(|call| call == "watch pods")).await;
        server.delete(&path).await;
    };
    let (answer, ()) = tokio::join!(server.get(&events), deleting);
    assert_eq!(data(&answer.text).last().unwrap()["event"], "deleted");
}

#[tokio::test]
async fn streams_end_with_the_server() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    let path = format!("/api/weavers/{id}/events");
    let leaving = async {
        until("it watches", || fake.calls().iter().any(|call| call == "watch pods")).await;
        server.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(server.get(&path), leaving);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn logs_are_what_was_written() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    let path = format!("/api/weavers/{id}/logs");
    let early = server.get(&path).await;
    assert_eq!(early.problem().1, "conflict");
    let text = "hello \u{1b}[31mred\n".repeat(20_000);
    fake.store().run(&pod_name(&id));
    fake.store().write_log(&pod_name(&id), &text);
    let answer = server.get(&format!("{path}?tail=100000&follow=false")).await;
    assert_eq!(written(&data(&answer.text)), text);
}

#[tokio::test]
async fn following_waits_for_the_start() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    let path = format!("/api/weavers/{id}/logs?follow=true");
    let starting = async {
        until("it watches", || fake.calls().iter().any(|call| call == "watch pods")).await;
        fake.store().write_log(&pod_name(&id), "late");
        fake.store().run(&pod_name(&id));
    };
    let (answer, ()) = tokio::join!(server.get(&path), starting);
    assert_eq!(written(&data(&answer.text)), "late");
}

#[tokio::test]
async fn an_error_in_a_stream_is_a_problem() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    let words = "pods is forbidden: User \"x\" cannot watch resource \"pods\"";
    fake.fail("watch", Some(Fault::Status(403, "Forbidden", words)));
    let answer = server.get(&format!("/api/weavers/{id}/events")).await;
    assert!(answer.text.contains("event: problem"), "{}", answer.text);
    assert_eq!(data(&answer.text).last().unwrap()["code"], "unavailable");
}
