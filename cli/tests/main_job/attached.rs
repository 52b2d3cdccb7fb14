//! Sessions on a terminal.

use rustix::process::Signal;

use crate::support::{Case, World, code, show, text};

pub(crate) const CASES: &[Case] = &[
    ("attached::create_type_detach_and_come_back", create_type_detach_and_come_back),
    ("attached::another_size_reaches_the_program", another_size_reaches_the_program),
    ("attached::two_at_once_see_the_same", two_at_once_see_the_same),
    ("attached::exit_and_attach_again", exit_and_attach_again),
    ("attached::a_commands_code_is_ours", a_commands_code_is_ours),
    ("attached::ctrl_d_reaches_a_program_that_reads", ctrl_d_reaches_a_program_that_reads),
    ("attached::escape_keys", escape_keys),
    ("attached::modes_are_undone_when_leaving", modes_are_undone_when_leaving),
    ("attached::signals_restore_the_terminal", signals_restore_the_terminal),
    ("attached::rm_deletes_at_the_end", rm_deletes_at_the_end),
    ("attached::ctrl_c_while_waiting_deletes_the_pod", ctrl_c_while_waiting_deletes_the_pod),
    ("attached::ctrl_c_reaches_the_program", ctrl_c_reaches_the_program),
    ("attached::a_deleted_weaver_ends_the_session", a_deleted_weaver_ends_the_session),
    ("attached::attach_without_an_id", attach_without_an_id),
];

fn create_type_detach_and_come_back() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    assert!(terminal.is_raw());
    let id = world.only_id();
    terminal.send("echo id=$LOOM_WEAVER_ID\r");
    terminal.sees(&format!("\nid={id}"));
    terminal.send("\x04");
    terminal.sees(&format!("\ndetached; come back with: loom attach {id}"));
    assert_eq!(terminal.end(), 0);
    world.becomes(&id, "Running");
    let table = world.ok("weaver ps");
    assert!(
        table.contains(&format!("{id} loom.local/host         Running    0.0h    4h")),
        "{table}"
    );
    let mut back = world.terminal(&format!("attach {id}"), &[]);
    back.sees(&format!("\nid={id}"));
    back.send("echo a''gain\r");
    back.sees("\nagain");
    back.send("\x04");
    assert_eq!(back.end(), 0);
    assert_eq!(world.ok(&format!("weaver delete {id}")), format!("deleted {id}\n"));
    world.is_empty();
    let gone = world.run(&format!("attach {id}"));
    assert_eq!(code(&gone), 255, "{}", show(&gone));
}

fn another_size_reaches_the_program() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("stty size\r");
    terminal.sees("\n24 80");
    terminal.resize(40, 100);
    terminal.send("until [ \"$(stty size)\" = '40 100' ]; do :; done; echo it''is\r");
    terminal.sees("\nitis");
}

fn two_at_once_see_the_same() {
    let world = World::new();
    let mut one = world.shell("new --local");
    let mut two = world.terminal("attach -", &[]);
    two.sees("\nready");
    one.send("echo from''one\r");
    one.sees("\nfromone");
    two.sees("\nfromone");
    two.send("echo from''two\r");
    one.sees("\nfromtwo");
    two.sees("\nfromtwo");
    one.send("\x04");
    assert_eq!(one.end(), 0);
    two.send("echo al''one\r");
    two.sees("\nalone");
}

fn exit_and_attach_again() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("left=behind\r");
    terminal.send("exit\r");
    terminal.sees("detached; come back with: loom attach W-");
    assert_eq!(terminal.end(), 0);
    let id = world.only_id();
    world.becomes(&id, "Running");
    let mut fresh = world.terminal("attach -", &[]);
    fresh.send("echo left=$left.\r");
    fresh.sees("\nleft=.");
}

fn a_commands_code_is_ours() {
    let world = World::new();
    let mut terminal = world.terminal("new --local -- sh -c", &["tty; exit 7"]);
    terminal.wrote("/dev/pts/");
    assert_eq!(terminal.end(), 7);
    let id = world.only_id();
    assert_eq!(world.becomes(&id, "Failed")["exit_code"], 7);
    let again = world.run(&format!("attach {id}"));
    assert_eq!(code(&again), 255);
    assert!(text(&again.stderr).contains("Failed"), "{}", show(&again));
}

