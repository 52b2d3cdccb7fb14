//! Parts of the node are killed, and the node goes away.

use crate::part::{Outage, works};
use crate::reader::{LINES, Reader};
use crate::stage::Stage;
use crate::support::{Case, Terminal, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("node::abuse_kubelet_restarted_under_a_terminal", kubelet),
    ("node::abuse_containerd_restarted_under_a_terminal", containerd),
    ("node::abuse_a_node_that_goes_away", away),
];

/// Longer than anybody waits for a node before it counts as gone: 50 s by default.
const AWAY: u32 = 80;

fn kubelet() {
    under_a_terminal("kubelet", 3);
}

fn containerd() {
    under_a_terminal("containerd", 3);
}

/// The session goes on; whoever resumes misses no byte, whoever comes back finds the same shell.
fn under_a_terminal(part: &str, seconds: u32) {
    let mut stage = Stage::new();
    let mut terminal = stage.shell("new --name shell");
    terminal.send("kept=ye''s\r");
    let id = stage.only_id();
    let writer = stage.weaver("", LINES);
    let mut reader = Reader::new(&stage, &writer);
    reader.until("line 40.");
    let outage = Outage::of(part, seconds, &stage);
    terminal.sees(&format!("come back with: loom attach {id}"));
    assert_eq!(terminal.end(), 255);
    outage.ends();
    is_the_same(&stage);
    // A node that has just come back may not run anything yet.
    until("a program is run", || {
        code(&stage.run(&format!("exec {writer} -- touch /tmp/stop"), &[])) == 0
    });
    reader.until("\nall ");
    reader.has_all();
    assert!(reader.lost > 0, "its connection was never lost");
    works(&mut stage);
}

/// Attaches to the shell: what was set is set, and nobody else's terminal makes it smaller.
fn is_the_same(stage: &Stage) {
    let mut back: Terminal = stage.terminal("attach shell", &[]);
    back.resize(40, 100);
    back.send("echo kept=$kept. $(until [ \"$(stty size)\" = '40 100' ]; do sleep 0.2; done; stty size)\r");
    back.sees("\nkept=yes. 40 100");
}

fn away() {
    let mut stage = Stage::new();
    let mut terminal = stage.shell("new --name shell");
    terminal.send("kept=ye''s\r");
    let id = stage.only_id();
    let outage = Outage::of("kubelet", AWAY, &stage);
    assert_eq!(terminal.end(), 255);
    until("its status is unknown", || stage.find(&id).unwrap()["status"] == "Unknown");
    let view = stage.find(&id).unwrap();
    assert_eq!(view["reason"], "NodeUnreachable", "{view}");
    let why = view["message"].as_str().unwrap();
    assert!(why.starts_with("Kubernetes has lost contact with "), "{view}");
    assert!(stage.ok("ps", &[]).contains("Unknown"));
    let refused = stage.run("attach shell", &[]);
    assert_eq!(code(&refused), 255, "{}", show(&refused));
    assert!(text(&refused.stderr).contains(why), "{}", show(&refused));
    let refused = stage.run("exec shell -- true", &[]);
    assert!(text(&refused.stderr).contains(why), "{}", show(&refused));
    outage.ends();
    until("it runs again", || stage.find(&id).unwrap()["status"] == "Running");
    is_the_same(&stage);
    works(&mut stage);
}
