//! The daemon in the background: found, restarted, stopped, and what outlives it.

use std::path::Path;

use rustix::process::{Signal, kill_process};

use crate::support::{Case, World, code, install, is_private, loom, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("daemon::the_first_local_weaver_makes_local_current", local_becomes_current),
    ("daemon::weavers_live_on_when_it_stops", weavers_live_on),
    ("daemon::killed_in_the_middle_the_next_attach_has_the_screen", killed_in_the_middle),
    ("daemon::a_copy_of_the_same_build_leaves_it_alone", a_copy),
    ("daemon::another_build_restarts_it_and_weavers_live_on", another_build),
    ("daemon::two_commands_start_one", two_commands_start_one),
    ("daemon::ctrl_c_at_any_moment_of_its_start_does_no_harm", interrupted_start),
    ("daemon::one_that_is_ending_is_waited_for", ending),
    ("daemon::reset_leaves_nothing", reset_leaves_nothing),
    ("daemon::prune_deletes_what_has_ended", prune),
    ("daemon::in_the_foreground", foreground),
    ("daemon::abuse_host_and_token", host_and_token),
];

fn local_becomes_current() {
    let world = World::new();
    let none = world.run("ps");
    assert_eq!(code(&none), 1);
    assert!(
        text(&none.stderr).contains("no server is known; `loom new --local`"),
        "{}",
        show(&none)
    );
    world.idle("");
    assert!(world.ok("ps").contains("Running"));
    let url = world.status()["server_url"].as_str().unwrap().to_owned();
    assert!(world.ok(&format!("ps --server-url {url}")).contains("Running"));
    for file in ["s", "s/token", "s/daemon.json", "s/kubeconfig", "c", "c/config.json"] {
        assert!(is_private(&world.path(file)), "{file}");
    }
}

fn weavers_live_on() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("kept=yes\r");
    terminal.send("\x04");
    assert_eq!(terminal.end(), 0);
    let first = world.daemon();
    assert_eq!(world.ok("dev stop"), "stopped; weavers live on\n");
    assert_eq!(world.status()["running"], false);
    assert_eq!(world.ok("dev stop"), "not running\n");
    world.becomes(&world.only_id(), "Running");
    assert_ne!(world.daemon(), first);
    let mut back = world.terminal("attach -", &[]);
    back.sees("\nready");
    back.send("echo kept=$kept.\r");
    back.sees("\nkept=yes.");
}

fn killed_in_the_middle() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("echo be''fore; sleep 1000\r");
    terminal.sees("\nbefore");
    let daemon = world.daemon();
    kill_process(daemon, Signal::KILL).unwrap();
    terminal.sees("come back with: loom attach W-");
    assert_eq!(terminal.end(), 255);
    let mut back = world.terminal("attach -", &[]);
    back.sees("\nbefore");
    assert_ne!(world.daemon(), daemon);
    back.send("\x03echo af''ter\r");
    back.sees("\nafter");
}

/// Runs `ps` as another `loom` and returns the daemon's process afterwards.
fn daemon_after_ps_of(world: &World, other: &Path) -> rustix::process::Pid {
    let mut command = std::process::Command::new(other);
    let output = command.arg("ps").env_clear().envs(world.variables()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", show(&output));
    assert!(text(&output.stdout).contains("Running"), "{}", show(&output));
    world.pid_of_daemon()
}

/// What `cargo install` makes of the program in target/, or a package of both.
fn a_copy() {
    let world = World::new();
    world.idle("");
    let copy = world.path("copied-loom");
    install(&loom(), &copy);
    std::fs::File::open(&copy).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(daemon_after_ps_of(&world, &copy), world.daemon());
}

fn another_build() {
    let world = World::new();
    world.idle("");
    let first = world.daemon();
    assert_ne!(daemon_after_ps_of(&world, &world.another_build()), first);
    assert_eq!(world.ok("exec - -- echo alive"), "alive\n");
}

fn two_commands_start_one() {
    let world = World::new();
    let children: Vec<_> = (0..4).map(|_| world.piped("ps --local", &[])).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{}", show(&output));
    }
    let log = std::fs::read_to_string(world.path("s/daemon.log")).unwrap();
    assert!(!log.contains("another `loom dev`"), "{log}");
}

