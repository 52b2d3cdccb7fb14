//! How many weavers this machine takes, and what is said to those that it does not take.

use std::io::{BufRead, BufReader};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Case, World, code, show};

pub(crate) const CASES: &[Case] = &[
    ("room::a_dozen_default_weavers_run_at_once", a_dozen),
    ("room::who_does_not_fit_is_told_what_to_do", no_room),
];

/// Their CPUs add up to more than there are; their memory is small so that it fits anywhere.
fn a_dozen() {
    let world = World::new();
    for _ in 0..12 {
        world.idle("--memory 64Mi");
    }
    let weavers = world.weavers();
    assert_eq!(weavers.len(), 12);
    assert!(weavers.iter().all(|weaver| weaver["status"] == "Running"), "{weavers:?}");
}

/// Makes a world in which nothing fits that does not ask for little memory.
pub(crate) fn crowded() -> World {
    let world = World::new();
    let mut start = world.command("dev --detach", &[]);
    for name in ["LOOM_SERVER_WEAVER_MEMORY_REQUEST", "LOOM_SERVER_WEAVER_MEMORY_LIMIT"] {
        start.env(name, "102400Gi");
    }
    let start = start.output().unwrap();
    assert_eq!(code(&start), 0, "{}", show(&start));
    world
}

fn no_room() {
    let world = crowded();
    let says = "`loom ps` shows what is there, `loom rm` makes room, or ask for less: \
                --memory 128Mi";
    let mut child = world.piped("new --local -- true", &[]);
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("has not enough memory left") && line.contains(says), "{line}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(255));
    let fits = world.run("new --local --memory 128Mi -- true");
    assert_eq!(code(&fits), 0, "{}", show(&fits));
}
