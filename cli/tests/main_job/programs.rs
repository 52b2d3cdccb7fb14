//! Programs that are not there, are killed, or write what does something to a terminal.

use crate::support::{Case, World, code, show, text};

pub(crate) const CASES: &[Case] = &[
    ("programs::exec_tells_what_is_not_there_as_a_shell_does", not_there),
    ("programs::out_of_memory_is_said", out_of_memory),
    ("programs::logs_of_a_shell_are_text_on_a_terminal", logs_of_a_shell),
];

fn not_there() {
    let world = World::new();
    world.idle("");
    for (command, wanted, said) in [
        ("nosuch", 127, "nosuch: command not found"),
        ("/no/such", 127, "/no/such: no such file or directory"),
        ("/etc/passwd", 126, "/etc/passwd: permission denied"),
    ] {
        let output = world.run(&format!("exec - -- {command}"));
        let line = format!("loom: {said}\n");
        assert_eq!((code(&output), text(&output.stderr)), (wanted, line), "{}", show(&output));
    }
    let mut terminal = world.terminal("exec -t - -- nosuch", &[]);
    terminal.wrote("loom: nosuch: command not found");
    assert_eq!(terminal.end(), 127);
}

/// Takes far more than it may, and touches it.
const HOG: &str = "head -c 1000000000 /dev/zero | tail -c 999999999 >/dev/null";

fn out_of_memory() {
    let world = World::new();
    let output = world.run_with("new --local --memory 64Mi -- bash -c", &[&format!("exec {HOG}")]);
    let limited = !text(&output.stderr).contains("memory cannot be limited");
    if limited {
        assert_eq!(code(&output), 137, "{}", show(&output));
        assert!(text(&output.stderr).contains("OOMKilled"), "{}", show(&output));
    }
}

/// What a shell writes to its terminal is text on another one, and as it was in a file.
fn logs_of_a_shell() {
    let world = World::new();
    let script =
        "printf '\\033]0;title\\007\\033[?2004h\\033[32m$ \\033[0mlx\\bs\\r\\n\\033[2Jend\\r\\n'";
    world.ok_with("new --local -- sh -c", &[script]);
    let raw = world.ok("logs -");
    assert!(raw.contains("\x1b]0;title\x07") && raw.contains("lx\x08s"), "{raw:?}");
    let mut terminal = world.terminal("logs -", &[]);
    terminal.sees("\n$ ls\nend");
    assert_eq!(terminal.end(), 0);
    let shown = terminal.raw();
    assert!(shown.contains("\x1b[32m$ \x1b[0mls") && !shown.contains("title"), "{shown:?}");
    assert!(!shown.contains("\x1b[?2004h") && !shown.contains("\x1b[2J"), "{shown:?}");
}
