//! Weavers spread over several namespaces: callers do not see it, and no call is made twice.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use cluster::{Change, Query};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::fake::{Fake, Fault};
use crate::rig::{Rig, pod_name, rig, server};

const SHARDS: u16 = 3;

async fn sharded() -> Rig {
    let fake = Fake::start().await;
    let cluster = fake.cluster_with(|settings| settings.shards = NonZeroU16::new(SHARDS)).await;
    Rig { server: server(cluster, |_| {}), fake }
}

fn namespace(fake: &Fake, id: &str) -> String {
    let pods = fake.store().pods();
    let pod = pods.iter().find(|pod| pod["metadata"]["name"] == pod_name(id).as_str()).unwrap();
    pod["metadata"]["namespace"].as_str().unwrap().to_owned()
}

fn ids(list: &Value) -> Vec<String> {
    let all = list["weavers"].as_array().unwrap().iter();
    all.map(|weaver| weaver["id"].as_str().unwrap().to_owned()).collect()
}

/// Makes so many that each shard has some.
async fn many(rig: &Rig) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    for _ in 0..20 {
        made.insert(rig.server.made().await);
    }
    let places: BTreeSet<_> = made.iter().map(|id| namespace(&rig.fake, id)).collect();
    let all: Vec<_> = (0..SHARDS).map(|shard| format!("loom-weavers-{shard}")).collect();
    assert_eq!(places.into_iter().collect::<Vec<_>>(), all);
    made
}

#[tokio::test]
async fn each_call_goes_to_the_weavers_own_namespace() {
    let rig = sharded().await;
    for id in many(&rig).await {
        let (place, path) = (namespace(&rig.fake, &id), format!("/api/weavers/{id}"));
        rig.fake.store().write_log(&pod_name(&id), "hello\n");
        rig.fake.places();
        assert_eq!(rig.server.get(&path).await.json()["id"], id.as_str());
        assert_eq!(rig.fake.places(), [format!("get pods in {place}")]);
        let hours = json!({"lifetime_hours": 8});
        let extended = rig.server.post(&format!("{path}/extend"), &hours).await;
        assert_eq!(extended.status, 200);
        let patch = format!("patch pods in {place}");
        assert_eq!(rig.fake.places(), [format!("get pods in {place}"), patch]);
        assert!(rig.server.get(&format!("{path}/logs")).await.text.contains("aGVsbG8K"));
        assert!(rig.fake.places().iter().all(|call| call.ends_with(&place)));
        assert_eq!(rig.server.delete(&path).await.status, 204);
        let delete = format!("delete pods in {place}");
        assert_eq!(rig.fake.places(), [format!("get pods in {place}"), delete]);
    }
    assert!(rig.fake.store().pods().is_empty());
}

#[tokio::test]
async fn a_create_is_one_call_and_its_key_finds_it_again() {
    let rig = sharded().await;
    rig.server.made().await;
    rig.fake.calls();
    rig.server.made().await;
    assert_eq!(rig.fake.calls(), ["create pods"]);
    let one = rig.server.create_with_key("a key", &json!({})).await.json()["id"].clone();
    let again = rig.server.create_with_key("a key", &json!({})).await.json()["id"].clone();
    assert_eq!(one, again);
    assert_eq!(rig.fake.store().pods().len(), 3);
}

#[tokio::test]
async fn progress_is_watched_in_its_namespace_only() {
    let rig = sharded().await;
    let id = rig.server.made().await;
    rig.fake.store().run(&pod_name(&id));
    rig.fake.places();
    let told = rig.server.get(&format!("/api/weavers/{id}/events")).await.text;
    assert!(told.contains("ready"), "{told}");
    let (places, own) = (rig.fake.places(), namespace(&rig.fake, &id));
    assert!(places.iter().all(|call| call.ends_with(&own)), "{places:?}");
}

