//! A weaver's first process is killed from outside.

use crate::processes::{Process, that_hold};
use crate::stage::Stage;
use crate::support::{Case, until};

pub(crate) const CASES: &[Case] = &[("host::killed_the_weaver_has_failed_with_137", killed)];

fn killed() {
    let stage = Stage::new();
    let mark = uuid::Uuid::new_v4().to_string();
    let script = format!("echo be''fore; sleep 1000; : {mark}");
    let mut terminal = stage.terminal("new -- sh -c", &[&script]);
    terminal.sees("\nbefore");
    let id = stage.only_id();
    host(&mark).kill();
    assert_eq!(terminal.end(), 137, "{}", terminal.screen());
    until("the weaver has failed", || stage.find(&id).unwrap()["pod_phase"] == "Failed");
    let view = stage.find(&id).unwrap();
    assert_eq!((&view["status"], &view["exit_code"]), (&"Failed".into(), &137.into()), "{view}");
    let state = stage.kube.pod(&id).unwrap().status.unwrap().container_statuses.unwrap().remove(0);
    let ended = state.state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("Error")));
    until("nothing of it is left", || in_pod(&mark).is_empty());
    assert!(stage.ok(&format!("logs {id}"), &[]).contains("before"));
}

/// Returns the host whose command holds a mark.
fn host(mark: &str) -> Process {
    let mut found = in_pod(mark);
    found.retain(|process| process.starts_with(&["/run/loom/tools/loom-host", "run"]));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Returns what runs with a mark; our own `loom new` has it too.
pub(crate) fn in_pod(mark: &str) -> Vec<Process> {
    let mut found = that_hold(mark);
    found.retain(|process| !process.starts_with(&[crate::support::loom().to_str().unwrap()]));
    found
}
