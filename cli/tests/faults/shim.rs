//! The shim of a local pod is killed.

use serde_json::Value;

use crate::host_killed::in_pod;
use crate::processes::{Process, shims};
use crate::support::{Case, World, code, show, until};

pub(crate) const CASES: &[Case] = &[
    ("shim::killed_its_processes_are_gone_and_the_weaver_has_failed", killed),
    ("shim::killed_while_the_daemon_is_away", while_away),
];

fn killed() {
    let world = World::new();
    let (mark, id) = weaver(&world);
    let other = world.idle("");
    let shim = shim(&world, &id);
    let mut terminal = world.terminal(&format!("attach {id}"), &[]);
    terminal.sees("\nbefore");
    shim.kill();
    assert_ne!(terminal.end(), 0);
    until("its processes are gone", || in_pod(&mark).is_empty());
    has_failed(&world, &id);
    assert_eq!(world.weaver(&other).unwrap()["status"], "Running");
    assert_eq!(world.ok(&format!("rm {id}")), format!("deleted {id}\n"));
    until("it is gone", || world.weaver(&id).is_none());
}

fn while_away() {
    let world = World::new();
    let (mark, id) = weaver(&world);
    let shim = shim(&world, &id);
    world.ok("dev stop");
    shim.kill();
    until("its processes are gone", || in_pod(&mark).is_empty());
    has_failed(&world, &id);
}

/// Makes a weaver whose processes can be found by a mark.
fn weaver(world: &World) -> (String, String) {
    let mark = uuid::Uuid::new_v4().to_string();
    let script = format!("echo be''fore; sleep 1000; : {mark}");
    let mut terminal = world.terminal("new --local -- sh -c", &[&script]);
    terminal.sees("\nbefore");
    let id = world.only_id();
    terminal.send("\r~d");
    assert_eq!(terminal.end(), 0);
    assert!(!in_pod(&mark).is_empty());
    (mark, id)
}

/// Returns the shim of a weaver.
fn shim(world: &World, id: &str) -> Process {
    let mut shims = shims(&world.path("s/pods"));
    shims.remove(&pod_uid(world, id)).expect("a shim")
}

fn pod_uid(world: &World, id: &str) -> String {
    let kubeconfig = world.status()["kubeconfig"].as_str().unwrap().to_owned();
    let kube = crate::stage::kube::Kube::connect(kubeconfig.as_ref(), "loom-weavers");
    kube.pod(id).unwrap().metadata.uid.unwrap()
}

fn has_failed(world: &World, id: &str) {
    let mut view = Value::Null;
    until("the weaver has failed", || {
        view = world.weaver(id).unwrap();
        view["status"] == "Failed"
    });
    let reason = (&view["exit_code"], &view["reason"]);
    assert_eq!(reason, (&137.into(), &"ContainerStatusUnknown".into()), "{view}");
    assert!(view["message"].as_str().unwrap().contains("gone"), "{view}");
    let attach = world.run(&format!("attach {id}"));
    assert_eq!(code(&attach), 255, "{}", show(&attach));
}