#[tokio::test]
async fn pages_go_through_the_shards_one_call_each() {
    let rig = sharded().await;
    let made = many(&rig).await;
    rig.fake.places();
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = rig.server.get(&format!("/api/weavers?limit=4{cursor}")).await.json();
        let here = ids(&page);
        let places: BTreeSet<_> = here.iter().map(|id| namespace(&rig.fake, id)).collect();
        assert!(here.len() <= 4 && places.len() == 1, "{here:?} {places:?}");
        seen.extend(here);
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), made.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), made);
    let calls = rig.fake.places();
    assert_eq!(calls.len(), pages);
    assert!(calls.is_sorted() && calls.iter().all(|call| call.starts_with("list pods")));
}

#[tokio::test]
async fn the_whole_list_has_all_shards_in_it() {
    let rig = sharded().await;
    assert_eq!(rig.server.get("/api/weavers").await.text, r#"{"weavers":[],"next":null}"#);
    let made = many(&rig).await;
    rig.fake.calls();
    let all = ids(&rig.server.get("/api/weavers").await.json());
    assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), made);
    assert_eq!((all.len(), rig.fake.calls().len()), (made.len(), usize::from(SHARDS)));
    rig.fake.fail_once("list continued", Fault::Status(410, "Expired", "too old"));
    let page = rig.server.get("/api/weavers?limit=1&cursor=2.abc").await;
    assert_eq!(page.problem().1, "cursor_expired");
}

#[tokio::test]
async fn abuse_cursors_of_another_number_of_shards() {
    let rig = sharded().await;
    many(&rig).await;
    rig.fake.calls();
    for cursor in ["3.", "7.abc", "abc", "-1.", "0", "65537.x", "0x1.a"] {
        let answer = rig.server.get(&format!("/api/weavers?cursor={cursor}")).await;
        assert_eq!(answer.problem().1, "cursor_expired", "{cursor}");
    }
    assert_eq!(rig.fake.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn names_are_unique_over_all_shards() {
    let rig = sharded().await;
    let first = rig.server.create(json!({"name": "api"})).await;
    assert_eq!(first.status, 201);
    for _ in 0..6 {
        let second = rig.server.create(json!({"name": "api"})).await;
        let (status, _, field) = second.problem();
        assert_eq!((status, field.as_str()), (409, "name"));
    }
    assert_eq!(rig.fake.store().pods().len(), 1);
}

#[tokio::test]
async fn it_is_ready_when_every_namespace_is_there() {
    let rig = sharded().await;
    let cluster = rig.server.cluster.clone();
    cluster.validate_namespace().await.unwrap();
    let mut asked = rig.fake.places();
    asked.sort();
    let all: Vec<_> =
        (0..SHARDS).map(|shard| format!("get namespaces in loom-weavers-{shard}")).collect();
    assert_eq!(asked, all);
    rig.fake.forbid("loom-weavers-1");
    let error = cluster.validate_namespace().await.unwrap_err().to_string();
    assert!(error.contains("get namespaces in namespace loom-weavers-1"), "{error}");
}

#[tokio::test]
async fn a_watch_sees_all_shards_as_one() {
    let rig = sharded().await;
    let made = many(&rig).await;
    let cluster = rig.server.cluster.clone();
    let mut changes = std::pin::pin!(cluster.watch(&Query::default()));
    let mut next = async || changes.next().await.unwrap().unwrap();
    let Change::All(all) = next().await else { panic!("first comes all that is there") };
    assert_eq!(all.iter().map(|found| found.weaver.id.to_string()).collect::<BTreeSet<_>>(), made);
    let mut gone = BTreeSet::new();
    for id in &made {
        rig.server.delete(&format!("/api/weavers/{id}")).await;
        let Change::Gone(id) = next().await else { panic!("it is gone") };
        gone.insert(id.to_string());
    }
    assert_eq!(gone, made);
}

#[tokio::test]
async fn without_shards_nothing_is_different() {
    let Rig { fake, server } = rig().await;
    let id = server.made().await;
    server.made().await;
    assert_eq!(namespace(&fake, &id), "loom-weavers");
    let next = server.get("/api/weavers?limit=1").await.json()["next"].clone();
    let last = fake.store().pods()[0]["metadata"]["name"].clone();
    assert_eq!(next, last, "the cursor is Kubernetes' own");
}
