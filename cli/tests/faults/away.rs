//! The daemon is away for a while, or comes back as another build: weavers do not mind.

use rustix::process::{Signal, kill_process};

use crate::relay_killed::number_after;
use crate::support::{Case, World, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("away::stopped_for_longer_than_anybody_waits_no_weaver_is_lost", stopped),
    ("away::replaced_by_another_build_under_a_terminal", replaced),
];

/// As when a laptop sleeps: everything stands still, connections and all.
fn stopped() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("echo shell=$$.\r");
    terminal.sees("\nshell=");
    let shell = number_after(&terminal.screen(), "\nshell=");
    let id = world.only_id();
    let daemon = world.daemon();
    kill_process(daemon, Signal::STOP).unwrap();
    let asked = world.run("ps");
    kill_process(daemon, Signal::CONT).unwrap();
    assert_eq!(code(&asked), 1, "{}", show(&asked));
    assert!(text(&asked.stderr).contains("did not answer in time"), "{}", show(&asked));
    assert_eq!(text(&asked.stderr).lines().count(), 1, "{}", show(&asked));
    // Whether it has given up depends on when the daemon was last heard.
    drop(terminal);
    let mut back = world.terminal("attach -", &[]);
    back.sees(&format!("\nshell={shell}."));
    back.send("echo after''wards=$$.\r");
    back.sees(&format!("\nafterwards={shell}."));
    assert_eq!(world.daemon(), daemon);
    world.becomes(&id, "Running");
}

/// `cargo install` of a newer one while somebody is at work in another window.
fn replaced() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("kept=ye''s; echo shell=$$.\r");
    terminal.sees("\nshell=");
    let shell = number_after(&terminal.screen(), "\nshell=");
    let (id, first) = (world.only_id(), world.daemon());
    say_more(&world);
    let newer = world.another_build();
    let run = |line: &str| {
        let mut command = std::process::Command::new(&newer);
        command.args(line.split_whitespace()).env_clear().envs(world.variables());
        let output = command.output().unwrap();
        assert_eq!(code(&output), 0, "{line}: {}", show(&output));
        text(&output.stdout)
    };
    assert!(run("ps").contains("Running"));
    assert_ne!(world.pid_of_daemon(), first, "the newer one runs");
    terminal.sees(&format!("come back with: loom attach {id}"));
    assert_eq!(terminal.end(), 255);
    let attach = vec!["attach".to_owned(), id.clone()];
    let mut back = crate::support::Terminal::start(&newer, attach, world.variables());
    back.sees(&format!("\nshell={shell}."));
    back.send("echo again=$$,$kept.\r");
    back.sees(&format!("\nagain={shell},yes."));
    assert_eq!(run(&format!("exec {id} -- echo alive")), "alive\n");
    until("the log has both", || {
        run(&format!("logs {id}")).contains(&format!("again={shell},yes."))
    });
    run(&format!("rm {id}"));
    until("it is gone", || !run("ps --json").contains(&id));
}

/// Makes what the pod's shim has written down hold more than this build knows.
fn say_more(world: &World) {
    for pod in std::fs::read_dir(world.path("s/pods")).unwrap().flatten() {
        for name in ["shim.json", "status.json", "spec.json"] {
            let path = pod.path().join(name);
            let said = std::fs::read(&path).unwrap();
            let mut said: serde_json::Value = serde_json::from_slice(&said).unwrap();
            said["fromAnotherBuild"] = serde_json::json!({"some": ["thing"]});
            std::fs::write(&path, said.to_string()).unwrap();
        }
    }
}
