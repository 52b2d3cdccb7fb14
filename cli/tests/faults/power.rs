//! The power of a person's machine goes.

use std::os::unix::fs::FileExt;

use crate::daemon::kill;
use crate::processes::{shims, that_hold};
use crate::support::{Case, World, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("power::power_lost_in_the_middle_of_a_write", power_lost),
    ("power::a_log_with_a_wrong_end", wrong_end),
];

const LOG: &str = "s/store/objects.log";

/// Everything dies at once, and the last write is half on the disk: all else is there, what ran is
/// told to be gone, and new weavers start.
fn power_lost() {
    let world = World::new();
    let ids: Vec<_> = (0..3).map(|_| world.idle("")).collect();
    ids.iter().for_each(|id| drop(world.becomes(id, "Running")));
    kill_all(&world);
    let log = std::fs::OpenOptions::new().write(true).open(world.path(LOG)).unwrap();
    let len = log.metadata().unwrap().len();
    log.set_len(len - 3).unwrap();
    starts_again(&world, &ids);
}

/// A disk that was cut off may have bytes there that nobody wrote.
fn wrong_end() {
    let world = World::new();
    let ids = [world.idle("")];
    world.becomes(&ids[0], "Running");
    kill_all(&world);
    let log = std::fs::OpenOptions::new().write(true).open(world.path(LOG)).unwrap();
    let len = log.metadata().unwrap().len();
    log.write_all_at(&[0; 4096], len).unwrap();
    starts_again(&world, &ids);
}

fn kill_all(world: &World) {
    let pods = shims(&world.path("s/pods"));
    kill(world, world.daemon());
    let spares = shims(&world.path("s/spares"));
    for shim in pods.values().chain(spares.values()) {
        shim.kill();
    }
    let folder = world.path("s").display().to_string();
    until("all of it is dead", || that_hold(&folder).is_empty());
}

fn starts_again(world: &World, ids: &[String]) {
    for id in ids {
        let view = world.becomes(id, "Failed");
        assert_eq!(view["reason"], "ContainerStatusUnknown", "{view}");
    }
    let new = world.run_with("new --local --rm -- sh -c", &["echo on; exit 4"]);
    assert_eq!((code(&new), text(&new.stdout).as_str()), (4, "on\n"), "{}", show(&new));
    ids.iter().for_each(|id| drop(world.ok(&format!("rm {id}"))));
    until("they are gone", || world.weavers().is_empty());
}
