//! Several users of one machine, each with a local cluster of their own, at the same time.

use std::os::unix::fs::chown;
use std::process::Command;

use crate::support::{Case, World, code, install, loom, show, text};

pub(crate) const CASES: &[Case] = &[("users::of_one_machine_do_not_meet", apart)];

/// Users that no account has, beside the one who runs this.
const OTHERS: [u32; 2] = [61_017, 61_018];

/// Runs `loom` as somebody.
fn run(world: &World, user: Option<u32>, line: &str) -> String {
    let program = world.path("loom");
    let mut command = match user {
        None => Command::new(&program),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={user}"), &format!("--regid={user}")]);
            command.arg("--clear-groups").arg(&program);
            command
        }
    };
    command.args(line.split_whitespace()).env_clear().envs(world.variables());
    let output = command.current_dir(world.path("")).output().unwrap();
    assert_eq!(code(&output), 0, "{user:?}: {line}: {}", show(&output));
    text(&output.stdout)
}

fn apart() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else can be played.
        return;
    }
    let users: Vec<_> = std::iter::once(None).chain(OTHERS.map(Some)).collect();
    let worlds: Vec<_> = users.iter().map(|user| (world_of(*user), *user)).collect();
    let made: Vec<String> = std::thread::scope(|scope| {
        let make = |(world, user): &(World, Option<u32>)| {
            run(world, *user, "new --local --no-attach -- sleep 1000").trim().to_owned()
        };
        let threads: Vec<_> = worlds.iter().map(|one| scope.spawn(move || make(one))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let list = |(world, user): &(World, Option<u32>)| {
        let list = run(world, *user, "ps --json");
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let ids = list["weavers"].as_array().unwrap().iter();
        ids.map(|weaver| weaver["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (one, id) in worlds.iter().zip(&made) {
        assert_eq!(list(one), [id.as_str()], "each has its own only");
        assert_eq!(run(&one.0, one.1, "exec - -- echo here"), "here\n");
    }
    // One that ends takes nothing of the others along.
    let (first, rest) = worlds.split_first().unwrap();
    run(&first.0, first.1, "dev reset --yes");
    for one in rest {
        assert_eq!(run(&one.0, one.1, "exec - -- echo still"), "still\n");
        run(&one.0, one.1, "dev reset --yes");
    }
}

fn world_of(user: Option<u32>) -> World {
    let world = World::new();
    install(&loom(), &world.path("loom"));
    if let Some(user) = user {
        chown(world.path(""), Some(user), Some(user)).unwrap();
    }
    world
}