/// Ctrl+C reaches everything on the terminal: the command, and a daemon that it has just started.
fn interrupted_start() {
    let world = World::new();
    world.ok("dev --detach");
    let mut told = String::new();
    for moment in 0..40 {
        world.ok("dev stop");
        let mut terminal = world.terminal("new --local -- sleep 1000", &[]);
        std::thread::sleep(std::time::Duration::from_millis(moment * 10));
        terminal.send("\x03");
        terminal.end();
        let after = world.run("ps --local");
        let screen = terminal.raw();
        told.push_str(&screen);
        assert_eq!(code(&after), 0, "after {moment}0 ms: {}\n{screen}", show(&after));
    }
    until("no weaver goes on that nobody knows of", || {
        let over = |weaver: &serde_json::Value| weaver["status"] == "Failed";
        let known = |weaver: &serde_json::Value| told.contains(weaver["id"].as_str().unwrap());
        world.weavers().iter().all(|weaver| over(weaver) || known(weaver))
    });
}

/// Ended by somebody else than `loom dev stop`, it still lives for a while and serves nobody.
fn ending() {
    let world = World::new();
    world.idle("");
    let first = world.daemon();
    let url = world.status()["server_url"].as_str().unwrap().to_owned();
    // Its last request takes as long as it may.
    let mut half = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    std::io::Write::write_all(&mut half, b"GET /api/weavers HTTP/1.1\r\n").unwrap();
    world.ok("ps");
    kill_process(first, Signal::TERM).unwrap();
    until("it serves no longer", || world.status()["running"] == false);
    let after = world.run("ps");
    assert_eq!(code(&after), 0, "{}", show(&after));
    assert_ne!(world.daemon(), first);
}

fn reset_leaves_nothing() {
    let world = World::new();
    world.idle("");
    let asked = world.run("dev reset");
    assert_eq!(code(&asked), 1, "{}", show(&asked));
    assert!(world.ok("ps").contains("Running"));
    world.ok("dev reset --yes");
    let left: Vec<_> = std::fs::read_dir(world.path("s"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["start.lock"]);
    assert_eq!(code(&world.run("ps")), 1);
    let state = world.path("s").display().to_string();
    until("no process of the pods is left", || {
        let holds = |entry: std::fs::DirEntry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            text(&line).contains(&state)
        };
        !std::fs::read_dir("/proc").unwrap().flatten().any(holds)
    });
}

fn prune() {
    let world = World::new();
    world.ok("new --local -- true");
    let id = world.idle("");
    until("it has ended", || world.weavers().iter().any(|weaver| weaver["status"] == "Succeeded"));
    assert_eq!(world.ok("dev prune"), "deleted 1 weavers that had ended\n");
    until("only one is left", || world.weavers().len() == 1);
    assert_eq!(world.only_id(), id);
}

fn foreground() {
    let world = World::new();
    let mut terminal = world.terminal("dev", &[]);
    terminal.sees("try: loom new --local");
    assert_eq!(world.status()["running"], true);
    let second = world.run("dev");
    assert_eq!(code(&second), 1, "{}", show(&second));
    world.idle("");
    terminal.send("\x03");
    terminal.sees("stopped; weavers live on");
    assert_eq!(terminal.end(), 0);
    assert!(world.ok("ps").contains("Running"));
}

fn host_and_token() {
    use std::io::{Read, Write};
    let world = World::new();
    world.idle("");
    let url = world.status()["server_url"].as_str().unwrap().to_owned();
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let token = std::fs::read_to_string(world.path("s/token")).unwrap();
    let ask = |host: &str, more: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request =
            format!("GET /api/weavers HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_whitespace().nth(1).unwrap().to_owned()
    };
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    assert_eq!(ask(&address, &bearer), "200");
    assert_eq!(ask("evil.example", &bearer), "403");
    assert_eq!(ask(&address, ""), "401");
    assert_eq!(ask(&address, &format!("{bearer}Origin: http://evil.example\r\n")), "403");
    assert!(token.trim().len() >= 32);
}
