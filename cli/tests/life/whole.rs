//! One weaver from its first byte to its end, by every verb.

use jiff::SignedDuration;

use crate::stage::Stage;
use crate::support::{Case, Terminal, code, show, text, until};

pub(crate) const CASES: &[Case] = &[("life::new_attach_exec_logs_extend_ps_expire_delete", whole)];

fn whole() {
    let stage = Stage::new();
    let id = new(&stage);
    attach(&stage, &id);
    exec(&stage);
    logs(&stage, &id);
    extend(&stage, &id);
    ps(&stage, &id);
    expire(&stage, &id);
    delete(&stage);
}

fn detach(mut terminal: Terminal, id: &str) {
    terminal.send("\x04");
    terminal.sees(&format!("detached; come back with: loom attach {id}"));
    assert_eq!(terminal.end(), 0);
}

fn new(stage: &Stage) -> String {
    let mut terminal = stage.shell("new --name web --ttl 2 --tag team=life -e GREETING=hello");
    let id = stage.only_id();
    terminal.send("echo id=$LOOM_WEAVER_ID $GREETING\r");
    terminal.sees(&format!("\nid={id} hello"));
    detach(terminal, &id);
    id
}

fn attach(stage: &Stage, id: &str) {
    let mut one = stage.terminal("attach web", &[]);
    one.sees(&format!("\nid={id} hello"));
    one.send("kept=ye''s\r");
    let mut two = stage.terminal("attach -", &[]);
    two.send("echo kept=$kept.\r");
    one.sees("\nkept=yes.");
    two.sees("\nkept=yes.");
    detach(one, id);
    detach(two, id);
}

fn exec(stage: &Stage) {
    assert_eq!(code(&stage.run("exec web -- sh -c", &["exit 9"])), 9);
    let input: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let output = stage.feed("exec web -- cat", &[], &input);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(output.stdout == input, "{} of {} bytes", output.stdout.len(), input.len());
    let both = stage.run("exec web -- sh -c", &["echo out; echo err >&2; tty"]);
    assert_eq!(text(&both.stdout), "out\nnot a tty\n", "{}", show(&both));
    assert!(text(&both.stderr).contains("err\n"), "{}", show(&both));
}

fn logs(stage: &Stage, id: &str) {
    // What the node writes down comes a moment later than what terminals show.
    until("the log has it", || stage.ok("logs web", &[]).contains(&format!("id={id} hello")));
    until("its end too", || stage.ok("logs --tail 2 web", &[]).contains("kept=yes."));
}

fn extend(stage: &Stage, id: &str) {
    let said = stage.ok("extend web 8", &[]);
    assert!(said.contains("8h after it was made"), "{said}");
    let (created, expires) = stage.kube.span(id);
    assert_eq!(expires.duration_since(created), SignedDuration::from_hours(8));
    let view = stage.find(id).unwrap();
    assert_eq!(view["lifetime_hours"], 8);
    assert_eq!(view["expires_at"], expires.to_string());
}

fn ps(stage: &Stage, id: &str) {
    until("its cluster knows that it runs", || stage.find(id).unwrap()["status"] == "Running");
    let table = stage.ok("weaver ps", &[]);
    let line = table.lines().find(|line| line.starts_with(id)).unwrap();
    // A long image is cut.
    let image: String = stage.image.chars().take(12).collect();
    assert!(line.contains(&image) && line.contains("Running"), "{table}");
    assert!(stage.ok("ps --tag team=life --json", &[]).contains(id));
    assert!(!stage.ok("ps --tag team=other --json", &[]).contains(id));
    let view = stage.find(id).unwrap();
    for (key, value) in [("status", "Running"), ("name", "web"), ("image", &stage.image)] {
        assert_eq!(view[key], value, "{view}");
    }
}

/// Somebody is attached when the deadline comes.
fn expire(stage: &Stage, id: &str) {
    let mut terminal = stage.terminal("attach web", &[]);
    terminal.sees("\nkept=yes.");
    assert_eq!(stage.sweep()["deleted"], 0);
    stage.kube.age(id, 9);
    let report = stage.sweep();
    assert_eq!((&report["expired"], &report["deleted"]), (&1.into(), &1.into()), "{report}");
    assert_eq!(terminal.end(), 255);
    terminal.sees(id);
    until("the pod is gone", || stage.kube.pod(id).is_none());
    let late = stage.run(&format!("attach {id}"), &[]);
    assert_eq!(code(&late), 255, "{}", show(&late));
}

fn delete(stage: &Stage) {
    let id = stage.weaver("--name web", "sleep 1000");
    assert_eq!(stage.ok("weaver delete web", &[]), format!("deleted {id}\n"));
    until("the pod is gone", || stage.kube.pod(&id).is_none());
    assert_eq!(stage.ok("rm", &[&id]), format!("deleted {id}\n"));
    assert!(stage.weavers().is_empty());
}
