//! A weaver as it is: what was asked for, since when, and how it fares.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{WeaverId, WeaverSpec};

/// The five states of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The pod is being made, or its host does not answer yet.
    Pending,
    /// The host accepts connections.
    Running,
    /// The program ended with 0.
    Succeeded,
    /// The program ended otherwise, or could not start.
    Failed,
    /// Kubernetes has lost contact with the pod.
    Unknown,
}

impl Phase {
    /// Tells whether nothing more will happen to the weaver.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug's words are the documents' words; `pad` lets tables align them.
        f.pad(match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        })
    }
}

impl std::str::FromStr for Phase {
    type Err = crate::FieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::Unknown];
        let known = all.into_iter().find(|phase| phase.to_string().eq_ignore_ascii_case(text));
        let why = "must be Pending, Running, Succeeded, Failed or Unknown";
        known.ok_or_else(|| crate::FieldError::new("status", why))
    }
}

/// Why a weaver is not running, in a word for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// CamelCase, Kubernetes' own word where it has one: `ErrImagePull`, `OOMKilled`.
    pub reason: String,
    /// What happened and what to do.
    pub message: String,
}

/// One weaver, read from its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weaver {
    /// Its id.
    pub id: WeaverId,
    /// What was asked for.
    pub spec: WeaverSpec,
    /// When it was made, whole seconds.
    pub created_at: Timestamp,
    /// How it fares.
    pub phase: Phase,
    /// Why it is Pending, Failed or Unknown.
    pub why: Option<Why>,
    /// The program's exit code, once it has ended.
    pub exit_code: Option<i32>,
}

impl Weaver {
    /// Returns its deadline.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.spec.ttl.end(self.created_at)
    }

    /// Tells whether the deadline has come; the deadline itself counts.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at()
    }

    /// Returns how long it has existed, never negative.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> SignedDuration {
        now.duration_since(self.created_at).max(SignedDuration::ZERO)
    }

    /// Returns how long it still has, never negative.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> SignedDuration {
        self.expires_at().duration_since(now).max(SignedDuration::ZERO)
    }

    /// Returns the documents' example, a fixture for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn sample() -> Self {
        let spec = serde_json::from_str::<SampleFields>(SAMPLE).map(WeaverSpec::from);
        Self {
            id: WeaverId::from_uuid(uuid::uuid!("018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c")),
            spec: spec.expect("the sample is checked by a test"),
            created_at: Timestamp::constant(1_740_996_000, 0),
            phase: Phase::Running,
            why: None,
            exit_code: None,
        }
    }
}

const SAMPLE: &str = r#"{"image":"ghcr.io/ghuntley/loom/weaver:latest","org":"O-123","owner":"U-ada",
"repo":"https://github.com/user/project","branch":"main","env":{"NODE_ENV":"production"}}"#;

#[derive(Deserialize)]
struct SampleFields {
    image: crate::Image,
    org: crate::OrgId,
    owner: crate::OwnerId,
    repo: Option<crate::RepoUrl>,
    branch: Option<crate::Branch>,
    env: crate::Env,
}

impl From<SampleFields> for WeaverSpec {
    fn from(fields: SampleFields) -> Self {
        Self {
            image: fields.image,
            org: fields.org,
            owner: fields.owner,
            owner_name: "ada".to_owned(),
            name: None,
            tags: crate::Tags::default(),
            env: fields.env,
            repo: fields.repo,
            branch: fields.branch,
            command: Vec::new(),
            keep_entrypoint: false,
            workdir: None,
            ttl: crate::Ttl::default(),
            resources: crate::Resources::default(),
            tty: true,
            root: false,
            ports: Vec::new(),
            terminal: crate::Terminal::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_expires_at_its_deadline_and_not_before() {
        let weaver = Weaver::sample();
        let deadline = weaver.expires_at();
        assert_eq!(deadline.to_string(), "2025-03-03T14:00:00Z");
        assert!(!weaver.is_expired(deadline - SignedDuration::from_secs(1)));
        assert!(weaver.is_expired(deadline));
    }

    #[test]
    fn ages_are_never_negative() {
        let weaver = Weaver::sample();
        let before = weaver.created_at - SignedDuration::from_hours(1);
        assert_eq!(weaver.age(before), SignedDuration::ZERO);
        let after = weaver.expires_at() + SignedDuration::from_hours(1);
        assert_eq!(weaver.remaining(after), SignedDuration::ZERO);
    }

    #[test]
    fn phases_read_as_they_print() {
        assert_eq!("running".parse(), Ok(Phase::Running));
        assert!("a,b!=c".parse::<Phase>().is_err());
    }
}
