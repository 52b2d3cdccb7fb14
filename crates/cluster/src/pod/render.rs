//! From an admitted weaver to its pod.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, ExecAction,
    ImageVolumeSource, LocalObjectReference, Pod, PodSecurityContext, PodSpec, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weaver::{Admitted, Publish, WeaverId, WeaverSpec};

use super::expansion::escape;
use super::stored_spec;
use crate::keys;
use crate::settings::{Amounts, Settings, ToolsMount};

/// The user and group as which a weaver runs.
const USER: i64 = 1000;
/// Where ports are published.
pub(super) const LOOPBACK: &str = "127.0.0.1";
/// How long the startup probe tries, in seconds: cloning is not part of it, pulling neither.
const PATIENCE_SECONDS: i32 = 3600;
/// How much later than the longest lifetime Kubernetes ends a pod by itself, in seconds.
const BACKSTOP_SECONDS: u64 = 600;

/// Returns the pod of `admitted`, made at `created_at` (cut to whole seconds).
///
/// [`ToolsMount::Auto`] counts as [`ToolsMount::Image`]: [`crate::Cluster`] decides it before.
#[must_use]
pub fn render(admitted: &Admitted, created_at: Timestamp, settings: &Settings) -> Pod {
    let (id, spec) = (admitted.id(), admitted.spec());
    Pod {
        metadata: ObjectMeta {
            name: Some(id.pod_name()),
            namespace: Some(settings.namespace.clone()),
            labels: Some(labels(id, spec)),
            annotations: Some(annotations(spec, created_at)),
            ..ObjectMeta::default()
        },
        spec: Some(pod_spec(id, spec, settings)),
        status: None,
    }
}

fn labels(id: WeaverId, spec: &WeaverSpec) -> BTreeMap<String, String> {
    let own = [
        (keys::APP, keys::APP_VALUE.to_owned()),
        (keys::WEAVER_ID, id.to_string()),
        (keys::ORG, spec.org.to_string()),
        (keys::OWNER, spec.owner.to_string()),
    ];
    let name = spec.name.as_ref().map(|name| (keys::NAME.to_owned(), name.to_string()));
    let tags = spec.tags.iter();
    let tags = tags.map(|(key, value)| (format!("{}{key}", keys::TAG_PREFIX), value.to_owned()));
    own.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(name).chain(tags).collect()
}

