//! From a pod back to its weaver.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, Pod, PodStatus};
use weaver::{Env, FieldError, Publish, Tags, Weaver, WeaverId, WeaverSpec};

use super::annotation::{Broken, Stored};
use super::expansion::unescape;
use super::phase;
use super::render::LOOPBACK;
use crate::found::{Found, PodFacts};
use crate::{keys, why};

/// Why a pod is not taken for a weaver. Such pods are left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Loom did not make it.
    #[error("the pod was not made by loom: {0}")]
    Foreign(&'static str),
    /// A newer loom did.
    #[error("the pod is from a newer loom: its schema is {0}")]
    Newer(u32),
    /// A label or annotation is missing or damaged.
    #[error("the pod's {key} {why}")]
    Broken {
        /// The label's or annotation's name.
        key: &'static str,
        /// What is wrong with it, in words that follow its name.
        why: String,
    },
}

impl Unreadable {
    /// Returns a word for metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Foreign(_) => "foreign",
            Self::Newer(_) => "newer",
            Self::Broken { .. } => "broken",
        }
    }
}

/// Reads a weaver off its pod.
///
/// # Errors
/// Says why the pod is none.
pub fn read(pod: &Pod) -> Result<Found, Unreadable> {
    let id = id(pod)?;
    let container = main_container(pod)?;
    let stored = stored(pod)?;
    let facts = PodFacts { asked_ttl: stored.asked_hours, ..facts(pod) };
    let weaver = Weaver {
        id,
        created_at: created_at(pod, &stored)?,
        spec: spec(pod, container, stored)?,
        phase: phase::phase(pod),
        why: why::why(pod),
        exit_code: phase::exit_code(pod),
    };
    Ok(Found { weaver, pod: facts })
}

fn id(pod: &Pod) -> Result<WeaverId, Unreadable> {
    if label(pod, keys::APP) != Some(keys::APP_VALUE) {
        return Err(Unreadable::Foreign("it has no label app=loom-weaver"));
    }
    let text = label(pod, keys::WEAVER_ID).ok_or(Unreadable::Foreign("it has no weaver-id"))?;
    let id: WeaverId = text.parse().map_err(broken(keys::WEAVER_ID))?;
    if pod.metadata.name.as_deref() == Some(id.pod_name().as_str()) {
        return Ok(id);
    }
    Err(Unreadable::Foreign("its name is not that of its weaver-id"))
}

fn main_container(pod: &Pod) -> Result<&Container, Unreadable> {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let found = containers.find(|container| container.name == keys::CONTAINER);
    found.ok_or(Unreadable::Foreign("it has no container weaver"))
}

fn stored(pod: &Pod) -> Result<Stored, Unreadable> {
    Stored::parse(annotation(pod, keys::SPEC)?).map_err(|error| match error {
        Broken::Newer(version) => Unreadable::Newer(version),
        Broken::Damaged(why) => Unreadable::Broken { key: keys::SPEC, why },
    })
}

/// Reads when it was made; the deadline beside it must be exactly that plus the lifetime.
fn created_at(pod: &Pod, stored: &Stored) -> Result<Timestamp, Unreadable> {
    let time = |key: &'static str| {
        let time = annotation(pod, key)?.parse::<Timestamp>();
        let time = time.map_err(|error| Unreadable::Broken { key, why: error.to_string() })?;
        if time.subsec_nanosecond() == 0 {
            return Ok(time);
        }
        Err(Unreadable::Broken { key, why: "is not in whole seconds".to_owned() })
    };
    let (created_at, expires_at) = (time(keys::CREATED_AT)?, time(keys::EXPIRES_AT)?);
    if stored.lifetime_hours.end(created_at) == expires_at {
        return Ok(created_at);
    }
    let why = "is not created-at plus the lifetime".to_owned();
    Err(Unreadable::Broken { key: keys::EXPIRES_AT, why })
}

fn spec(pod: &Pod, container: &Container, stored: Stored) -> Result<WeaverSpec, Unreadable> {
    let missing = |key| move || Unreadable::Broken { key, why: "is missing".to_owned() };
    let org = label(pod, keys::ORG).ok_or_else(missing(keys::ORG))?;
    let owner = label(pod, keys::OWNER).ok_or_else(missing(keys::OWNER))?;
    let name = label(pod, keys::NAME).map(str::parse).transpose();
    Ok(WeaverSpec {
        org: org.parse().map_err(broken(keys::ORG))?,
        owner: owner.parse().map_err(broken(keys::OWNER))?,
        owner_name: annotation(pod, keys::OWNER_NAME)?.to_owned(),
        name: name.map_err(broken(keys::NAME))?,
        tags: tags(pod)?,
        env: env(container, stored.env_count)?,
        command: if stored.keep_entrypoint { args(container)? } else { command(container)? },
        keep_entrypoint: stored.keep_entrypoint,
        image: stored.image,
        repo: stored.repo,
        branch: stored.branch,
        workdir: stored.workdir,
        ttl: stored.lifetime_hours,
        resources: stored.resources,
        tty: stored.tty,
        root: stored.root,
        ports: ports(container),
        terminal: stored.terminal,
    })
}

