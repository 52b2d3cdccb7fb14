//! What can go wrong between us and Kubernetes, and how its answers are told apart.

use std::fmt;
use std::time::Duration;

use kube::core::Status;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// A call that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cluster to talk to: the kubeconfig is missing or wrong.
    #[error("no Kubernetes cluster is configured: {why}")]
    Config {
        /// What is wrong and what to do.
        why: String,
        /// What the client says.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A pod cannot be made without the image that holds loom-host.
    #[error("no tools image is set: set LOOM_SERVER_TOOLS_IMAGE to the image that holds loom-host")]
    NoToolsImage,
    /// The namespace is missing or on its way out.
    #[error("namespace {namespace} {why}")]
    Namespace {
        /// Its name.
        namespace: String,
        /// What is wrong with it and what to do.
        why: &'static str,
    },
    /// The thing is not there.
    #[error("{what} is not there")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// A pod of this name is already there.
    #[error("{what} already exists")]
    AlreadyExists {
        /// What was to be made.
        what: String,
    },
    /// Somebody else changed or deleted it first.
    #[error("{what} was changed by somebody else meanwhile")]
    Changed {
        /// What was to be changed.
        what: String,
    },
    /// The pod is there and its program does not run, or no longer.
    #[error("the weaver is not running: {message}")]
    NotRunning {
        /// The cluster's words.
        message: String,
    },
    /// The pod of this name is not, or no longer, what it should be.
    #[error(transparent)]
    Unreadable(#[from] crate::pod::Unreadable),
    /// We may not.
    #[error("Kubernetes does not let this server {call}: add the verb to its role")]
    Forbidden {
        /// Verb, resource and namespace.
        call: Call,
    },
    /// Kubernetes does not know who we are.
    #[error("Kubernetes does not accept this server's credentials: {message}")]
    Unauthorized {
        /// The cluster's words.
        message: String,
    },
    /// The namespace's quota is used up.
    #[error("the cluster's quota is used up: {message}")]
    Quota {
        /// The cluster's words.
        message: String,
    },
    /// An admission rule of the cluster refuses the pod.
    #[error("the cluster refuses it: {message}")]
    Refused {
        /// The cluster's words.
        message: String,
    },
    /// The API server finds the request wrong.
    #[error("Kubernetes finds the request invalid: {message}")]
    Invalid {
        /// The cluster's words.
        message: String,
    },
    /// The API server is overloaded and says when to come back.
    #[error("Kubernetes is overloaded and asks to wait {} s", retry_after.as_secs())]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
    /// A list took too long between two pages, or its cursor is not one.
    #[error("the cursor has expired: list from the start")]
    CursorExpired,
    /// The API server cannot be reached, fails, or answers what cannot be read.
    #[error("Kubernetes is not available: {why}")]
    Unavailable {
        /// What happened.
        why: String,
        /// What the client says.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// No answer within the deadline.
    #[error("Kubernetes did not answer within {} s: {call}", deadline.as_secs_f32())]
    Timeout {
        /// What was tried.
        call: Call,
        /// How long was waited.
        deadline: Duration,
    },
}

impl Error {
    /// Returns a stable word for programs, metrics and problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "cluster_config",
            Self::NoToolsImage => "tools_image_missing",
            Self::Namespace { .. } => "namespace_unavailable",
            Self::NotFound { .. } => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::Changed { .. } => "changed",
            Self::NotRunning { .. } => "not_running",
            Self::Unreadable(_) => "unreadable",
            Self::Forbidden { .. } => "cluster_forbidden",
            Self::Unauthorized { .. } => "cluster_unauthorized",
            Self::Quota { .. } => "quota_exceeded",
            Self::Refused { .. } => "refused_by_cluster",
            Self::Invalid { .. } => "invalid",
            Self::TooMany { .. } => "cluster_overloaded",
            Self::CursorExpired => "cursor_expired",
            Self::Unavailable { .. } => "cluster_unavailable",
            Self::Timeout { .. } => "cluster_timeout",
        }
    }

    /// Tells whether the same call may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::TooMany { .. } | Self::Unavailable { .. } | Self::Timeout { .. })
    }

    pub(crate) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into(), source: None }
    }
}

