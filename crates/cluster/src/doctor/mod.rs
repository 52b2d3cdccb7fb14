//! What a deployment needs of its cluster, tried one thing at a time.
//!
//! Each [`Topic`] gives [`Check`]s: what was seen and what to do about it. What could not be found out
//! is said as such. Whatever a topic makes in the cluster is gone after [`Doctor::clean_up`]; should
//! this process be killed before, it ends by itself and the next run removes it.

mod access;
mod api;
mod images;
mod made;
mod namespaces;
mod network;
mod policies;
mod probe;

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::rights::SYSTEM_NAMESPACE;
use crate::settings::Settings;
use crate::weavers::Cluster;
use made::Made;

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is as it should be.
    Ok,
    /// It works with less, or it could not be found out.
    Warning,
    /// It has to be changed.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A stable word for it.
    pub name: &'static str,
    /// How it was found.
    pub state: State,
    /// What was seen.
    pub detail: String,
    /// What to do next, unless all is well.
    pub fix: Option<String>,
}

impl Check {
    /// Says that something is as it should be.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), fix: None }
    }

    /// Says that something is not quite as it should be, or not known, and what to do.
    pub fn warning(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Warning, fix: Some(fix.into()), ..Self::ok(name, detail) }
    }

    /// Says that something has to be changed, and how.
    pub fn failed(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Failed, fix: Some(fix.into()), ..Self::ok(name, detail) }
    }
}

/// What is looked at, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The API server, its version and its clock.
    Api,
    /// The namespaces and their pod security.
    Namespaces,
    /// What the service accounts may do.
    Rights,
    /// Whether nodes get the images.
    Images,
    /// Whether NetworkPolicies are obeyed.
    Network,
}

impl Topic {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::Api, Self::Namespaces, Self::Rights, Self::Images, Self::Network];

    /// Returns its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Namespaces => "namespaces",
            Self::Rights => "rights",
            Self::Images => "images",
            Self::Network => "network",
        }
    }
}

/// What a deployment is made of, as far as it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aims {
    /// Where weavers live.
    pub namespace: String,
    /// Where the services live.
    pub system_namespace: String,
    /// Images that nodes have to get; what the deployment says when empty.
    pub images: Vec<String>,
    /// Names of Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// An image with `sh`, `timeout`, `wget` and `httpd`, for the network.
    pub probe_image: String,
    /// How long a probe pod may take to start.
    pub patience: Duration,
    /// Tells this run's objects from another's: letters and digits.
    pub run: String,
}

impl Default for Aims {
    fn default() -> Self {
        Self {
            namespace: Settings::default().namespace,
            system_namespace: SYSTEM_NAMESPACE.to_owned(),
            images: Vec::new(),
            image_pull_secrets: Vec::new(),
            probe_image: "docker.io/library/busybox:1.37".to_owned(),
            patience: Duration::from_secs(120),
            run: "run".to_owned(),
        }
    }
}

/// Looks at a cluster. Clones share what was made there.
#[derive(Clone)]
pub struct Doctor {
    cluster: Cluster,
    aims: Aims,
    made: Made,
}

impl Doctor {
    /// Reads the configuration and makes the client; connects when something is looked at.
    ///
    /// # Errors
    /// [`crate::Error::Config`] says what is missing and what to do.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        aims: Aims,
    ) -> Result<Self> {
        let settings = Settings { namespace: aims.namespace.clone(), ..Settings::default() };
        let cluster = Cluster::connect_to(kubeconfig, context, settings).await?;
        Ok(Self { made: Made::in_cluster(&cluster), cluster, aims })
    }

    /// Looks at one thing. It may be dropped at any time; [`Doctor::clean_up`] comes after.
    pub async fn check(&self, topic: Topic) -> Vec<Check> {
        match topic {
            Topic::Api => self.api().await,
            Topic::Namespaces => self.namespaces().await,
            Topic::Rights => self.rights().await,
            Topic::Images => self.images().await,
            Topic::Network => self.network().await,
        }
    }

    /// Removes what this run has made, and returns what could not be removed.
    pub async fn clean_up(&self) -> Vec<String> {
        self.made.remove_all().await
    }
}
