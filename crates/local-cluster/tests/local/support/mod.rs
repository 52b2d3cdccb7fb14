//! What the tests share: trials, a daemon to kill, a client, waiting.

pub(crate) mod daemon;
pub(crate) mod registry;

use std::fmt::Debug;
use std::future::Future;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use libtest_mimic::{Arguments, Trial};

pub(crate) fn run(trials: Vec<Trial>) -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Something that this machine may lack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Pods,
    Kubectl,
    Mounts,
    Limits,
    Root,
}

impl Needs {
    /// Says why it is lacking.
    fn lacking(self) -> Option<String> {
        let runs = |program: &str, args: &[&str]| {
            Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
        };
        match self {
            Self::Nothing => None,
            Self::Root if !runs("unshare", &["-m", "true"]) => {
                Some("unshare -m is not allowed".into())
            }
            Self::Root => Self::Pods.lacking(),
            Self::Mounts => {
                (!runs("unshare", &["-rm", "true"])).then(|| "unshare -rm is not allowed".into())
            }
            Self::Pods => pod_runtime::probe(&std::env::temp_dir())
                .into_iter()
                .find(|check| check.fatal && !check.ok)
                .map(|check| format!("no pods here: {}", check.detail)),
            Self::Limits => Self::Pods.lacking().or_else(|| {
                let checks = pod_runtime::probe(&std::env::temp_dir());
                let lacks = checks.into_iter().find(|check| check.name == "cgroups" && !check.ok);
                lacks.map(|check| format!("no limits here: {}", check.detail))
            }),
            Self::Kubectl if !runs("kubectl", &["version", "--client"]) => {
                Some("there is no kubectl".into())
            }
            Self::Kubectl => Self::Pods.lacking(),
        }
    }
}

/// A trial that is ignored, saying why, where the machine lacks what it needs.
pub(crate) fn trial(name: &str, needs: Needs, test: fn()) -> Trial {
    let lacking = needs.lacking();
    if let Some(why) = &lacking {
        eprintln!("ignored {name}: {why}");
    }
    Trial::test(name.to_owned(), move || {
        test();
        Ok(())
    })
    .with_ignored_flag(lacking.is_some())
}

/// Runs a test that awaits.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.unwrap() })
}

const DEADLINE: Duration = Duration::from_secs(180);

/// Connects as the kubeconfig says.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Asks again until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the code of a refusal.
pub(crate) fn code<T: Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("not a refusal: {other:?}"),
    }
}