/// A call to Kubernetes, in the words of RBAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// E.g. `create`.
    pub verb: &'static str,
    /// E.g. `pods`.
    pub resource: &'static str,
    /// The namespace it is about.
    pub namespace: String,
    /// The object's name, where there is one.
    pub name: Option<String>,
}

impl Call {
    fn what(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("{} in namespace {}", self.resource, self.namespace),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in namespace {}", self.verb, self.resource, self.namespace)
    }
}

/// What our own layer makes of a 429 answer, whose header the client would lose.
#[derive(Debug, thiserror::Error)]
#[error("asked to wait {} s", .0.as_secs())]
pub(crate) struct Overloaded(pub(crate) Duration);

/// Turns the client's error about `call` into ours.
pub(crate) fn read(call: &Call, error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => refusal(call, &status),
        kube::Error::Service(error) => match error.downcast_ref::<Overloaded>() {
            Some(Overloaded(retry_after)) => Error::TooMany { retry_after: *retry_after },
            None => unavailable("it cannot be reached", error),
        },
        kube::Error::Auth(error) => Error::Unauthorized { message: error.to_string() },
        kube::Error::SerdeError(error) => unavailable("its answer cannot be read", error.into()),
        kube::Error::FromUtf8(error) => unavailable("its answer cannot be read", error.into()),
        kube::Error::UpgradeConnection(error) => upgrade(call, &error),
        other => unavailable("it cannot be reached", other.into()),
    }
}

fn unavailable(why: &str, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Unavailable { why: format!("{why} ({})", root(&*source)), source: Some(source) }
}

/// Returns the innermost cause, which says most: `Connection refused`.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Tells the API server's refusals apart, by reason first and code second.
fn refusal(call: &Call, status: &Status) -> Error {
    let message = status.message.clone();
    let what = call.what();
    match (status.code, status.reason.as_str()) {
        (_, "NotFound") | (404, _) => missing(call, status),
        (_, "AlreadyExists") => Error::AlreadyExists { what },
        (_, "Conflict") => Error::Changed { what },
        (_, "Expired" | "ResourceExpired") | (410, _) => Error::CursorExpired,
        (_, "Unauthorized") | (401, _) => Error::Unauthorized { message },
        (403, _) => forbidden(call, status),
        (429, _) => Error::TooMany { retry_after: retry_after(status) },
        (400, _) if call.verb == "list" && message.contains("continue") => Error::CursorExpired,
        (400, _) if is_not_running(&message) => Error::NotRunning { message },
        (_, "Timeout" | "ServerTimeout" | "ServiceUnavailable") => unanswered(status),
        (400..=499, _) => Error::Invalid { message },
        _ if is_not_running(&message) => Error::NotRunning { message },
        _ => unanswered(status),
    }
}

fn unanswered(status: &Status) -> Error {
    let message: String = status.message.chars().take(200).collect();
    Error::unavailable(format!("it answers {}: {message}", status.code))
}

fn missing(call: &Call, status: &Status) -> Error {
    let kind = status.details.as_ref().map(|details| details.kind.as_str());
    if kind == Some("namespaces") || call.resource == "namespaces" {
        return Error::Namespace { namespace: call.namespace.clone(), why: NO_NAMESPACE };
    }
    if is_not_running(&status.message) {
        return Error::NotRunning { message: status.message.clone() };
    }
    Error::NotFound { what: call.what() }
}

/// What is said of a namespace that is not there.
pub(crate) const NO_NAMESPACE: &str =
    "does not exist: create it with kubectl create namespace, the server does not";
/// What is said of one that is being deleted.
pub(crate) const ENDING_NAMESPACE: &str = "is being deleted: wait until it is gone and create it";