fn ctrl_d_reaches_a_program_that_reads() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("echo st''arted; cat; echo ca''tdone\r");
    terminal.sees("\nstarted");
    terminal.send("line\r");
    terminal.sees("\nline\nline");
    terminal.send("\x04");
    terminal.sees("\ncatdone");
    terminal.send("\x04");
    assert_eq!(terminal.end(), 0);
}

fn escape_keys() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("echo tilde''~.\r");
    terminal.sees("\ntilde~.");
    terminal.send("~?");
    terminal.sees("~.  disconnect");
    terminal.send("\r~~\x15");
    terminal.send("\r~d");
    assert_eq!(terminal.end(), 0);
    let mut again = world.terminal("attach -", &[]);
    again.send("\recho th''ere\r");
    again.sees("\nthere");
    again.send("~.");
    again.sees("disconnected; come back with: loom attach W-");
    assert_eq!(again.end(), 255);
    world.becomes(&world.only_id(), "Running");
}

fn modes_are_undone_when_leaving() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    terminal.send("printf '\\033[?1049h\\033[?25l\\033[?1000h\\033[31mse''t'; cat >/dev/null\r");
    terminal.wrote("\x1b[31mset");
    terminal.send("\r~d");
    assert_eq!(terminal.end(), 0);
    let raw = terminal.raw();
    let (_, after) = raw.rsplit_once("\x1b[31mset").unwrap();
    for undo in ["\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l", "\x1b[0m"] {
        assert!(after.contains(undo), "{undo:?} is not in {after:?}");
    }
}

fn signals_restore_the_terminal() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    for signal in [Signal::TERM, Signal::HUP] {
        assert!(terminal.is_raw());
        terminal.signal(signal);
        terminal.sees("interrupted; the weaver runs on; come back with: loom attach W-");
        assert_eq!(terminal.end(), 255);
        terminal = world.terminal("attach -", &[]);
        terminal.sees("\nready");
        terminal.send("echo fr''esh\r");
        terminal.sees("\nfresh");
    }
}

fn rm_deletes_at_the_end() {
    let world = World::new();
    let mut ended = world.terminal("new --local --rm -- sh -c", &["exit 3"]);
    assert_eq!(ended.end(), 3);
    world.is_empty();
    let mut detached = world.shell("new --local --rm");
    detached.send("\x04");
    assert_eq!(detached.end(), 0);
    world.is_empty();
}

fn ctrl_c_while_waiting_deletes_the_pod() {
    let world = crate::room::crowded();
    let mut terminal = world.terminal("new --local", &[]);
    terminal.sees("Unschedulable: the cluster has not enough memory left");
    assert!(!terminal.is_raw());
    terminal.send("\x03");
    terminal.sees("interrupted; deleted W-");
    assert_eq!(terminal.end(), 255);
    world.is_empty();
}

fn ctrl_c_reaches_the_program() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    // A shell that has not yet started its program may forget what it is told.
    terminal.send("sh -c 'echo st\"\"arted; exec sleep 1000'\r");
    terminal.sees("\nstarted");
    terminal.send("\x03");
    terminal.send("echo co''de=$?\r");
    terminal.sees("\ncode=130");
}

fn a_deleted_weaver_ends_the_session() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    let id = world.only_id();
    world.ok("rm -");
    terminal.wrote(&id);
    assert_eq!(terminal.end(), 255);
}

fn attach_without_an_id() {
    let world = World::new();
    let none = world.run("attach --local");
    assert_eq!(code(&none), 255);
    assert!(text(&none.stderr).contains("no weaver is running"), "{}", show(&none));
    let mut terminal = world.shell("new --local");
    terminal.send("\x04");
    assert_eq!(terminal.end(), 0);
    let only = world.terminal("attach", &[]);
    only.sees("\nready");
    world.idle("");
    let two = world.run("attach");
    assert_eq!(code(&two), 255);
    assert!(text(&two.stderr).contains("2 weavers are running"), "{}", show(&two));
}
