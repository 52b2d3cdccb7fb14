//! The janitor is killed in the middle of a sweep.

use std::io::Read;
use std::process::{Child, Stdio};

use rustix::pipe::fcntl_setpipe_size;

use crate::stage::Stage;
use crate::support::{Case, until};

pub(crate) const CASES: &[Case] =
    &[("janitor::killed_in_the_middle_the_next_sweep_finishes", middle)];

/// More deletions than the janitor can log into a pipe of one page that nobody reads.
const EXPIRED: usize = 40;

fn middle() {
    // No node has that much: the pods cost nothing.
    let stage = Stage::with(&[
        ("LOOM_SERVER_WEAVER_CPU_REQUEST", "4000"),
        ("LOOM_SERVER_WEAVER_CPU_LIMIT", "4000"),
    ]);
    let maker = stage.maker();
    let make = |nth: usize| maker.idle(&format!("key-{nth}")).unwrap();
    let expired: Vec<_> = (0..EXPIRED).map(make).collect();
    let fresh = make(EXPIRED);
    expired.iter().for_each(|id| stage.kube.age(id, 4));
    kill_in_the_middle(&stage);
    let report = stage.sweep();
    let many = |what: &str| report[what].as_u64().unwrap();
    // The last deletion that was asked for may come to its end only now.
    assert!(many("deleted") >= 1 && many("ending") <= 1, "{report}");
    assert_eq!(many("deleted") + many("ending") + 1, many("listed"), "{report}");
    assert_eq!((many("kept"), many("failed")), (1, 0), "{report}");
    until("only the fresh one is left", || stage.kube.pods().len() == 1);
    assert!(stage.kube.pod(&fresh).is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()));
}

fn kill_in_the_middle(stage: &Stage) {
    let mut command = stage.janitor();
    command.env("LOOM_SERVER_WEAVER_CLEANUP_CONCURRENCY", "1");
    let mut child = Killed(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let stderr = child.0.stderr.as_mut().unwrap();
    fcntl_setpipe_size(&*stderr, 4096).unwrap();
    until("some are deleted", || stage.kube.pods().len() < EXPIRED);
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("Deleted an expired weaver"), "{said}");
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
