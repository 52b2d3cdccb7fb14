//! A part of the cluster that is killed and comes back.

use std::ffi::OsString;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use crate::stage::Stage;
use crate::stage::kube::Kube;
use crate::support::{code, show, until};

fn command() -> Option<OsString> {
    std::env::var_os("LOOM_TEST_RESTART")
}

/// Says why nothing can be killed here.
pub(crate) fn lacking() -> Option<&'static str> {
    if !crate::stage::is_given() {
        return Some("LOOM_TEST_KUBECONFIG is not set, and a local cluster has no such parts");
    }
    let none = command().is_none();
    none.then_some("LOOM_TEST_RESTART is not set: a command that kills a part of the cluster")
}

/// The time in which a part is dead.
pub(crate) struct Outage<'a> {
    kube: &'a Kube,
    command: Option<JoinHandle<Output>>,
}

impl<'a> Outage<'a> {
    /// Kills a part; it is started again so many seconds later.
    pub(crate) fn of(part: &'static str, seconds: u32, kube: &'a Kube) -> Self {
        let mut restart = Command::new(command().unwrap());
        restart.arg(part).arg(seconds.to_string()).stdin(Stdio::null());
        let command = std::thread::spawn(move || restart.output().unwrap());
        Self { kube, command: Some(command) }
    }

    /// Kills a part without which the cluster answers nothing, and waits until that is so.
    pub(crate) fn begins(part: &'static str, seconds: u32, kube: &'a Kube) -> Self {
        let outage = Self::of(part, seconds, kube);
        until("the cluster does not answer", || !kube.is_well());
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
