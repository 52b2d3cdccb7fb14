//! Watches: from a version on, with bookmarks, selectors, and an end.

use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use libtest_mimic::Trial;
use serde_json::json;

use crate::objects::config_map;
use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name, test| trial(name, Needs::Nothing, test);
    vec![
        test("a_watch_from_a_version_misses_and_repeats_nothing", from_a_version),
        test("a_watch_by_label_sees_objects_come_and_go", by_label),
        test("a_watch_from_too_long_ago_is_gone", too_old),
        test("a_watch_ends_in_time_with_a_bookmark", ends),
        test("a_watch_goes_on_from_the_version_of_before_a_restart", over_a_restart),
        test("initial_events_end_with_a_bookmark", initial_events),
    ]
}

const POST: PostParams = PostParams { dry_run: false, field_manager: None };

async fn maps(daemon: &Daemon) -> Api<ConfigMap> {
    Api::namespaced(client(&daemon.kubeconfig()).await, "default")
}

async fn version(maps: &Api<ConfigMap>) -> String {
    maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap()
}

/// Returns the next events as `TYPE name`; bookmarks are left out.
async fn next(
    events: &mut (impl Stream<Item = Result<WatchEvent<ConfigMap>, kube::Error>> + Unpin),
    count: usize,
) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let (word, map) = match events.next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => ("ADDED", map),
            WatchEvent::Modified(map) => ("MODIFIED", map),
            WatchEvent::Deleted(map) => ("DELETED", map),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(error) => return vec![format!("ERROR {}", error.code)],
        };
        seen.push(format!("{word} {}", map.metadata.name.unwrap()));
    }
    seen
}

fn from_a_version() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        maps.create(&POST, &config_map("old", "1")).await.unwrap();
        let start = version(&maps).await;
        maps.create(&POST, &config_map("a", "1")).await.unwrap();
        let events = maps.watch(&WatchParams::default(), &start).await.unwrap().boxed();
        pin_mut!(events);
        assert_eq!(next(&mut events, 1).await, ["ADDED a"]);
        maps.replace("old", &POST, &config_map("old", "2")).await.unwrap();
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        assert_eq!(next(&mut events, 2).await, ["MODIFIED old", "DELETED a"]);
        let all = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        pin_mut!(all);
        assert_eq!(next(&mut all, 1).await, ["ADDED old"]);
    });
}

fn by_label() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        let start = version(&maps).await;
        let params = WatchParams::default().labels("on=yes");
        let events = maps.watch(&params, &start).await.unwrap().boxed();
        pin_mut!(events);
        maps.create(&POST, &config_map("a", "1")).await.unwrap();
        for label in [json!("yes"), json!("no"), json!("yes")] {
            let patch = Patch::Merge(json!({"metadata": {"labels": {"on": label}}}));
            maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
        }
        assert_eq!(next(&mut events, 3).await, ["ADDED a", "DELETED a", "ADDED a"]);
    });
}

fn too_old() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        maps.create(&POST, &config_map("a", "1")).await.unwrap();
        let start = version(&maps).await;
        let many = (0..9000).map(|at| {
            let maps = maps.clone();
            async move { maps.replace("a", &POST, &config_map("a", &at.to_string())).await }
        });
        let mut many = futures::stream::iter(many).buffer_unordered(16);
        while let Some(done) = many.next().await {
            done.unwrap();
        }
        let events = maps.watch(&WatchParams::default(), &start).await.unwrap().boxed();
        pin_mut!(events);
        assert_eq!(next(&mut events, 1).await, ["ERROR 410"]);
    });
}

fn ends() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        let start = version(&maps).await;
        let params = WatchParams::default().timeout(1);
        let events: Vec<_> = maps.watch(&params, &start).await.unwrap().collect().await;
        let [Ok(WatchEvent::Bookmark(mark))] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(mark.metadata.resource_version, start);
    });
}

fn over_a_restart() {
    let mut daemon = Daemon::start();
    let start = block_on(async {
        let maps = maps(&daemon).await;
        let start = version(&maps).await;
        maps.create(&POST, &config_map("a", "1")).await.unwrap();
        start
    });
    daemon.restart();
    block_on(async {
        let maps = maps(&daemon).await;
        let events = maps.watch(&WatchParams::default(), &start).await.unwrap().boxed();
        pin_mut!(events);
        maps.create(&POST, &config_map("b", "1")).await.unwrap();
        assert_eq!(next(&mut events, 2).await, ["ADDED a", "ADDED b"]);
    });
}

fn initial_events() {
    let daemon = Daemon::start();
    block_on(async {
        let maps = maps(&daemon).await;
        maps.create(&POST, &config_map("a", "1")).await.unwrap();
        let params = WatchParams { send_initial_events: true, ..WatchParams::default() };
        let events = maps.watch(&params, "0").await.unwrap().boxed();
        pin_mut!(events);
        assert_eq!(next(&mut events, 1).await, ["ADDED a"]);
        let Some(Ok(WatchEvent::Bookmark(mark))) = events.next().await else { panic!() };
        assert_eq!(mark.metadata.annotations["k8s.io/initial-events-end"], "true");
    });
}
