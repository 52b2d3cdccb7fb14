//! The API server is killed.

use std::io::Read;
use std::process::{Child, Stdio};

use rustix::pipe::fcntl_setpipe_size;
use serde_json::Value;

use crate::makers::{self, NO_ROOM};
use crate::part::{Outage, works};
use crate::reader::{LINES, Reader};
use crate::stage::Stage;
use crate::support::{Case, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("api_server::abuse_killed_during_creates", creates),
    ("api_server::abuse_killed_during_attach", attach),
    ("api_server::abuse_killed_during_lists", lists),
    ("api_server::abuse_killed_during_a_start", start),
    ("api_server::abuse_killed_during_a_sweep", sweep),
];

const PART: &str = "kube-apiserver";
/// Time enough for some calls on a busy machine.
const SECONDS: u32 = 5;

fn creates() {
    let stage = Stage::with(NO_ROOM);
    let made = makers::during(&stage, || Outage::begins(PART, SECONDS, &stage).ends());
    makers::each_is_there_once(&stage, &made);
    drop(stage);
    works(&mut Stage::new());
}

/// The terminal's bytes go through the API server: it tells how to come back, and then all is there.
fn attach() {
    let mut stage = Stage::new();
    let mut terminal = stage.shell("new --name shell");
    terminal.send("kept=ye''s\r");
    let id = stage.only_id();
    let writer = stage.weaver("", LINES);
    let mut reader = Reader::new(&stage, &writer);
    reader.until("line 40.");
    let outage = Outage::begins(PART, SECONDS, &stage);
    terminal.sees(&format!("come back with: loom attach {id}"));
    assert_eq!(terminal.end(), 255);
    let refused = stage.run(&format!("attach {id}"), &[]);
    assert_eq!(code(&refused), 255, "{}", show(&refused));
    assert!(text(&refused.stderr).contains("Kubernetes is not available"), "{}", show(&refused));
    outage.ends();
    let mut back = stage.terminal("attach shell", &[]);
    back.send("echo kept=$kept.\r");
    back.sees("\nkept=yes.");
    stage.ok(&format!("exec {writer} -- touch /tmp/stop"), &[]);
    reader.until("\nall ");
    reader.has_all();
    assert!(reader.lost > 0, "its connection was never lost");
    works(&mut stage);
}

fn lists() {
    let mut stage = Stage::new();
    let ids: Vec<_> = (0..3).map(|_| stage.weaver("", "sleep 1000")).collect();
    let outage = Outage::begins(PART, SECONDS, &stage);
    let mut refused = 0;
    while !outage.is_over() {
        let output = stage.run("ps --json", &[]);
        if code(&output) == 0 {
            // It is back a moment before its own command has ended.
            continue;
        }
        let said = text(&output.stderr);
        assert_eq!((code(&output), said.lines().count()), (1, 1), "{}", show(&output));
        assert!(said.contains("Kubernetes is not available"), "{}", show(&output));
        assert!(output.stdout.is_empty(), "no part of a list is taken for the whole");
        refused += 1;
    }
    assert!(refused > 0, "nothing was asked for meanwhile");
    outage.ends();
    let mut listed = stage.weavers();
    listed.retain(|weaver: &Value| ids.iter().any(|id| weaver["id"] == id.as_str()));
    assert_eq!(listed.len(), ids.len());
    works(&mut stage);
}

/// Gives every pod a node again, however the test went.
struct Cordon<'a>(&'a Stage);

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        self.0.kube.cordon(false);
    }
}

/// Who waits for a start is told nothing of it; who asks for one meanwhile waits a little longer.
fn start() {
    let mut stage = Stage::new();
    stage.kube.cordon(true);
    let cordon = Cordon(&stage);
    let first = Waits::of(&stage, "first");
    until("it waits for a node", || stage.kube.pods().len() == 1);
    let outage = Outage::begins(PART, SECONDS, &stage);
    let second = Waits::of(&stage, "second");
    outage.ends();
    drop(cordon);
    let ids: Vec<_> = [first, second].map(Waits::id).into();
    until("both are there, once", || stage.kube.weaver_ids() == ids.iter().cloned().collect());
    for id in ids {
        assert_eq!(stage.find(&id).unwrap()["status"], "Running");
    }
    works(&mut stage);
}

/// A `loom new` that waits for its weaver.
struct Waits(Child);

impl Waits {
    fn of(stage: &Stage, name: &str) -> Self {
        let mut command = stage.command("new --no-attach --name", &[name, "--", "sleep", "1000"]);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn id(self) -> String {
        let output = self.0.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{}", show(&output));
        text(&output.stdout).trim().to_owned()
    }
}

/// More deletions than the janitor can log into a pipe of one page that nobody reads.
const EXPIRED: usize = 40;

fn sweep() {
    let stage = Stage::with(NO_ROOM);
    let maker = stage.maker();
    let make = |nth: usize| maker.idle(&format!("key-{nth}")).unwrap();
    let expired: Vec<_> = (0..EXPIRED).map(make).collect();
    let fresh = make(EXPIRED);
    expired.iter().for_each(|id| stage.kube.age(id, 4));
    let mut command = stage.janitor();
    command.env("LOOM_SERVER_WEAVER_CLEANUP_CONCURRENCY", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    fcntl_setpipe_size(&stderr, 4096).unwrap();
    until("some are deleted", || stage.kube.pods().len() < EXPIRED);
    let outage = Outage::begins(PART, SECONDS, &stage);
    // It goes on when somebody reads, and finds nobody to ask.
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}\n{said}", show(&output));
    assert!(said.contains("An expired weaver cannot be deleted"), "{said}");
    outage.ends();
    let report = stage.sweep();
    assert_eq!((&report["kept"], &report["failed"]), (&1.into(), &0.into()), "{report}");
    until("only the fresh one is left", || stage.kube.pods().len() == 1);
    assert!(stage.kube.pod(&fresh).is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()));
    drop(stage);
    works(&mut Stage::new());
}
