//! What the cluster is asked for and what it answers.

use weaver::{OrgId, OwnerId, Phase, Tags, Ttl, Weaver, WeaverId, WeaverName};

/// A weaver that the cluster has, with what only its pod knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The weaver.
    pub weaver: Weaver,
    /// Its pod.
    pub pod: PodFacts,
}

/// What only the pod knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `weaver-{uuid}`.
    pub name: String,
    /// Kubernetes' id of this very pod.
    pub uid: String,
    /// The version that was read, for preconditions.
    pub resource_version: String,
    /// Kubernetes' word for how it fares: `pod_phase`.
    pub phase: String,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// Its node, once it has one.
    pub node: Option<String>,
    /// Somebody has asked for its deletion.
    pub deleting: bool,
    /// Why its limits are not enforced, where the cluster says so.
    pub limits_not_enforced: Option<String>,
    /// The lifetime it was made with, if it has been given another since.
    pub asked_ttl: Option<Ttl>,
}

impl Found {
    /// Returns the guard with which exactly what was read can be deleted, and nothing newer.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard {
            uid: Some(self.pod.uid.clone()),
            resource_version: Some(self.pod.resource_version.clone()),
        }
    }

    /// Returns the guard with which only this very pod can be deleted, in whatever state.
    #[must_use]
    pub fn uid_guard(&self) -> Guard {
        Guard { uid: Some(self.pod.uid.clone()), resource_version: None }
    }
}

/// What must still be so for a deletion to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// The pod is this very one.
    pub uid: Option<String>,
    /// Nobody has changed it since.
    pub resource_version: Option<String>,
}

/// How a deletion went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The pod ends now.
    Deleted,
    /// There was none.
    Gone,
    /// The guard did not hold: it is another pod, or somebody changed it.
    Changed,
}

/// Which weavers are asked for. Its types are checked, so it is safe as a selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this organization's; `None` is for the janitor.
    pub org: Option<OrgId>,
    /// Only this owner's.
    pub owner: Option<OwnerId>,
    /// Only the one of this name.
    pub name: Option<WeaverName>,
    /// Only those with all of these tags.
    pub tags: Tags,
    /// Only those in one of these states; all when empty. A page may hold fewer for it.
    pub status: Vec<Phase>,
    /// Most pods a page, 1 to 500; the default is 500.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The weavers.
    pub found: Vec<Found>,
    /// What looks like a weaver and cannot be read.
    pub skipped: Vec<Skipped>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// A pod that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Why it is not taken for a weaver.
    pub why: crate::pod::Unreadable,
}

/// A change that a watch reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Everything there is: at the start, and again whenever history was lost. What is not in it
    /// is gone.
    All(Vec<Found>),
    /// This one is new or different.
    Set(Box<Found>),
    /// This one is gone.
    Gone(WeaverId),
}
