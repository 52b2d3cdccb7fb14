//! What a person asks for, field by field checked.

use serde::{Deserialize, Serialize};

use crate::fields::FieldError;
use crate::{Branch, Env, Image, OrgId, OwnerId, Publish, RepoUrl, Tags, Ttl, WeaverName, Workdir};

/// Everything that was asked for. Equal specs give equal pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeaverSpec {
    /// The container image.
    pub image: Image,
    /// The organization it belongs to.
    pub org: OrgId,
    /// Who made it.
    pub owner: OwnerId,
    /// How its maker is called, for people.
    pub owner_name: String,
    /// A name that is unique for its owner.
    pub name: Option<WeaverName>,
    /// The user's labels.
    pub tags: Tags,
    /// The user's environment.
    pub env: Env,
    /// What is cloned into the workspace.
    pub repo: Option<RepoUrl>,
    /// What is checked out of it.
    pub branch: Option<Branch>,
    /// The program to run instead of a shell; the weaver ends with it. With `keep_entrypoint`, the
    /// arguments of the image's own program.
    pub command: Vec<String>,
    /// Whether the image's own program is the main process, and nothing of ours.
    pub keep_entrypoint: bool,
    /// Where the program or shell starts.
    pub workdir: Option<Workdir>,
    /// Its lifetime.
    pub ttl: Ttl,
    /// What it may use at most.
    pub resources: Resources,
    /// Whether the program runs on a terminal.
    pub tty: bool,
    /// Whether it runs as root of a user namespace.
    pub root: bool,
    /// What leads into it from the machine's loopback.
    pub ports: Vec<Publish>,
    /// The caller's terminal.
    pub terminal: Terminal,
}

/// What a weaver may use at most; `None` leaves it to the deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_millicores: Option<u64>,
    /// MiB of memory.
    pub memory_mb: Option<u64>,
}

/// What the caller's terminal calls itself: TERM, COLORTERM, LANG.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// TERM, e.g. `xterm-256color`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// COLORTERM, e.g. `truecolor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colorterm: Option<String>,
    /// LANG, e.g. `en_US.UTF-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
}

/// Most bytes of a command with its arguments.
const MAX_COMMAND: usize = 128 * 1024;

/// Why a repository is not cloned beside an image's own program.
const WHO_CLONES: &str = "is cloned by loom's own first process, and keep_entrypoint leaves that \
    out: let the image's program clone it";

impl WeaverSpec {
    /// Checks what no single field can: sizes of command and terminal, a branch without a repository.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub fn check(&self) -> Result<(), FieldError> {
        let words = self.command.iter();
        if words.clone().map(|word| word.len() + 1).sum::<usize>() > MAX_COMMAND {
            return Err(FieldError::new("command", "is longer than 128 KiB"));
        }
        if words.clone().any(|word| word.contains('\0'))
            || self.command.first().is_some_and(String::is_empty) && !self.keep_entrypoint
        {
            return Err(FieldError::new("command", "is empty or has a NUL byte"));
        }
        if self.branch.is_some() && self.repo.is_none() {
            return Err(FieldError::new("branch", "needs a repo"));
        }
        if self.repo.is_some() && self.keep_entrypoint {
            return Err(FieldError::new("repo", WHO_CLONES));
        }
        Publish::check(&self.ports)?;
        self.terminal.check()
    }
}

impl Terminal {
    fn check(&self) -> Result<(), FieldError> {
        let plain = |value: &String| {
            value.len() <= 64 && value.chars().all(|c| c.is_ascii_graphic()) && !value.is_empty()
        };
        if [&self.term, &self.colorterm, &self.lang].into_iter().flatten().all(plain) {
            return Ok(());
        }
        Err(FieldError::new(
            "terminal",
            "has a value that is not 1 to 64 printable ASCII characters",
        ))
    }
}
