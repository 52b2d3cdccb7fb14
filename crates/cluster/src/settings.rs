//! How this deployment makes pods and talks to its cluster.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use weaver::{FieldError, Resources, Ttl};

/// What pods get and how the cluster is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where weavers live.
    pub namespace: String,
    /// The image that holds `loom-host`; needed to create, not to look.
    pub tools_image: Option<String>,
    /// How the tools get into a pod.
    pub tools_mount: ToolsMount,
    /// What weavers are told as `LOOM_SERVER_URL`.
    pub server_url: Option<String>,
    /// What the scheduler sets aside for a weaver.
    pub requests: Amounts,
    /// What a weaver may use, unless it asks for something else.
    pub limits: Amounts,
    /// Names of Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// The RuntimeClass, e.g. `gvisor`.
    pub runtime_class: Option<String>,
    /// Kubernetes' own default when `None`.
    pub image_pull_policy: Option<PullPolicy>,
    /// Longest lifetime here; Kubernetes itself ends a pod ten minutes after it.
    pub max_lifetime: Ttl,
    /// Most time that one call may take.
    pub deadline: Duration,
    /// After how long the server is asked to end each watch, so that it is opened anew. One that
    /// goes on for a quarter longer has stopped in silence.
    pub watch_span: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "loom-weavers".to_owned(),
            tools_image: None,
            tools_mount: ToolsMount::Auto,
            server_url: None,
            requests: Amounts { cpu_millicores: 500, memory_mb: 512 },
            limits: Amounts { cpu_millicores: 2000, memory_mb: 2048 },
            image_pull_secrets: Vec::new(),
            runtime_class: None,
            image_pull_policy: None,
            max_lifetime: Ttl::MAX,
            deadline: Duration::from_secs(10),
            watch_span: Duration::from_secs(40),
        }
    }
}

impl Settings {
    /// Returns what a weaver that asked for `resources` may use at most here.
    #[must_use]
    pub fn limits_of(&self, resources: &Resources) -> Amounts {
        Amounts {
            cpu_millicores: resources.cpu_millicores.unwrap_or(self.limits.cpu_millicores),
            memory_mb: resources.memory_mb.unwrap_or(self.limits.memory_mb),
        }
    }

    /// Returns what is set aside for it: the default, or its limit where that is less.
    #[must_use]
    pub fn requests_of(&self, resources: &Resources) -> Amounts {
        let limits = self.limits_of(resources);
        Amounts {
            cpu_millicores: self.requests.cpu_millicores.min(limits.cpu_millicores),
            memory_mb: self.requests.memory_mb.min(limits.memory_mb),
        }
    }
}

/// An amount of CPU and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu_millicores: u64,
    /// MiB of memory.
    pub memory_mb: u64,
}

/// How the tools get into a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ToolsMount {
    /// An image volume where the cluster has them, else an init container.
    #[default]
    Auto,
    /// Always an image volume.
    Image,
    /// Always an init container that copies them.
    Init,
}

/// When the node asks the registry for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The flags and variables from which [`Settings`] are made, the same in every program.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterArgs {
    /// Kubeconfig file; without it KUBECONFIG, ~/.kube/config or the pod's own service account
    #[arg(long, env = "LOOM_SERVER_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace in which weavers live
    #[arg(long, env = "LOOM_SERVER_WEAVER_NAMESPACE", default_value = "loom-weavers")]
    pub weaver_namespace: String,
    /// Image that holds loom-host
    #[arg(long, env = "LOOM_SERVER_TOOLS_IMAGE", value_name = "IMAGE")]
    pub tools_image: Option<String>,
    /// How loom-host gets into a weaver
    #[arg(long, env = "LOOM_SERVER_TOOLS_MOUNT", value_enum, default_value = "auto")]
    pub tools_mount: ToolsMount,
    /// URL under which weavers reach this server
    #[arg(long, env = "LOOM_SERVER_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// CPU set aside for a weaver
    #[arg(long, env = "LOOM_SERVER_WEAVER_CPU_REQUEST", default_value = "500m", value_parser = millicores)]
    pub weaver_cpu_request: u64,
    /// CPU a weaver may use
    #[arg(long, env = "LOOM_SERVER_WEAVER_CPU_LIMIT", default_value = "2000m", value_parser = millicores)]
    pub weaver_cpu_limit: u64,
    /// Memory set aside for a weaver
    #[arg(long, env = "LOOM_SERVER_WEAVER_MEMORY_REQUEST", default_value = "512Mi", value_parser = mebibytes)]
    pub weaver_memory_request: u64,
    /// Memory a weaver may use
    #[arg(long, env = "LOOM_SERVER_WEAVER_MEMORY_LIMIT", default_value = "2Gi", value_parser = mebibytes)]
    pub weaver_memory_limit: u64,
    /// Secrets with registry credentials, separated by commas
    #[arg(long, env = "LOOM_SERVER_WEAVER_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub weaver_image_pull_secrets: Vec<String>,
    /// RuntimeClass of weavers
    #[arg(long, env = "LOOM_SERVER_WEAVER_RUNTIME_CLASS", value_name = "NAME")]
    pub weaver_runtime_class: Option<String>,
    /// When nodes ask the registry for an image
    #[arg(long, env = "LOOM_SERVER_WEAVER_IMAGE_PULL_POLICY", value_enum)]
    pub weaver_image_pull_policy: Option<PullPolicy>,
    /// Longest lifetime of a weaver in hours
    #[arg(long, env = "LOOM_SERVER_WEAVER_MAX_LIFETIME_HOURS", default_value = "48", value_parser = Ttl::from_str)]
    pub weaver_max_lifetime_hours: Ttl,
    /// Most seconds that one call to Kubernetes may take
    #[arg(long, env = "LOOM_SERVER_KUBERNETES_DEADLINE_SECS", default_value = "10",
        value_parser = clap::value_parser!(u64).range(1..=300))]
    pub kubernetes_deadline_secs: u64,
}

