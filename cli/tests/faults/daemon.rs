//! The local cluster's daemon is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{Process, roots, shims, that_hold};
use crate::relay_killed::number_after;
use crate::stage::Maker;
use crate::stage::kube::Kube;
use crate::support::{Case, World, code, show, until};

pub(crate) const CASES: &[Case] = &[
    ("daemon::killed_under_a_shell_the_shell_is_the_same", same_shell),
    ("daemon::killed_while_weavers_are_made_the_acknowledged_exist_once", creates),
];

fn same_shell() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("kept=ye''s; echo shell=$$.\r");
    terminal.sees("\nshell=");
    let shell = number_after(&terminal.screen(), "\nshell=");
    let (id, daemon) = (world.only_id(), world.daemon());
    kill(&world, daemon);
    terminal.sees(&format!("come back with: loom attach {id}"));
    assert_eq!(terminal.end(), 255);
    world.becomes(&id, "Running");
    assert_ne!(world.daemon(), daemon);
    let mut back = world.terminal("attach -", &[]);
    back.sees(&format!("\nshell={shell}."));
    back.send("echo again=$$,$kept.\r");
    back.sees(&format!("\nagain={shell},yes."));
    assert_eq!(world.ok_with("exec - -- sh -c", &["echo alive"]), "alive\n");
    until("the log has both", || {
        let log = world.ok("logs -");
        log.contains(&format!("shell={shell}.")) && log.contains(&format!("again={shell},yes."))
    });
}

/// How often the daemon is killed.
const ROUNDS: usize = 5;
/// How many make weavers at once, and how many each.
const MAKERS: usize = 3;
const EACH: usize = 4;

fn creates() {
    let world = World::new();
    start(&world);
    let mut made: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..ROUNDS {
        let acknowledged = one_round(&world, round);
        start(&world);
        let there = ids(&world);
        for id in made.values().chain(acknowledged.values()) {
            assert!(there.contains(id), "{id} was acknowledged and is not among {there:?}");
        }
        let maker = maker(&world);
        for key in keys(round) {
            let id = maker.idle(&key).unwrap();
            assert!(acknowledged.get(&key).is_none_or(|before| *before == id), "{key}");
            made.insert(key, id);
        }
        assert_eq!(ids(&world), made.values().cloned().collect());
    }
    let running = |weaver: &serde_json::Value| weaver["status"] == "Running";
    until("all of them run", || world.weavers().iter().all(running));
    let pods = shims(&world.path("s/pods"));
    assert_eq!(pods.len(), made.len(), "each has one shim");
    until("no other shim runs but a spare one", || {
        let known: Vec<_> = pods.values().cloned().chain(spare(&world)).collect();
        let mut all = that_hold(world.path("s").to_str().unwrap());
        all.retain(|process| process.starts_with(&["loom", "pod-shim"]));
        roots(&all).iter().all(|process| known.contains(process))
    });
}

fn spare(world: &World) -> impl Iterator<Item = Process> {
    shims(&world.path("s/spares")).into_values()
}

/// Kills the daemon and waits for its death: one that is dying still looks like one that serves.
pub(crate) fn kill(world: &World, daemon: Pid) {
    kill_process(daemon, Signal::KILL).unwrap();
    until("it is dead", || world.status()["running"] == false);
}

/// Starts the daemon with little for each weaver, so that all have room.
fn start(world: &World) {
    let mut command = world.command("dev --detach", &[]);
    command.env("LOOM_SERVER_WEAVER_CPU_REQUEST", "10m");
    command.env("LOOM_SERVER_WEAVER_MEMORY_REQUEST", "16Mi");
    let output = command.output().unwrap();
    assert_eq!(code(&output), 0, "{}", show(&output));
}

fn keys(round: usize) -> impl Iterator<Item = String> {
    (0..MAKERS * EACH).map(move |nth| format!("key-{round}-{nth}"))
}

/// Makes weavers and kills the daemon after some of them; returns which it had acknowledged.
fn one_round(world: &World, round: usize) -> BTreeMap<String, String> {
    let (maker, daemon) = (maker(world), world.daemon());
    let (tell, told) = mpsc::channel();
    let keys: Vec<_> = keys(round).collect();
    std::thread::scope(|scope| {
        for keys in keys.chunks(EACH) {
            let (maker, tell) = (maker.clone(), tell.clone());
            scope.spawn(move || {
                for key in keys {
                    let Ok(id) = maker.idle(key) else { return };
                    tell.send((key.clone(), id)).unwrap();
                }
            });
        }
        drop(tell);
        // Each round somewhat later: before the first, after the first, and so on.
        let mut acknowledged: BTreeMap<_, _> = told.iter().take(round * 2).collect();
        kill(world, daemon);
        acknowledged.extend(told.iter());
        acknowledged
    })
}

/// Calls the API of the daemon that runs now.
fn maker(world: &World) -> Maker {
    let token = std::fs::read_to_string(world.path("s/token")).unwrap();
    Maker::new(world.status()["server_url"].as_str().unwrap(), &token)
}

/// Returns the weavers that are there, without Loom in between.
fn ids(world: &World) -> BTreeSet<String> {
    let kubeconfig = world.status()["kubeconfig"].as_str().unwrap().to_owned();
    let kube = Kube::connect(kubeconfig.as_ref(), "loom-weavers");
    kube.weaver_ids()
}
