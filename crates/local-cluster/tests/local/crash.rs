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
        trial("ten_thousand_objects_outlive_a_restart", Needs::Nothing, ten_thousand),
        trial("disk_full_refuses_writes_and_corrupts_nothing", Needs::Mounts, disk_full),
    ]
}

const POST: PostParams = PostParams { dry_run: false, field_manager: None };

/// What the daemon has promised.
#[derive(Debug, Default)]
struct Promised {
    /// Name to value, of everything that was acknowledged.
    values: BTreeMap<String, String>,
    /// Writes that were acknowledged, in all.
    writes: usize,
}

impl Promised {
    fn keep(&mut self, name: String, value: String) {
        self.values.insert(name, value);
        self.writes += 1;
    }
}

async fn maps(daemon: &Daemon) -> Api<ConfigMap> {
    Api::namespaced(client(&daemon.kubeconfig()).await, "default")
}

fn killed_mid_write() {
    let mut daemon = Daemon::start();
    let promised = Arc::new(Mutex::new(Promised::default()));
    let (mut version, mut torn) = (None, 0);
    for round in 0..100 {
        version = block_on(async {
            let maps = maps(&daemon).await;
            let version = check(&maps, &promised, version).await;
            write_until_killed(&mut daemon, maps, round, &promised).await;
            version
        });
        daemon.start_again();
        torn += usize::from(std::fs::remove_file(daemon.dir().join("store/objects.torn")).is_ok());
    }
    block_on(async { check(&maps(&daemon).await, &promised, version).await });
    let promised = promised.lock().unwrap();
    let (writes, objects) = (promised.writes, promised.values.len());
    println!("100 kills, {writes} writes acknowledged, {objects} objects, {torn} torn records");
    assert!(writes >= 100 * 3 && objects >= 20, "{writes} writes, {objects} objects");
}

/// Writes from four sides and kills the daemon in the middle.
async fn write_until_killed(
    daemon: &mut Daemon,
    maps: Api<ConfigMap>,
    round: usize,
    promised: &Arc<Mutex<Promised>>,
) {
    let (done, mut count) = tokio::sync::mpsc::channel(64);
    let mut writers = tokio::task::JoinSet::new();
    for side in 0..4 {
        let writing = write(maps.clone(), round, side, promised.clone(), done.clone());
        writers.spawn(writing);
    }
    drop(done);
    for at in 0..(round * 7 % 41 + 3) {
        if count.recv().await.is_none() {
            let why = writers.join_all().await;
            panic!("round {round}: nobody writes any more after {at} writes: {why:?}");
        }
    }
    daemon.kill();
    drop(count);
    writers.join_all().await;
}

/// Writes until that fails, and returns why.
async fn write(
    maps: Api<ConfigMap>,
    round: usize,
    side: usize,
    promised: Arc<Mutex<Promised>>,
    done: tokio::sync::mpsc::Sender<()>,
) -> kube::Error {
    for at in 0.. {
        let name = format!("m{}-{side}", at % 50);
        let value = format!("{round}-{at}-{}", "x".repeat(at * 97 % 9000));
        // Unknown until the answer comes.
        let before = promised.lock().unwrap().values.remove(&name);
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
        if let Err(error) = written {
            return error;
        }
        promised.lock().unwrap().keep(name, value);
        done.send(()).await.ok();
    }
    unreachable!("it counts for ever")
}

/// Compares what is there with what was promised; returns the version of now.
async fn check(
    maps: &Api<ConfigMap>,
    promised: &Arc<Mutex<Promised>>,
    version: Option<u64>,
) -> Option<u64> {
    let list = maps.list(&ListParams::default()).await.unwrap();
    let found: BTreeMap<String, String> = list
        .items
        .into_iter()
        .map(|map| (map.metadata.name.unwrap(), map.data.unwrap()["key"].clone()))
        .collect();
    for (name, value) in &promised.lock().unwrap().values {
        assert_eq!(found.get(name), Some(value), "{name} was acknowledged");
    }
    let now = list.metadata.resource_version.unwrap().parse().ok();
    assert!(now > version, "versions go on");
    now
}

const SIDES: usize = 20;
const EACH: usize = 500;

/// Twenty clients make ten thousand objects; every page is right before and after.
fn ten_thousand() {
    let mut daemon = Daemon::start();
    let before = block_on(async {
        let mut makers = tokio::task::JoinSet::new();
        for side in 0..SIDES {
            let maps = maps(&daemon).await;
            makers.spawn(async move {
                for at in 0..EACH {
                    let name = format!("m{side:02}-{at:03}");
                    maps.create(&POST, &config_map(&name, &name)).await.unwrap();
                }
            });
        }
        makers.join_all().await;
        all_pages(&maps(&daemon).await).await
    });
    daemon.restart();
    let after = block_on(async { all_pages(&maps(&daemon).await).await });
    assert!(before == after, "the same objects with the same versions");
    let name = |at: usize| format!("m{:02}-{:03}", at / EACH, at % EACH);
    let named = after.iter().map(|map| map.metadata.name.clone().unwrap());
    assert!(named.eq((0..SIDES * EACH).map(name)), "in order, each once");
}

/// Lists page by page; each says how many are left.
async fn all_pages(maps: &Api<ConfigMap>) -> Vec<ConfigMap> {
    let mut all = Vec::new();
    let mut params = ListParams::default().limit(500);
    loop {
        let page = maps.list(&params).await.unwrap();
        assert_eq!(page.items.len(), 500);
        all.extend(page.items);
        let left = i64::try_from(SIDES * EACH - all.len()).unwrap();
        assert_eq!(page.metadata.remaining_item_count.unwrap_or(0), left);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return all,
        }
    }
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
