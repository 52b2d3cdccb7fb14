//! Starts that come to nothing: said in words, and nothing is left behind.

use crate::stage::Stage;
use crate::support::{Case, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("start::an_image_that_does_not_exist", no_image),
    ("start::an_image_that_does_not_exist_without_a_terminal", no_image_on_pipes),
    ("start::a_program_that_does_not_exist", no_program),
    ("start::more_than_a_node_has", too_much),
];

const NO_IMAGE: &str = "localhost:1/none/such:1";

/// It ends by itself, though a cluster may try for a while before.
fn no_image() {
    let stage = Stage::new();
    let mut terminal = stage.terminal(&format!("new --image {NO_IMAGE}"), &[]);
    terminal.wrote("loom: ErrImage");
    terminal.wrote(NO_IMAGE);
    terminal.wrote("deleted W-");
    assert_eq!(terminal.end(), 255);
    until("the pod is gone", || stage.kube.pods().is_empty());
}

fn no_image_on_pipes() {
    let stage = Stage::new();
    std::thread::scope(|scope| {
        for line in ["new --no-attach", "new --json", "new"] {
            let stage = &stage;
            scope.spawn(move || {
                let output = stage.run(&format!("{line} --image {NO_IMAGE}"), &[]);
                let said = text(&output.stderr);
                assert_eq!((code(&output), text(&output.stdout).as_str()), (255, ""), "{line}");
                let last = said.lines().last().unwrap_or_default();
                let named = last.starts_with("loom: ErrImage") && last.contains(NO_IMAGE);
                assert!(named && last.contains("; deleted W-"), "{line}: {said}");
            });
        }
    });
    until("the pods are gone", || stage.kube.pods().is_empty());
}

fn no_program() {
    let stage = Stage::new();
    let output = stage.run("new -- /no/such/program", &[]);
    assert!(matches!(code(&output), 126 | 127), "{}", show(&output));
    let id = stage.only_id();
    until("it has failed", || stage.find(&id).unwrap()["status"] == "Failed");
}

fn too_much() {
    let stage = Stage::with(&[
        ("LOOM_SERVER_WEAVER_CPU_REQUEST", "4000"),
        ("LOOM_SERVER_WEAVER_CPU_LIMIT", "4000"),
    ]);
    let mut terminal = stage.terminal("new", &[]);
    terminal.wrote("cpu");
    let view = stage.find(&stage.only_id()).unwrap();
    assert_eq!((&view["status"], &view["reason"]), (&"Pending".into(), &"Unschedulable".into()));
    terminal.send("\x03");
    terminal.sees("interrupted; deleted W-");
    assert_eq!(terminal.end(), 255);
    until("the pod is gone", || stage.kube.pods().is_empty());
    assert!(!text(&stage.run("ps", &[]).stdout).contains("W-"));
}
