//! From a pod's object to what the runtime starts.

use pod_runtime::spec::{ContainerSpec, Limits, Mount, Network, PodSpec, Restart};
use serde_json::Value;

use super::env::{Source, expand};
use super::files;
use super::image::Found;
use super::probes;
use super::refused::Blocked;
use super::user::{self, User};
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
        restart: match text(&spec["restartPolicy"]) {
            "Never" => Restart::Never,
            "OnFailure" => Restart::OnFailure,
            _ => Restart::Always,
        },
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
    let found = source.image(text(&given["image"]), name)?;
    let user = user::of(source.pod, given, found)?;
    let asked = source.env(given)?;
    let argv = argv(given, found, &asked)
        .and_then(|argv| argv.ok_or_else(|| "Error: no command specified".to_owned()))
        .map_err(|message| Blocked::Config { container: name.into(), message })?;
    Ok(ContainerSpec {
        name: name.into(),
        image: found.image(),
        argv,
        env: environment(asked, found, hostname, &user),
        workdir: workdir(given, found),
        uid: user.uid,
        gid: user.gid,
        capabilities: capabilities(given),
        mounts: mounts(given),
        read_only_root: given["securityContext"]["readOnlyRootFilesystem"] == true,
        limits: limits(given),
        probes: probes::of(given),
        sidecar: given["restartPolicy"] == "Always",
        tty: given["tty"] == true,
        stdin: given["stdin"] == true,
    })
}

/// What CRI-O leaves a container's root by default, and SETFCAP, which packages of programs with
/// capabilities need.
const CAPABILITIES: [&str; 10] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
];

fn capabilities(given: &Value) -> Vec<String> {
    let dropped = given["securityContext"]["capabilities"]["drop"].as_array();
    let dropped: Vec<_> = dropped.into_iter().flatten().filter_map(Value::as_str).collect();
    let is_kept = |name: &&str| {
        let is = |drop: &&str| drop.trim_start_matches("CAP_") == *name || *drop == "ALL";
        !dropped.iter().any(is)
    };
    CAPABILITIES.into_iter().filter(is_kept).map(str::to_owned).collect()
}

fn workdir(given: &Value, found: &Found) -> String {
    let asked = given["workingDir"].as_str().unwrap_or_default();
    let own = match found {
        Found::Host => HOME,
        Found::Tools => "/",
        Found::Unpacked(image) => &image.working_dir,
    };
    let first = [asked, own].into_iter().find(|path| !path.is_empty());
    first.unwrap_or("/").to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Command and arguments, else the image's own: a command puts aside both of the image's,
/// arguments only its arguments.
fn argv(
    given: &Value,
    found: &Found,
    env: &[(String, String)],
) -> Result<Option<Vec<String>>, String> {
    let list = |name: &str| -> Result<Vec<String>, String> {
        let words = given[name].as_array().into_iter().flatten();
        words.map(|word| expand(text(word), env)).collect()
    };
    let (command, args) = (list("command")?, list("args")?);
    let shell = ["/bin/sh".to_owned()];
    let (entrypoint, cmd): (&[String], &[String]) = match found {
        Found::Host => (&[], &shell),
        Found::Tools => (&[], &[]),
        Found::Unpacked(image) => (&image.entrypoint, &image.cmd),
    };
    let argv = match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [entrypoint, &args].concat(),
        (true, true) => [entrypoint, cmd].concat(),
    };
    Ok((!argv.is_empty()).then_some(argv))
}

/// What every container has and what its image says, before what it asks for.
fn environment(
    asked: Vec<(String, String)>,
    found: &Found,
    hostname: &str,
    user: &User,
) -> Vec<(String, String)> {
    let home = match (found, &user.home) {
        (Found::Unpacked(_), Some(home)) => home,
        (Found::Unpacked(_), None) => "/",
        (Found::Host | Found::Tools, _) if user.uid == 0 => "/root",
        (Found::Host | Found::Tools, _) => HOME,
    };
    let mut env: Vec<(String, String)> = [("PATH", PATH), ("HOSTNAME", hostname), ("HOME", home)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let own = found.unpacked().map(|image| image.env.clone()).unwrap_or_default();
    for (name, value) in own.into_iter().chain(asked) {
        env.retain(|(old, _)| *old != name);
        env.push((name, value));
    }
    env
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::images::UnpackedImage;

    fn found() -> Found {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let image = UnpackedImage {
            entrypoint: words(&["/entry", "-e"]),
            cmd: words(&["cmd"]),
            env: vec![("PATH".into(), "/go/bin".into()), ("A".into(), "image".into())],
            working_dir: "/src".into(),
            ..UnpackedImage::default()
        };
        Found::Unpacked(image.into())
    }

    #[test]
    fn command_and_arguments_stand_for_the_images() {
        let argv = |given: Value| argv(&given, &found(), &[]).unwrap().unwrap().join(" ");
        assert_eq!(argv(json!({})), "/entry -e cmd");
        assert_eq!(argv(json!({"args": ["x"]})), "/entry -e x");
        assert_eq!(argv(json!({"command": ["c"]})), "c");
        assert_eq!(argv(json!({"command": ["c"], "args": ["x"]})), "c x");
        assert_eq!(super::argv(&json!({}), &Found::Tools, &[]), Ok(None));
    }

    #[test]
    fn the_pods_variables_win_over_the_images() {
        let user = User { uid: 1000, gid: 0, home: None };
        let env = environment(vec![("A".into(), "pod".into())], &found(), "h", &user);
        let value = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
        assert_eq!([value("A"), value("PATH"), value("HOME")], ["pod", "/go/bin", "/"].map(Some));
        assert_eq!(workdir(&json!({}), &found()), "/src");
        assert_eq!(workdir(&json!({"workingDir": "/w"}), &found()), "/w");
    }
}
