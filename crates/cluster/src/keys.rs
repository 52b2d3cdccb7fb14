//! The one registry of names on a pod: labels, annotations, containers, volumes, paths.

/// Label that every weaver's pod has, with value [`APP_VALUE`].
pub const APP: &str = "app";
/// The value of [`APP`].
pub const APP_VALUE: &str = "loom-weaver";
/// Label: the weaver's id, `W-{uuid}`.
pub const WEAVER_ID: &str = "weaver-id";
/// Label: the organization, `O-…`.
pub const ORG: &str = "loom.dev/org";
/// Label: the owner, `U-…`.
pub const OWNER: &str = "loom.dev/owner";
/// Label: the weaver's name, if it has one.
pub const NAME: &str = "loom.dev/name";
/// Prefix of the labels that carry the user's tags.
pub const TAG_PREFIX: &str = "loom.dev/tag.";

/// Annotation: when the weaver was made, RFC 3339 UTC in whole seconds.
pub const CREATED_AT: &str = "loom.dev/created-at";
/// Annotation: its deadline, created-at plus its lifetime, exactly.
pub const EXPIRES_AT: &str = "loom.dev/expires-at";
/// Annotation: what was asked for, as JSON without env.
pub const SPEC: &str = "loom.dev/spec";
/// Annotation: how the owner is called, for people.
pub const OWNER_NAME: &str = "loom.dev/owner-name";

/// Annotation of events `PullProgress`, where a cluster tells them: bytes of an image that are on the
/// node, and in all, as `N/M`.
pub const PULLED_BYTES: &str = "loom.dev/pulled-bytes";

/// The main container, the first and the default one.
pub const CONTAINER: &str = "weaver";
/// The init container that copies the tools where image volumes are not to be had.
pub const TOOLS_CONTAINER: &str = "loom-tools";
/// The volume with `loom-host`.
pub const TOOLS_VOLUME: &str = "tools";
/// Where [`TOOLS_VOLUME`] is mounted.
pub const TOOLS_PATH: &str = "/run/loom/tools";
/// The program that is a weaver's first process.
pub const HOST_PROGRAM: &str = "/run/loom/tools/loom-host";
/// The volume of the host's socket.
pub const RUN_VOLUME: &str = "run";
/// Where [`RUN_VOLUME`] is mounted.
pub const RUN_PATH: &str = "/run/loom/run";
/// The volume of the workspace.
pub const WORKSPACE_VOLUME: &str = "workspace";
/// Where [`WORKSPACE_VOLUME`] is mounted.
pub const WORKSPACE_PATH: &str = "/workspace";
/// The volume of the home folder, so that HOME is writable on any image.
pub const HOME_VOLUME: &str = "home";
/// Where [`HOME_VOLUME`] is mounted, and HOME unless the user sets it.
pub const HOME_PATH: &str = "/home/loom";

/// Condition with which a cluster says that it cannot hold a pod to its limits.
pub const LIMITS_ENFORCED: &str = "LimitsEnforced";
