//! Where the suite runs, and what its cases start from.

use std::env;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use cluster::{Amounts, Cluster, Found, Progress, Settings, ToolsMount};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use libtest_mimic::Failed;
use serde_json::json;
use weaver::{Admitted, OrgId, Policy, WeaverId, WeaverSpec};

/// One test.
pub(crate) type Case = for<'a> fn(&'a Bench) -> BoxFuture<'a, ()>;

/// How long anything may take before a case gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The cluster that was given.
#[derive(Clone)]
pub(crate) struct Site {
    kubeconfig: PathBuf,
    pub(crate) image: String,
    tools_image: String,
    namespace: String,
    own_namespace: bool,
}

impl Site {
    /// Finds the cluster that the environment names; `None` when it names none.
    pub(crate) fn given() -> Option<Self> {
        let get = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let kubeconfig = env::var_os("LOOM_TEST_KUBECONFIG")?;
        let image = get("LOOM_TEST_IMAGE");
        let tools_image = get("LOOM_TEST_TOOLS_IMAGE");
        let site = Self::new(kubeconfig.into(), &image, &tools_image);
        Some(match env::var("LOOM_TEST_NAMESPACE") {
            Ok(namespace) => Self { namespace, own_namespace: false, ..site },
            Err(_) => site,
        })
    }

    /// Describes a cluster in which a namespace is to be made.
    pub(crate) fn new(kubeconfig: PathBuf, image: &str, tools_image: &str) -> Self {
        Self {
            kubeconfig,
            image: image.to_owned(),
            tools_image: tools_image.to_owned(),
            namespace: format!("loom-test-{}", uuid::Uuid::new_v4().simple()),
            own_namespace: true,
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            namespace: self.namespace.clone(),
            tools_image: Some(self.tools_image.clone()),
            tools_mount: ToolsMount::Auto,
            server_url: Some("https://loom.example".to_owned()),
            // Small, so that all cases fit one node at once.
            requests: Amounts { cpu_millicores: 10, memory_mb: 16 },
            limits: Amounts { cpu_millicores: 1000, memory_mb: 256 },
            ..Settings::default()
        }
    }

    /// Makes the namespace, with the security level that a deployment has.
    pub(crate) fn prepare(&self) {
        if !self.own_namespace {
            return;
        }
        runtime().block_on(async {
            let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
            let namespace = serde_json::from_value::<Namespace>(json!({
                "metadata": {"name": self.namespace, "labels": labels}}))
            .unwrap();
            self.namespaces().await.create(&PostParams::default(), &namespace).await.unwrap();
        });
    }

    pub(crate) fn clear(&self) {
        if !self.own_namespace {
            return;
        }
        runtime().block_on(async {
            let params = DeleteParams::default();
            self.namespaces().await.delete(&self.namespace, &params).await.unwrap();
        });
    }

    async fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client().await)
    }

    /// A client of its own, for what the crate has no business to do.
    pub(crate) async fn client(&self) -> kube::Client {
        let file = kube::config::Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    pub(crate) fn run(&self, name: &str, case: Case) -> Result<(), Failed> {
        runtime().block_on(async {
            let org = format!("O-{}", uuid::Uuid::new_v4().simple()).parse().unwrap();
            let bench =
                Bench { cluster: self.connect(self.settings()).await, site: self.clone(), org };
            let done = std::panic::AssertUnwindSafe(case(&bench)).catch_unwind();
            let done = tokio::time::timeout(PATIENCE, done).await;
            bench.sweep().await;
            match done {
                Ok(Ok(())) => Ok(()),
                Ok(Err(panic)) => Err(Failed::from(words(&*panic))),
                Err(_) => Err(Failed::from(format!("{name} took too long"))),
            }
        })
    }

    pub(crate) async fn connect(&self, settings: Settings) -> Cluster {
        Cluster::connect(Some(&self.kubeconfig), settings).await.unwrap()
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What one case works with: the cluster, and an organization of its own.
pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) site: Site,
    pub(crate) org: OrgId,
}

impl Bench {
    /// Returns a spec that runs `command`, or just stays when it is empty.
    pub(crate) fn spec(&self, command: &[&str]) -> WeaverSpec {
        let mut spec = weaver::Weaver::sample().spec;
        spec.image = self.site.image.parse().unwrap();
        spec.org = self.org.clone();
        (spec.repo, spec.branch) = (None, None);
        spec.tty = false;
        spec.command = command.iter().map(|word| (*word).to_owned()).collect();
        spec
    }

    pub(crate) fn query(&self) -> cluster::Query {
        cluster::Query { org: Some(self.org.clone()), ..cluster::Query::default() }
    }

    pub(crate) async fn create(&self, spec: WeaverSpec) -> Found {
        self.cluster.create(&admit(spec)).await.unwrap()
    }

    /// Makes a weaver and waits until it is ready.
    pub(crate) async fn ready(&self, command: &[&str]) -> Found {
        let made = self.create(self.spec(command)).await;
        match last_step(&self.cluster, made.weaver.id).await {
            Progress::Ready(found) => *found,
            other => panic!("not ready: {other:?}"),
        }
    }

    /// Makes a weaver and waits until it has ended.
    pub(crate) async fn ended(&self, spec: WeaverSpec) -> Found {
        let id = self.create(spec).await.weaver.id;
        let mut states = pin!(self.cluster.watch_one(id));
        while let Some(state) = states.next().await {
            let found = state.unwrap().expect("it is there");
            if found.weaver.phase.is_over() {
                return found;
            }
        }
        panic!("it went away");
    }

    async fn sweep(&self) {
        let page = self.cluster.list(&self.query()).await.unwrap();
        for found in page.found {
            self.cluster.delete(found.weaver.id, &found.uid_guard()).await.unwrap();
        }
    }
}

pub(crate) fn admit(spec: WeaverSpec) -> Admitted {
    let id = WeaverId::from_uuid(uuid::Uuid::new_v4());
    Policy::default().admit(id, spec).unwrap()
}

/// Returns how coming up ended.
pub(crate) async fn last_step(cluster: &Cluster, id: WeaverId) -> Progress {
    let steps: Vec<_> = cluster.progress(id).map(Result::unwrap).collect().await;
    steps.last().expect("there is a last step").clone()
}
