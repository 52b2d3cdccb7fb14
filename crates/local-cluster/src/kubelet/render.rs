//! From a pod's object to what the runtime starts.

use pod_runtime::spec::{ContainerSpec, ExecProbe, Image, Limits, Mount, Network, PodSpec};
use serde_json::Value;

use super::env::{Source, expand};
use super::files;
use super::refused::{self, Blocked};
use crate::pod::quantity;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Whom containers run as when nobody says: the user of `loom.local/host`.
pub(super) const USER: u32 = 1000;
const HOME: &str = "/home/loom";

/// Resolves everything a pod refers to.
pub(crate) fn pod(source: &Source<'_>) -> Result<PodSpec, Blocked> {
    let (meta, spec) = (&source.pod["metadata"], &source.pod["spec"]);
    let hostname = spec["hostname"].as_str().unwrap_or(text(&meta["name"]));
    let volumes = files::volumes(source)?;
    let list = |name: &str| -> Result<Vec<ContainerSpec>, Blocked> {
        let containers = spec[name].as_array().into_iter().flatten();
        containers.map(|given| container(source, given, hostname)).collect()
    };
    Ok(PodSpec {
        id: text(&meta["uid"]).into(),
        hostname: short(hostname),
        network: Network::User,
        volumes,
        init_containers: list("initContainers")?,
        containers: list("containers")?,
        active_deadline_seconds: spec["activeDeadlineSeconds"].as_u64(),
        grace_seconds: spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30),
    })
}

/// Cuts a name to what a host name may have.
fn short(name: &str) -> String {
    let end = name.len().min(63);
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

fn container(source: &Source<'_>, given: &Value, hostname: &str) -> Result<ContainerSpec, Blocked> {
    let name = text(&given["name"]);
    let image = refused::image(text(&given["image"]), name, text(&given["imagePullPolicy"]))?;
    let (uid, gid) = user(source.pod, given);
    not_root(source.pod, given, uid)?;
    let asked = source.env(given)?;
    let argv = argv(given, &image, &asked).ok_or_else(|| Blocked::Config {
        container: name.into(),
        message: "Error: no command specified".into(),
    })?;
    let workdir = match (given["workingDir"].as_str().unwrap_or_default(), &image) {
        ("", Image::Host) => HOME,
        ("", Image::Tools | Image::Rootfs { .. }) => "/",
        (given, _) => given,
    };
    Ok(ContainerSpec {
        name: name.into(),
        image,
        argv,
        env: environment(asked, hostname, uid),
        workdir: workdir.into(),
        uid,
        gid,
        mounts: mounts(given),
        read_only_root: given["securityContext"]["readOnlyRootFilesystem"] == true,
        limits: limits(given),
        startup_probe: given.get("startupProbe").map(probe),
        tty: given["tty"] == true,
        stdin: given["stdin"] == true,
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Command and arguments; an image's own program where nothing is asked for.
fn argv(given: &Value, image: &Image, env: &[(String, String)]) -> Option<Vec<String>> {
    let list = |name: &str| given[name].as_array().into_iter().flatten();
    let argv: Vec<String> =
        list("command").chain(list("args")).map(|word| expand(text(word), env)).collect();
    match image {
        _ if !argv.is_empty() => Some(argv),
        Image::Host => Some(vec!["/bin/sh".into()]),
        Image::Tools | Image::Rootfs { .. } => None,
    }
}

/// What every container has, before what it asks for.
fn environment(asked: Vec<(String, String)>, hostname: &str, uid: u32) -> Vec<(String, String)> {
    let home = if uid == 0 { "/root" } else { HOME };
    let mut env: Vec<(String, String)> = [("PATH", PATH), ("HOSTNAME", hostname), ("HOME", home)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    for (name, value) in asked {
        env.retain(|(old, _)| *old != name);
        env.push((name, value));
    }
    env
}

fn setting<'a>(pod: &'a Value, container: &'a Value, field: &str) -> &'a Value {
    match container["securityContext"].get(field) {
        Some(own) => own,
        None => &pod["spec"]["securityContext"][field],
    }
}

fn user(pod: &Value, container: &Value) -> (u32, u32) {
    let id =
        |field: &str| setting(pod, container, field).as_u64().and_then(|id| u32::try_from(id).ok());
    let uid = id("runAsUser").unwrap_or(USER);
    (uid, id("runAsGroup").unwrap_or(if uid == USER { USER } else { 0 }))
}

fn not_root(pod: &Value, container: &Value, uid: u32) -> Result<(), Blocked> {
    if uid == 0 && setting(pod, container, "runAsNonRoot") == true {
        return Err(Blocked::Config {
            container: text(&container["name"]).into(),
            message: "container's runAsUser breaks non-root policy".into(),
        });
    }
    Ok(())
}

fn mounts(given: &Value) -> Vec<Mount> {
    let mounts = given["volumeMounts"].as_array().into_iter().flatten();
    mounts
        .map(|mount| Mount {
            volume: text(&mount["name"]).into(),
            path: text(&mount["mountPath"]).into(),
            sub_path: mount["subPath"].as_str().filter(|sub| !sub.is_empty()).map(str::to_owned),
            read_only: mount["readOnly"] == true,
        })
        .collect()
}

fn limits(given: &Value) -> Limits {
    let limit = |name: &str| given["resources"]["limits"][name].as_str();
    Limits {
        cpu_millis: limit("cpu").and_then(quantity::millis),
        memory_bytes: limit("memory").and_then(quantity::units),
    }
}

fn probe(given: &Value) -> ExecProbe {
    let number = |field: &str, default| given[field].as_u64().unwrap_or(default);
    let command = given["exec"]["command"].as_array().into_iter().flatten();
    ExecProbe {
        argv: command.map(|word| text(word).to_owned()).collect(),
        initial_delay_seconds: number("initialDelaySeconds", 0),
        period_seconds: number("periodSeconds", 10).max(1),
        timeout_seconds: number("timeoutSeconds", 1).max(1),
        failure_threshold: u32::try_from(number("failureThreshold", 3)).unwrap_or(u32::MAX),
    }
}
