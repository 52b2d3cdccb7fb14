//! A part of the cluster that is killed and comes back.

use std::process::Output;
use std::thread::JoinHandle;

use crate::stage::Stage;
use crate::stage::kube::Kube;
use crate::support::{code, show, unsupported, until};

/// Says why the API server cannot be killed here, and why other parts cannot.
pub(crate) fn lacking() -> [Option<String>; 2] {
    if !crate::stage::is_given() {
        let one = "a local cluster is one process, and LOOM_TEST_KUBECONFIG names no other";
        return [unsupported(), Some(one.to_owned())];
    }
    let none = std::env::var_os("LOOM_TEST_RESTART").is_none();
    let why = "LOOM_TEST_RESTART names no command that kills a part of the cluster";
    [(); 2].map(|()| none.then(|| why.to_owned()))
}

/// The time in which a part is dead.
pub(crate) struct Outage<'a> {
    kube: &'a Kube,
    command: Option<JoinHandle<Output>>,
}

impl<'a> Outage<'a> {
    /// Kills a part; it is started again so many seconds later.
    pub(crate) fn of(part: &str, seconds: u32, stage: &'a Stage) -> Self {
        let mut restart = stage.restart(part, seconds);
        let command = std::thread::spawn(move || restart.output().unwrap());
        Self { kube: &stage.kube, command: Some(command) }
    }

    /// Kills a part without which the cluster answers nothing, and waits until that is so.
    pub(crate) fn begins(part: &str, seconds: u32, stage: &'a Stage) -> Self {
        let outage = Self::of(part, seconds, stage);
        until("the cluster does not answer", || !stage.kube.is_well());
        assert!(!outage.is_over(), "it was not seen to be away");
        outage
    }

    /// Tells whether the part has been started again.
    pub(crate) fn is_over(&self) -> bool {
        self.command.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the cluster is as before.
    pub(crate) fn ends(mut self) {
        let output = self.started_again();
        assert_eq!(code(&output), 0, "{}", show(&output));
        until("the cluster is well again", || self.kube.is_well());
    }

    fn started_again(&mut self) -> Output {
        self.command.take().unwrap().join().unwrap()
    }
}

impl Drop for Outage<'_> {
    /// The next test finds a cluster that is well, however this one went.
    fn drop(&mut self) {
        if self.command.is_some() {
            let output = self.started_again();
            eprintln!("after a test that failed: {}", show(&output));
            let healed = (0..600).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(100));
                self.kube.is_well()
            });
            eprintln!("the cluster is well again: {healed}");
        }
    }
}

/// Fails unless everything works: a weaver starts, runs a program and goes.
pub(crate) fn works(stage: &mut Stage) {
    stage.handlers.until_ready();
    stage.relay.until_ready();
    assert_eq!(stage.ok("new --rm -- echo", &["all is well"]), "all is well\n");
}