fn tags(pod: &Pod) -> Result<Tags, Unreadable> {
    let labels = pod.metadata.labels.iter().flatten();
    let tags = labels.filter_map(|(key, value)| {
        Some((key.strip_prefix(keys::TAG_PREFIX)?.to_owned(), value.clone()))
    });
    Tags::try_from(tags.collect::<BTreeMap<_, _>>()).map_err(broken(keys::TAG_PREFIX))
}

/// Reads what we published; other ports are a webhook's.
fn ports(container: &Container) -> Vec<Publish> {
    let ours = |port: &&ContainerPort| port.host_ip.as_deref() == Some(LOOPBACK);
    let ports = container.ports.iter().flatten().filter(ours).filter_map(|port| {
        let (host, container) = (port.host_port?.try_into().ok()?, port.container_port);
        Some(Publish { host, container: container.try_into().ok()? })
    });
    ports.collect()
}

/// Reads the user's variables: those behind the id. What a cluster's webhooks add is not the
/// user's.
fn env(container: &Container, count: usize) -> Result<Env, Unreadable> {
    let all = container.env.as_deref().unwrap_or_default();
    let id = all.iter().position(|variable| variable.name == "LOOM_WEAVER_ID");
    let first = id.map_or(0, |id| id + 1);
    let users = all.get(first..first.saturating_add(count)).ok_or_else(|| Unreadable::Broken {
        key: keys::SPEC,
        why: "names more variables than the container has".to_owned(),
    })?;
    let plain = |variable: &EnvVar| {
        let value = variable.value.as_deref().unwrap_or_default();
        (variable.name.clone(), unescape(value))
    };
    Env::try_from(users.iter().map(plain).collect::<BTreeMap<_, _>>()).map_err(broken("env"))
}

fn command(container: &Container) -> Result<Vec<String>, Unreadable> {
    let words = container.command.as_deref().unwrap_or_default();
    match words.split_first() {
        Some((program, rest)) if program == keys::HOST_PROGRAM => {
            let behind = rest.iter().skip_while(|word| *word != "--").skip(1);
            Ok(behind.map(|word| unescape(word)).collect())
        }
        Some(_) | None => Err(Unreadable::Foreign("its program is not loom-host")),
    }
}

/// Reads the arguments of an image's own program.
fn args(container: &Container) -> Result<Vec<String>, Unreadable> {
    if container.command.as_ref().is_some_and(|words| !words.is_empty()) {
        return Err(Unreadable::Foreign("its program is not its image's own"));
    }
    Ok(container.args.iter().flatten().map(|word| unescape(word)).collect())
}

/// Tells whether the weaver runs a program of the user's instead of a shell.
pub(crate) fn has_command(pod: &Pod) -> bool {
    let words = main_container(pod).and_then(command);
    words.is_ok_and(|words| !words.is_empty())
}

fn facts(pod: &Pod) -> PodFacts {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let text = |field: Option<&String>| field.filter(|text| !text.is_empty()).cloned();
    PodFacts {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        phase: text(status.and_then(|status| status.phase.as_ref()))
            .unwrap_or_else(|| "Pending".to_owned()),
        ip: text(status.and_then(|status| status.pod_ip.as_ref())),
        node: text(pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref())),
        deleting: meta.deletion_timestamp.is_some(),
        limits_not_enforced: status.and_then(limits_not_enforced),
        asked_ttl: None,
    }
}

fn limits_not_enforced(status: &PodStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let said = conditions.find(|condition| condition.type_ == keys::LIMITS_ENFORCED)?;
    let why = said.message.clone().or_else(|| said.reason.clone()).unwrap_or_default();
    (said.status == "False").then_some(why)
}

fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn annotation<'a>(pod: &'a Pod, key: &'static str) -> Result<&'a str, Unreadable> {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|annotations| annotations.get(key)).map(String::as_str);
    text.ok_or(Unreadable::Broken { key, why: "is missing".to_owned() })
}

fn broken(key: &'static str) -> impl Fn(FieldError) -> Unreadable {
    move |error| Unreadable::Broken { key, why: error.to_string() }
}
