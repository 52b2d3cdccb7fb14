//! The relay is killed in the middle of a stream.

use crate::stage::Stage;
use crate::support::{Case, until};

pub(crate) const CASES: &[Case] = &[
    ("relay::killed_mid_stream_the_next_attach_has_the_screen_and_the_log_every_line", mid_stream),
    ("relay::killed_under_a_shell_the_shell_is_the_same", same_shell),
];

/// Prints numbered lines until it is told to stop, then how many.
const LINES: &str = "i=0; until [ -e /tmp/stop ]; do n=0; while [ $n -lt 20 ]; do \
    n=$((n+1)); i=$((i+1)); echo \"line $i.\"; done; sleep 0.02; done; echo \"all $i.\"; sleep 1000";

fn mid_stream() {
    let mut stage = Stage::new();
    let mut terminal = stage.terminal("new -- sh -c", &[LINES]);
    terminal.wrote("line 100.");
    let id = stage.only_id();
    stage.relay.kill();
    terminal.sees(&format!("come back with: loom attach {id}"));
    assert_eq!(terminal.end(), 255);
    // A node tells of a start a moment after it.
    until("it runs on", || stage.find(&id).unwrap()["status"] == "Running");
    stage.relay.restart();
    let back = stage.terminal(&format!("attach {id}"), &[]);
    back.sees("\nline ");
    stage.ok(&format!("exec {id} -- touch /tmp/stop"), &[]);
    back.sees("\nall ");
    let log = || stage.ok(&format!("logs {id}"), &[]).replace('\r', "");
    until("the log has the last line", || log().contains("\nall "));
    let log = log();
    let (lines, all) = log.trim_end().rsplit_once("\nall ").unwrap();
    let all: usize = all.trim_end_matches('.').parse().unwrap();
    back.sees(&format!("\nline {all}.\nall {all}."));
    let wanted: Vec<_> = (1..=all).map(|nth| format!("line {nth}.")).collect();
    let got: Vec<_> = lines.lines().collect();
    let other = got.iter().zip(&wanted).position(|(got, wanted)| got != wanted);
    let around = other.map(|at| &got[at.saturating_sub(3)..(at + 3).min(got.len())]);
    assert_eq!((around, got.len()), (None, wanted.len()));
}

fn same_shell() {
    let mut stage = Stage::new();
    let mut terminal = stage.shell("new");
    terminal.send("kept=ye''s; echo shell=$$.\r");
    terminal.sees("\nshell=");
    let shell = number_after(&terminal.screen(), "\nshell=");
    stage.relay.kill();
    assert_eq!(terminal.end(), 255);
    stage.relay.restart();
    let mut back = stage.terminal("attach -", &[]);
    back.sees(&format!("\nshell={shell}."));
    back.send("echo again=$$,$kept.\r");
    back.sees(&format!("\nagain={shell},yes."));
}

/// Reads the digits that follow a text.
pub(crate) fn number_after(screen: &str, text: &str) -> String {
    let (_, rest) = screen.split_once(text).unwrap();
    rest.chars().take_while(char::is_ascii_digit).collect()
}