fn annotations(spec: &WeaverSpec, created_at: Timestamp) -> BTreeMap<String, String> {
    let created_at = whole_seconds(created_at);
    BTreeMap::from([
        (keys::CREATED_AT.to_owned(), created_at.to_string()),
        (keys::EXPIRES_AT.to_owned(), spec.ttl.end(created_at).to_string()),
        (keys::OWNER_NAME.to_owned(), spec.owner_name.clone()),
        (keys::SPEC.to_owned(), stored_spec(spec, spec.ttl)),
    ])
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn pod_spec(id: WeaverId, spec: &WeaverSpec, settings: &Settings) -> PodSpec {
    let copies = settings.tools_mount == ToolsMount::Init && !spec.keep_entrypoint;
    PodSpec {
        active_deadline_seconds: Some(backstop(settings)),
        automount_service_account_token: Some(false),
        containers: vec![container(id, spec, settings)],
        enable_service_links: Some(false),
        host_users: spec.root.then_some(false),
        hostname: Some(hostname(id, spec)),
        image_pull_secrets: pull_secrets(settings),
        init_containers: copies.then(|| vec![tools_container(settings)]),
        restart_policy: Some("Never".to_owned()),
        runtime_class_name: settings.runtime_class.clone(),
        security_context: Some(pod_security(spec)),
        termination_grace_period_seconds: Some(5),
        volumes: Some(volumes(spec, settings)),
        ..PodSpec::default()
    }
}

/// The name, or the end of the id: what the prompt shows can be typed behind `loom attach`.
fn hostname(id: WeaverId, spec: &WeaverSpec) -> String {
    let end = || id.uuid().simple().to_string().split_off(24);
    spec.name.as_ref().map_or_else(|| format!("weaver-{}", end()), ToString::to_string)
}

fn backstop(settings: &Settings) -> i64 {
    let seconds = settings.max_lifetime.hours() * 3600 + BACKSTOP_SECONDS;
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn pull_secrets(settings: &Settings) -> Option<Vec<LocalObjectReference>> {
    let names = settings.image_pull_secrets.iter();
    let secrets: Vec<_> = names.map(|name| LocalObjectReference { name: name.clone() }).collect();
    (!secrets.is_empty()).then_some(secrets)
}

/// Who is root is that only inside: `hostUsers` is false then.
fn pod_security(spec: &WeaverSpec) -> PodSecurityContext {
    let user = if spec.root { 0 } else { USER };
    PodSecurityContext {
        fs_group: Some(user),
        run_as_group: Some(user),
        run_as_non_root: Some(!spec.root),
        run_as_user: Some(user),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// Root keeps what containers have by default: without it, nothing could be installed.
fn container_security(root: bool) -> SecurityContext {
    let none = || Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None };
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: (!root).then(none),
        ..SecurityContext::default()
    }
}

fn container(id: WeaverId, spec: &WeaverSpec, settings: &Settings) -> Container {
    let common = Container {
        name: keys::CONTAINER.to_owned(),
        image: Some(spec.image.to_string()),
        image_pull_policy: settings.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        env: Some(env(id, spec, settings)),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(settings.requests_of(&spec.resources))),
            limits: Some(quantities(settings.limits_of(&spec.resources))),
            claims: None,
        }),
        security_context: Some(container_security(spec.root)),
        ports: ports(spec),
        ..Container::default()
    };
    if spec.keep_entrypoint { kept(common, spec) } else { hosted(common, spec) }
}

/// Adds loom-host, which runs the program.
fn hosted(common: Container, spec: &WeaverSpec) -> Container {
    Container {
        command: Some(command(spec)),
        working_dir: Some(keys::WORKSPACE_PATH.to_owned()),
        startup_probe: Some(startup_probe()),
        volume_mounts: Some(vec![
            mount(keys::TOOLS_VOLUME, keys::TOOLS_PATH, true),
            mount(keys::RUN_VOLUME, keys::RUN_PATH, false),
            mount(keys::WORKSPACE_VOLUME, keys::WORKSPACE_PATH, false),
            mount(keys::HOME_VOLUME, keys::HOME_PATH, false),
        ]),
        ..common
    }
}

/// Leaves the image's program, folder and files as they are; only HOME has to be writable. Input
/// that is no terminal ends with whoever gives it, as a pipe does.
fn kept(common: Container, spec: &WeaverSpec) -> Container {
    let args: Vec<_> = spec.command.iter().map(|word| escape(word)).collect();
    Container {
        args: (!args.is_empty()).then_some(args),
        stdin: Some(true),
        stdin_once: (!spec.tty).then_some(true),
        tty: spec.tty.then_some(true),
        working_dir: spec.workdir.as_ref().map(ToString::to_string),
        volume_mounts: Some(vec![mount(keys::HOME_VOLUME, keys::HOME_PATH, false)]),
        ..common
    }
}

fn ports(spec: &WeaverSpec) -> Option<Vec<ContainerPort>> {
    let port = |port: &Publish| ContainerPort {
        container_port: port.container.into(),
        host_port: Some(port.host.into()),
        host_ip: Some(LOOPBACK.to_owned()),
        protocol: Some("TCP".to_owned()),
        name: None,
    };
    (!spec.ports.is_empty()).then(|| spec.ports.iter().map(port).collect())
}

