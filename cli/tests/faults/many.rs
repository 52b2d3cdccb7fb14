//! As many weavers as a person's machine ever has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::processes::that_hold;
use crate::support::{Case, World, until};

pub(crate) const CASES: &[Case] = &[("many::two_hundred_weavers_at_once", two_hundred)];

const MAKERS: usize = 4;
const EACH: usize = 50;

/// They are made by several at once, are all there after the daemon was killed, and leave nothing.
fn two_hundred() {
    let world = World::new();
    let make = |_| world.idle("--cpu 50m --memory 16Mi");
    let ids: BTreeSet<String> = std::thread::scope(|scope| {
        let maker = || scope.spawn(|| (0..EACH).map(make).collect::<Vec<_>>());
        let makers: Vec<_> = (0..MAKERS).map(|_| maker()).collect();
        makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), MAKERS * EACH);
    run_all(&world, &ids);
    let daemon = world.daemon();
    super::daemon::kill(&world, daemon);
    run_all(&world, &ids);
    for id in [ids.first().unwrap(), ids.last().unwrap()] {
        assert_eq!(
            world.ok_with(&format!("exec {id} -- sh -c"), &["echo $LOOM_WEAVER_ID"]),
            format!("{id}\n")
        );
    }
    let groups = groups_of(&world);
    world.ok("dev reset --yes");
    let folder = world.path("").display().to_string();
    until("no process is left", || that_hold(&folder).is_empty());
    assert_eq!(
        groups.iter().filter(|group| group.exists()).collect::<Vec<_>>(),
        [] as [&PathBuf; 0]
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&folder), "{mounts}");
}

fn run_all(world: &World, ids: &BTreeSet<String>) {
    until("all run", || {
        let weavers = world.weavers();
        let running = weavers.iter().filter(|weaver| weaver["status"] == "Running");
        let running: BTreeSet<String> =
            running.map(|weaver| weaver["id"].as_str().unwrap().to_owned()).collect();
        running == *ids
    });
}

/// Returns the control groups of all pods.
fn groups_of(world: &World) -> Vec<PathBuf> {
    let pods = std::fs::read_dir(world.path("s/pods")).unwrap().flatten();
    let groups = |pod: &Path| {
        let shim = std::fs::read(pod.join("shim.json")).unwrap();
        let shim: serde_json::Value = serde_json::from_slice(&shim).unwrap();
        serde_json::from_value::<Vec<PathBuf>>(shim["cgroups"].clone()).unwrap()
    };
    pods.flat_map(|pod| groups(&pod.path())).collect()
}
