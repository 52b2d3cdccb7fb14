//! The annotation `loom.dev/spec`: what was asked for, apart from what the pod itself says.
//!
//! Organization, owner, name and tags are labels; env and command are the container's. Nothing is
//! written twice, so nothing can disagree.

use serde::{Deserialize, Serialize};
use weaver::{Branch, FieldError, Image, RepoUrl, Resources, Terminal, Ttl, WeaverSpec, Workdir};

/// The schema that this build writes, and the newest it reads.
pub(crate) const SCHEMA: u32 = 1;
/// Most bytes that are read.
const MOST: usize = 64 * 1024;

/// The annotation's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// [`SCHEMA`].
    pub(crate) version: u32,
    /// As it was asked for: a cluster's webhook may point the container to a mirror.
    pub(crate) image: Image,
    /// The lifetime.
    pub(crate) lifetime_hours: Ttl,
    /// The lifetime it was made with, where another was given since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked_hours: Option<Ttl>,
    /// What is cloned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repo: Option<RepoUrl>,
    /// What is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<Branch>,
    /// Where it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workdir: Option<Workdir>,
    /// What was asked for, not what the deployment made of it.
    #[serde(default)]
    pub(crate) resources: Resources,
    /// Whether it runs on a terminal.
    pub(crate) tty: bool,
    /// Whether it runs as root of a user namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) root: bool,
    /// Whether its main process is the image's own program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keep_entrypoint: bool,
    /// The caller's terminal.
    #[serde(default)]
    pub(crate) terminal: Terminal,
    /// How many of the container's variables, behind `LOOM_WEAVER_ID`, are the user's.
    pub(crate) env_count: usize,
}

/// Only the version, which is looked at before anything else is understood.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Why the annotation cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is from a newer build.
    Newer(u32),
    /// It is damaged.
    Damaged(String),
}

impl From<FieldError> for Broken {
    fn from(error: FieldError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Stored {
    pub(crate) fn of(spec: &WeaverSpec) -> Self {
        Self {
            version: SCHEMA,
            image: spec.image.clone(),
            lifetime_hours: spec.ttl,
            asked_hours: None,
            repo: spec.repo.clone(),
            branch: spec.branch.clone(),
            workdir: spec.workdir.clone(),
            resources: spec.resources,
            tty: spec.tty,
            root: spec.root,
            keep_entrypoint: spec.keep_entrypoint,
            terminal: spec.terminal.clone(),
            env_count: spec.env.iter().count(),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Broken> {
        let damaged = |error: serde_json::Error| Broken::Damaged(error.to_string());
        if text.len() > MOST {
            return Err(Broken::Damaged(format!("is longer than {} KiB", MOST / 1024)));
        }
        let Version { version } = serde_json::from_str(text).map_err(damaged)?;
        if version > SCHEMA {
            return Err(Broken::Newer(version));
        }
        serde_json::from_str(text).map_err(damaged)
    }
}

/// Returns the annotation's text for `spec`, which was `asked` to live for so long.
pub(crate) fn stored_spec(spec: &WeaverSpec, asked: Ttl) -> String {
    let asked_hours = Some(asked).filter(|asked| *asked != spec.ttl);
    let stored = Stored { asked_hours, ..Stored::of(spec) };
    serde_json::to_string(&stored).expect("a struct of strings and numbers is always JSON")
}
