//! Who may have what: the only way from a spec to a pod.

use std::ops::RangeInclusive;

use crate::fields::FieldError;
use crate::{Ttl, WeaverId, WeaverSpec};

/// What this deployment allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Longest lifetime.
    pub max_ttl: Ttl,
    /// Most thousandths of a CPU one weaver may have.
    pub max_cpu_millicores: u64,
    /// Most MiB of memory one weaver may have.
    pub max_memory_mb: u64,
    /// Whether weavers may run as root of a user namespace.
    pub root: bool,
    /// Whether ports are published: only where who asks is on the machine that runs the weavers.
    pub publish: bool,
    /// Whether an image's own program may be the main process, where no session of ours is kept.
    pub keep_entrypoint: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_ttl: Ttl::MAX,
            max_cpu_millicores: 64_000,
            max_memory_mb: 256 * 1024,
            root: false,
            publish: false,
            keep_entrypoint: true,
        }
    }
}

/// Why a spec was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is wrong in itself (HTTP 400).
    #[error(transparent)]
    Field(#[from] FieldError),
    /// This deployment has no weavers that run as root (HTTP 403).
    #[error("weavers that run as root are not allowed here")]
    Root,
    /// This deployment publishes no ports (HTTP 403).
    #[error(
        "ports are published only on the machine that runs the weaver: use --local, or \
         `kubectl port-forward`"
    )]
    Publish,
    /// This deployment keeps the session of every weaver (HTTP 403).
    #[error("weavers whose main process is the image's own program are not allowed here")]
    KeepEntrypoint,
}

/// A spec that policy has let through; nothing else can be written as a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    id: WeaverId,
    spec: WeaverSpec,
}

impl Admitted {
    /// Returns the id that the weaver will have.
    #[must_use]
    pub fn id(&self) -> WeaverId {
        self.id
    }

    /// Returns what was admitted.
    #[must_use]
    pub fn spec(&self) -> &WeaverSpec {
        &self.spec
    }
}

impl Policy {
    /// Lets a spec through or says why not.
    ///
    /// # Errors
    /// [`Refusal::Field`] names the field that is wrong or too large; [`Refusal::Root`] is for what
    /// only other deployments allow.
    pub fn admit(&self, id: WeaverId, spec: WeaverSpec) -> Result<Admitted, Refusal> {
        spec.check()?;
        self.ttl(spec.ttl)?;
        let (cpu, memory) = (spec.resources.cpu_millicores, spec.resources.memory_mb);
        within(CPU, cpu, 10..=self.max_cpu_millicores, "thousandths of a CPU")?;
        within(MEMORY, memory, 16..=self.max_memory_mb, "MiB")?;
        if spec.root && !self.root {
            return Err(Refusal::Root);
        }
        if !spec.ports.is_empty() && !self.publish {
            return Err(Refusal::Publish);
        }
        if spec.keep_entrypoint && !self.keep_entrypoint {
            return Err(Refusal::KeepEntrypoint);
        }
        Ok(Admitted { id, spec })
    }

    /// Checks a lifetime, at creation and when it is extended.
    ///
    /// # Errors
    /// Names the longest lifetime allowed.
    pub fn ttl(&self, ttl: Ttl) -> Result<Ttl, FieldError> {
        if ttl <= self.max_ttl {
            return Ok(ttl);
        }
        let most = self.max_ttl.hours();
        Err(FieldError::new("lifetime_hours", format!("must be at most {most} here")))
    }
}

/// The fields as they are called in the JSON of the API.
const CPU: &str = "resources.cpu_millicores";
const MEMORY: &str = "resources.memory_mb";

fn within(
    field: &'static str,
    value: Option<u64>,
    range: RangeInclusive<u64>,
    unit: &str,
) -> Result<(), FieldError> {
    let (least, most) = (range.start(), range.end());
    match value {
        Some(value) if !range.contains(&value) => {
            Err(FieldError::new(field, format!("must be {least} to {most} {unit}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Weaver;

    #[test]
    fn a_sample_is_admitted_as_it_is() {
        let weaver = Weaver::sample();
        let admitted = Policy::default().admit(weaver.id, weaver.spec.clone()).unwrap();
        assert_eq!(admitted.spec(), &weaver.spec);
    }

    #[test]
    fn what_only_other_deployments_allow_is_refused() {
        let mut spec = Weaver::sample().spec;
        spec.root = true;
        let id = Weaver::sample().id;
        assert_eq!(Policy::default().admit(id, spec.clone()), Err(Refusal::Root));
        spec.ports = vec!["80".parse().unwrap()];
        let policy = Policy { root: true, ..Policy::default() };
        assert_eq!(policy.admit(id, spec.clone()), Err(Refusal::Publish));
        assert!(Policy { publish: true, ..policy }.admit(id, spec).is_ok());
        let kept = kept();
        assert!(Policy::default().admit(id, kept.clone()).is_ok());
        let policy = Policy { keep_entrypoint: false, ..Policy::default() };
        assert_eq!(policy.admit(id, kept), Err(Refusal::KeepEntrypoint));
    }

    fn kept() -> WeaverSpec {
        WeaverSpec { keep_entrypoint: true, repo: None, branch: None, ..Weaver::sample().spec }
    }

    #[test]
    fn an_images_own_program_has_arguments_and_no_clone() {
        let empty = WeaverSpec { command: vec![String::new()], ..kept() };
        assert!(empty.check().is_ok());
        assert_eq!(
            WeaverSpec { keep_entrypoint: false, ..empty }.check().unwrap_err().field,
            "command"
        );
        let repo = WeaverSpec { repo: Weaver::sample().spec.repo, ..kept() };
        assert_eq!(repo.check().unwrap_err().field, "repo");
    }

    #[test]
    fn limits_of_the_deployment_hold() {
        let policy = Policy { max_ttl: Ttl::from_hours(8).unwrap(), ..Policy::default() };
        let mut spec = Weaver::sample().spec;
        spec.ttl = Ttl::from_hours(9).unwrap();
        let refused = policy.admit(Weaver::sample().id, spec.clone()).unwrap_err();
        assert_eq!(refused.to_string(), "lifetime_hours must be at most 8 here");
        spec.ttl = Ttl::default();
        spec.resources.memory_mb = Some(0);
        let refused = policy.admit(Weaver::sample().id, spec.clone()).unwrap_err();
        assert_eq!(refused.to_string(), "resources.memory_mb must be 16 to 262144 MiB");
        spec.resources.memory_mb = None;
        spec.repo = None;
        spec.branch = Some("main".parse().unwrap());
        assert_eq!(
            policy.admit(Weaver::sample().id, spec).unwrap_err().to_string(),
            "branch needs a repo"
        );
    }
}