/// Returns the container's command: what the user gave stands behind `--`, always.
fn command(spec: &WeaverSpec) -> Vec<String> {
    let mut words = vec![keys::HOST_PROGRAM.to_owned(), "run".to_owned()];
    let flags = [
        ("--repo", spec.repo.as_ref().map(weaver::RepoUrl::as_str)),
        ("--branch", spec.branch.as_ref().map(weaver::Branch::as_str)),
        ("--workdir", spec.workdir.as_ref().map(weaver::Workdir::as_str)),
    ];
    for (flag, value) in flags {
        words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), escape(value)]));
    }
    if !spec.tty {
        words.push("--no-tty".to_owned());
    }
    words.push("--".to_owned());
    words.extend(spec.command.iter().map(|word| escape(word)));
    words
}

/// Returns the variables: the id, the user's, and what the user left for us to say.
fn env(id: WeaverId, spec: &WeaverSpec, settings: &Settings) -> Vec<EnvVar> {
    let terminal = &spec.terminal;
    let ours = [
        ("LOOM_SERVER_URL", settings.server_url.as_deref()),
        ("HOME", Some(keys::HOME_PATH)),
        ("TERM", terminal.term.as_deref()),
        ("COLORTERM", terminal.colorterm.as_deref()),
        ("LANG", terminal.lang.as_deref()),
    ];
    let given = |name: &str| spec.env.iter().any(|(key, _)| key == name);
    let ours = ours.into_iter().filter(|(name, _)| !given(name));
    let ours = ours.filter_map(|(name, value)| Some(variable(name, value?)));
    let users = spec.env.iter().map(|(name, value)| variable(name, value));
    [variable("LOOM_WEAVER_ID", &id.to_string())].into_iter().chain(users).chain(ours).collect()
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(escape(value)), value_from: None }
}

fn quantities(amounts: Amounts) -> BTreeMap<String, Quantity> {
    let memory = match amounts.memory_mb {
        mb if mb % 1024 == 0 => format!("{}Gi", mb / 1024),
        mb => format!("{mb}Mi"),
    };
    BTreeMap::from([
        ("cpu".to_owned(), Quantity(format!("{}m", amounts.cpu_millicores))),
        ("memory".to_owned(), Quantity(memory)),
    ])
}

/// A weaver is Running when its host answers; no probe runs after that.
fn startup_probe() -> Probe {
    Probe {
        exec: Some(ExecAction {
            command: Some(vec![keys::HOST_PROGRAM.to_owned(), "ready".to_owned()]),
        }),
        failure_threshold: Some(PATIENCE_SECONDS),
        period_seconds: Some(1),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

/// Copies the tools where the cluster cannot mount their image: `loom-host install FOLDER`.
fn tools_container(settings: &Settings) -> Container {
    let small = Amounts { cpu_millicores: 100, memory_mb: 64 };
    Container {
        name: keys::TOOLS_CONTAINER.to_owned(),
        image: settings.tools_image.clone(),
        image_pull_policy: settings.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        command: Some(["/loom-host", "install", keys::TOOLS_PATH].map(str::to_owned).to_vec()),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(small)),
            limits: Some(quantities(small)),
            claims: None,
        }),
        security_context: Some(container_security(false)),
        volume_mounts: Some(vec![mount(keys::TOOLS_VOLUME, keys::TOOLS_PATH, false)]),
        ..Container::default()
    }
}

fn volumes(spec: &WeaverSpec, settings: &Settings) -> Vec<Volume> {
    let empty = |name: &str| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    if spec.keep_entrypoint {
        return vec![empty(keys::HOME_VOLUME)];
    }
    let tools = match settings.tools_mount {
        ToolsMount::Init => empty(keys::TOOLS_VOLUME),
        ToolsMount::Image | ToolsMount::Auto => Volume {
            name: keys::TOOLS_VOLUME.to_owned(),
            image: Some(ImageVolumeSource {
                pull_policy: settings.image_pull_policy.map(|policy| policy.as_str().to_owned()),
                reference: settings.tools_image.clone(),
            }),
            ..Volume::default()
        },
    };
    vec![tools, empty(keys::RUN_VOLUME), empty(keys::WORKSPACE_VOLUME), empty(keys::HOME_VOLUME)]
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
