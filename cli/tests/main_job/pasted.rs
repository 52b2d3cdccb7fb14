//! A paste that is larger than any buffer on the way, into a program that does not read.

use rustix::process::Signal;

use crate::support::{Case, Terminal, World, until};

pub(crate) const CASES: &[Case] = &[
    ("pasted::the_keys_that_are_ours_still_work", keys),
    ("pasted::sigterm_still_works", sigterm),
    ("pasted::ctrl_c_ends_the_program_and_the_paste", ctrl_c),
    ("pasted::a_program_that_reads_late_gets_all_of_it", reads_late),
];

/// More than the window and than a host takes.
const PASTE: usize = 2 * 1024 * 1024;
const LINE: &str = "pasted 0123456789012345678901234567890123456789\r";

fn stuck(world: &World) -> Terminal {
    let mut terminal = world.shell("new --local");
    terminal.send("stty -echo; echo st''uck; exec sh -c 'sleep 1000; exit 7'\r");
    terminal.sees("\nstuck");
    terminal.send(&LINE.repeat(PASTE / LINE.len()));
    terminal
}

fn keys() {
    let world = World::new();
    let mut terminal = stuck(&world);
    terminal.send("\r~.");
    terminal.sees("disconnected; come back with: loom attach W-");
    assert_eq!(terminal.end(), 255);
    assert_eq!(terminal.unread(), 0, "the user's own shell would run the rest");
}

fn sigterm() {
    let world = World::new();
    let mut terminal = stuck(&world);
    terminal.signal(Signal::TERM);
    terminal.sees("interrupted; the weaver runs on; come back with: loom attach W-");
    assert_eq!(terminal.end(), 255);
    assert_eq!(terminal.unread(), 0, "the user's own shell would run the rest");
}

fn ctrl_c() {
    let world = World::new();
    let script = "stty -echo; trap 'echo got it' INT; echo stuck; sleep 1000; cat";
    let mut terminal = world.terminal("new --local -- sh -c", &[script]);
    terminal.sees("\nstuck");
    terminal.send(&LINE.repeat(PASTE / LINE.len()));
    // By itself, as fingers are slower than pastes; else it is a part of what is pasted. A shell
    // that is about to start its program hears it and forgets it.
    until("it is interrupted", || {
        terminal.send("\x03");
        std::thread::sleep(std::time::Duration::from_millis(100));
        terminal.raw().contains("got it")
    });
    terminal.send("alive\r");
    terminal.sees("\nalive");
    assert!(!terminal.raw().contains("pasted"), "{}", terminal.screen());
}

fn reads_late() {
    let world = World::new();
    let mut terminal = world.shell("new --local");
    let script = "stty raw -echo; echo st''uck; sleep 1; head -c 2000000 | md5sum; stty sane\r";
    terminal.send(script);
    terminal.sees("\nstuck");
    let line = LINE.repeat(2_000_000 / LINE.len() + 1);
    terminal.send(&line[..2_000_000]);
    terminal.wrote(&md5(&line.as_bytes()[..2_000_000]));
}

fn md5(bytes: &[u8]) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut sum = Command::new("md5sum");
    let mut sum = sum.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = sum.wait_with_output().unwrap();
    crate::support::text(&output.stdout)[..32].to_owned()
}
