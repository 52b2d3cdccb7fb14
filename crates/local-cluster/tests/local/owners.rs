//! What becomes of objects whose owners go.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use libtest_mimic::Trial;
use serde_json::json;

use crate::objects::config_map;
use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, code, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name, test| trial(name, Needs::Nothing, test);
    vec![
        test("dependents_go_with_the_last_of_their_owners", background),
        test("a_foreground_deletion_waits_for_dependents", foreground),
        test("an_orphaning_deletion_lets_dependents_be", orphan),
        test("an_owner_that_never_was_takes_its_dependents_along", never_was),
    ]
}

const POST: PostParams = PostParams { dry_run: false, field_manager: None };

fn reference(owner: &ConfigMap, blocks: bool) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: owner.metadata.name.clone().unwrap(),
        uid: owner.metadata.uid.clone().unwrap(),
        block_owner_deletion: Some(blocks),
        controller: None,
    }
}

async fn make(maps: &Api<ConfigMap>, name: &str, owners: Vec<OwnerReference>) -> ConfigMap {
    let mut map = config_map(name, "1");
    map.metadata.owner_references = Some(owners);
    maps.create(&POST, &map).await.unwrap()
}

async fn maps(daemon: &Daemon) -> Api<ConfigMap> {
    Api::namespaced(client(&daemon.kubeconfig()).await, "default")
}

async fn gone(maps: &Api<ConfigMap>, name: &str) {
    until(|| async { maps.get_opt(name).await.unwrap().is_none().then_some(()) }).await;
}

fn background() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        let one = make(&maps, "one", vec![]).await;
        let two = make(&maps, "two", vec![]).await;
        let both = vec![reference(&one, false), reference(&two, false)];
        let child = make(&maps, "child", both).await;
        make(&maps, "grandchild", vec![reference(&child, false)]).await;
        maps.delete("one", &DeleteParams::default()).await.unwrap();
        // It has another owner yet, and forgets this one.
        until(|| async {
            let owners = maps.get("child").await.unwrap().metadata.owner_references.unwrap();
            (owners.len() == 1 && owners[0].name == "two").then_some(())
        })
        .await;
        maps.delete("two", &DeleteParams::background()).await.unwrap();
        gone(&maps, "child").await;
        gone(&maps, "grandchild").await;
    });
}

fn foreground() {
    let mut daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        let owner = make(&maps, "owner", vec![]).await;
        let mut child = config_map("child", "1");
        child.metadata.owner_references = Some(vec![reference(&owner, true)]);
        child.metadata.finalizers = Some(vec!["loom.dev/x".into()]);
        maps.create(&POST, &child).await.unwrap();
        maps.delete("owner", &DeleteParams::foreground()).await.unwrap();
        let deleted = |map: ConfigMap| map.metadata.deletion_timestamp.map(drop);
        until(|| async { deleted(maps.get("child").await.unwrap()) }).await;
        let held = maps.get("owner").await.unwrap().metadata;
        assert_eq!(held.finalizers, Some(vec!["foregroundDeletion".to_owned()]));
    });
    // What was begun goes on after the end of the process.
    daemon.restart();
    block_on(async {
        let maps = maps(&daemon).await;
        assert!(maps.get_opt("owner").await.unwrap().is_some());
        let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        maps.patch("child", &PatchParams::default(), &release).await.unwrap();
        gone(&maps, "child").await;
        gone(&maps, "owner").await;
    });
}

fn orphan() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        let owner = make(&maps, "owner", vec![]).await;
        make(&maps, "child", vec![reference(&owner, true)]).await;
        maps.delete("owner", &DeleteParams::orphan()).await.unwrap();
        gone(&maps, "owner").await;
        assert_eq!(maps.get("child").await.unwrap().metadata.owner_references, None);
        let client = client(&daemon.kubeconfig()).await;
        let path = "/api/v1/namespaces/default/configmaps/child?propagationPolicy=Never";
        let nonsense = http::Request::delete(path).body(Vec::new()).unwrap();
        assert_eq!(code(client.request::<serde_json::Value>(nonsense).await), 422);
    });
}

fn never_was() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        let mut nobody = config_map("nobody", "1");
        nobody.metadata.uid = Some("b6d1f0d3-0000-4000-8000-000000000000".into());
        make(&maps, "child", vec![reference(&nobody, false)]).await;
        gone(&maps, "child").await;
        // Of a kind that is not served nothing is known.
        let mut elsewhere = reference(&nobody, false);
        (elsewhere.api_version, elsewhere.kind) = ("apps/v1".into(), "ReplicaSet".into());
        make(&maps, "kept", vec![elsewhere]).await;
        let other = make(&maps, "other", vec![reference(&nobody, false)]).await;
        gone(&maps, &other.metadata.name.unwrap()).await;
        assert!(maps.get_opt("kept").await.unwrap().is_some());
    });
}
