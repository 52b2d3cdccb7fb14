//! Death and a full disk: what was acknowledged is there, what was refused is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use libtest_mimic::Trial;

use crate::objects::config_map;
use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, code, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("local_cluster_killed_mid_write_100_times", Needs::Nothing, killed_mid_write),
        trial("disk_full_refuses_writes_and_corrupts_nothing", Needs::Mounts, disk_full),
    ]
}

const POST: PostParams = PostParams { dry_run: false, field_manager: None };

/// Name to value, of everything that was acknowledged.
type Acknowledged = Arc<Mutex<BTreeMap<String, String>>>;

async fn maps(daemon: &Daemon) -> Api<ConfigMap> {
    Api::namespaced(client(&daemon.kubeconfig()).await, "default")
}

fn killed_mid_write() {
    let mut daemon = Daemon::start();
    let acknowledged = Acknowledged::default();
    let mut version = 0;
    for round in 0..100 {
        block_on(write_until_killed(&mut daemon, round, &acknowledged));
        daemon.start_again();
        version = block_on(check(&daemon, &acknowledged, version));
    }
    assert!(acknowledged.lock().unwrap().len() >= 20);
}

/// Writes from four sides and kills the daemon in the middle.
async fn write_until_killed(daemon: &mut Daemon, round: usize, acknowledged: &Acknowledged) {
    let maps = maps(daemon).await;
    let (done, mut count) = tokio::sync::mpsc::channel(64);
    let mut writers = tokio::task::JoinSet::new();
    for side in 0..4 {
        let (maps, acknowledged, done) = (maps.clone(), acknowledged.clone(), done.clone());
        writers.spawn(async move {
            for at in 0.. {
                let name = format!("m{}", at % 50);
                let (name, value) = (
                    format!("{name}-{side}"),
                    format!("{round}-{at}-{}", "x".repeat(at * 97 % 9000)),
                );
                // Unknown until the answer comes.
                let before = acknowledged.lock().unwrap().remove(&name);
                let map = config_map(&name, &value);
                let written = match before {
                    Some(_) => maps.replace(&name, &POST, &map).await,
                    None => match maps.create(&POST, &map).await {
                        Err(kube::Error::Api(status)) if status.code == 409 => {
                            maps.replace(&name, &POST, &map).await
                        }
                        other => other,
                    },
                };
                if written.is_err() {
                    return;
                }
                acknowledged.lock().unwrap().insert(name, value);
                done.send(()).await.ok();
            }
        });
    }
    for _ in 0..(round * 7 % 41 + 3) {
        count.recv().await.unwrap();
    }
    daemon.kill();
    drop(count);
    while writers.join_next().await.is_some() {}
}

async fn check(daemon: &Daemon, acknowledged: &Acknowledged, version: u64) -> u64 {
    let list = maps(daemon).await.list(&ListParams::default()).await.unwrap();
    let found: BTreeMap<String, String> = list
        .items
        .into_iter()
        .map(|map| (map.metadata.name.unwrap(), map.data.unwrap()["key"].clone()))
        .collect();
    for (name, value) in acknowledged.lock().unwrap().iter() {
        assert_eq!(found.get(name), Some(value), "{name} was acknowledged");
    }
    let now = list.metadata.resource_version.unwrap().parse().unwrap();
    assert!(now > version, "versions go on");
    now
}

fn disk_full() {
    let mut daemon = Daemon::start_on_disk_of(1024);
    let value = "v".repeat(50 << 10);
    let stored = block_on(async {
        let maps = maps(&daemon).await;
        let mut stored = Vec::new();
        for at in 0..100 {
            let name = format!("m{at}");
            match maps.create(&POST, &config_map(&name, &value)).await {
                Ok(_) => stored.push(name),
                Err(kube::Error::Api(status)) => {
                    assert_eq!((status.code, status.reason.as_str()), (507, "InsufficientStorage"));
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!((5..30).contains(&stored.len()), "{}", stored.len());
        assert_eq!(names(&maps).await, stored.len());
        stored
    });
    daemon.kill();
    daemon.await_ready();
    block_on(async {
        let maps = maps(&daemon).await;
        assert_eq!(names(&maps).await, stored.len());
        for name in &stored {
            assert_eq!(maps.get(name).await.unwrap().data.unwrap()["key"], value);
        }
        assert_eq!(code(maps.create(&POST, &config_map("more", &value)).await), 507);
        for name in &stored {
            let deleted = maps.delete(name, &DeleteParams::default()).await;
            assert!(deleted.is_ok(), "{name} of {}: {deleted:?}", stored.len());
        }
        maps.create(&POST, &config_map("more", &value)).await.unwrap();
    });
}

async fn names(maps: &Api<ConfigMap>) -> usize {
    maps.list(&ListParams::default()).await.unwrap().items.len()
}