impl From<&ClusterArgs> for Settings {
    fn from(args: &ClusterArgs) -> Self {
        Self {
            namespace: args.weaver_namespace.clone(),
            tools_image: args.tools_image.clone(),
            tools_mount: args.tools_mount,
            server_url: args.public_url.clone(),
            requests: Amounts {
                cpu_millicores: args.weaver_cpu_request,
                memory_mb: args.weaver_memory_request,
            },
            limits: Amounts {
                cpu_millicores: args.weaver_cpu_limit,
                memory_mb: args.weaver_memory_limit,
            },
            image_pull_secrets: args.weaver_image_pull_secrets.clone(),
            runtime_class: args.weaver_runtime_class.clone(),
            image_pull_policy: args.weaver_image_pull_policy,
            max_lifetime: args.weaver_max_lifetime_hours,
            deadline: Duration::from_secs(args.kubernetes_deadline_secs),
            ..Self::default()
        }
    }
}

/// Reads `500m`, `2` and `0.5` CPUs as thousandths.
///
/// # Errors
/// Names the forms that are taken.
pub fn millicores(text: &str) -> Result<u64, FieldError> {
    let wrong = || FieldError::new("cpu", "must be like 500m, 2 or 0.5");
    let amount = match text.strip_suffix('m') {
        Some(digits) => digits.parse::<u64>().map_err(|_| wrong())?,
        None => thousandths(text).ok_or_else(wrong)?,
    };
    if amount == 0 { Err(wrong()) } else { Ok(amount) }
}

/// Reads `512Mi` and `2Gi` as MiB.
///
/// # Errors
/// Names the forms that are taken.
pub fn mebibytes(text: &str) -> Result<u64, FieldError> {
    let wrong = || FieldError::new("memory", "must be like 512Mi or 2Gi");
    let (digits, unit) = match (text.strip_suffix("Mi"), text.strip_suffix("Gi")) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1024),
        (None, None) => return Err(wrong()),
    };
    let amount = digits.parse::<u64>().ok().and_then(|amount| amount.checked_mul(unit));
    amount.filter(|amount| *amount > 0).ok_or_else(wrong)
}

/// Reads a decimal number with up to three places as thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(places) || places.len() > 3 {
        return None;
    }
    let fraction = format!("{places:0<3}").parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        cluster: ClusterArgs,
    }

    #[test]
    fn flags_default_to_the_documents_values() {
        let args = Program::parse_from(["program"]).cluster;
        assert_eq!(Settings::from(&args), Settings::default());
    }

    #[test]
    fn amounts_are_read() {
        for (text, amount) in [("500m", 500), ("2", 2000), ("0.5", 500), ("1.25", 1250)] {
            assert_eq!(millicores(text), Ok(amount), "{text}");
        }
        for text in ["", "0", "0m", "-1", "1.2345", "m", ".5", "1e3", "+1"] {
            assert!(millicores(text).is_err(), "{text}");
        }
        assert_eq!(mebibytes("512Mi"), Ok(512));
        assert_eq!(mebibytes("2Gi"), Ok(2048));
        for text in ["", "0Mi", "2", "2G", "Gi", "-1Mi", "99999999999999999999Gi"] {
            assert!(mebibytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn requests_never_exceed_limits() {
        let settings = Settings::default();
        let small = Resources { cpu_millicores: Some(100), memory_mb: None };
        assert_eq!(settings.requests_of(&small), Amounts { cpu_millicores: 100, memory_mb: 512 });
        assert_eq!(settings.limits_of(&small), Amounts { cpu_millicores: 100, memory_mb: 2048 });
    }
}