/// A 403 is RBAC's, the quota's or an admission rule's; only its words tell which.
fn forbidden(call: &Call, status: &Status) -> Error {
    let message = status.message.clone();
    let causes = status.details.iter().flat_map(|details| &details.causes);
    if causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating") {
        return Error::Namespace { namespace: call.namespace.clone(), why: ENDING_NAMESPACE };
    }
    if message.contains(" cannot ") {
        return Error::Forbidden { call: call.clone() };
    }
    if message.contains("exceeded quota") || message.contains("failed quota") {
        return Error::Quota { message };
    }
    Error::Refused { message }
}

fn retry_after(status: &Status) -> Duration {
    let seconds = status.details.as_ref().map_or(1, |details| details.retry_after_seconds);
    Duration::from_secs(u64::from(seconds.max(1)))
}

/// The kubelet's words for a container that cannot be entered.
fn is_not_running(message: &str) -> bool {
    let marks = [
        "container not found",
        "is waiting to start",
        "is not running",
        "does not have a host assigned",
        "cannot exec in a stopped",
        "is terminated",
        "no running task",
    ];
    marks.iter().any(|mark| message.contains(mark))
}

fn upgrade(call: &Call, error: &kube::client::UpgradeConnectionError) -> Error {
    use kube::client::UpgradeConnectionError::ProtocolSwitch;
    match error {
        ProtocolSwitch(code) if code.as_u16() == 403 => Error::Forbidden { call: call.clone() },
        // The pod itself was looked at just before: it is the container that is not there.
        ProtocolSwitch(code) if matches!(code.as_u16(), 400 | 404 | 500) => {
            Error::NotRunning { message: "its container cannot be entered".to_owned() }
        }
        other => Error::unavailable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call { verb: "create", resource: "pods", namespace: "ns".to_owned(), name: None }
    }

    fn of(code: u16, reason: &str, message: &str) -> Error {
        refusal(&call(), &Status::failure(message, reason).with_code(code))
    }

    #[test]
    fn answers_are_told_apart() {
        for (code, reason, message, expected) in [
            (404, "NotFound", "pods \"weaver-1\" not found", "not_found"),
            (409, "AlreadyExists", "pods \"weaver-1\" already exists", "already_exists"),
            (409, "Conflict", "the object has been modified", "changed"),
            (410, "Expired", "The provided continue parameter is too old", "cursor_expired"),
            (410, "Gone", "too old resource version", "cursor_expired"),
            (401, "Unauthorized", "Unauthorized", "cluster_unauthorized"),
            (403, "Forbidden", "User \"x\" cannot create resource \"pods\"", "cluster_forbidden"),
            (403, "Forbidden", "exceeded quota: q, requested: pods=1", "quota_exceeded"),
            (403, "Forbidden", "violates PodSecurity \"restricted:latest\"", "refused_by_cluster"),
            (403, "", "admission webhook \"no.example\" denied the request", "refused_by_cluster"),
            (422, "Invalid", "Pod \"x\" is invalid", "invalid"),
            (429, "TooManyRequests", "slow down", "cluster_overloaded"),
            (400, "BadRequest", "container \"weaver\" in pod is waiting to start", "not_running"),
            (500, "InternalError", "container not found (\"weaver\")", "not_running"),
            (500, "InternalError", "etcdserver: request timed out", "cluster_unavailable"),
            (503, "ServiceUnavailable", "", "cluster_unavailable"),
            (504, "Timeout", "", "cluster_unavailable"),
        ] {
            assert_eq!(of(code, reason, message).code(), expected, "{code} {reason} {message}");
        }
    }

    #[test]
    fn forbidden_names_verb_resource_and_namespace() {
        let error = of(403, "Forbidden", "User \"x\" cannot create resource \"pods\"");
        assert_eq!(
            error.to_string(),
            "Kubernetes does not let this server create pods in namespace ns: \
             add the verb to its role"
        );
    }
}
