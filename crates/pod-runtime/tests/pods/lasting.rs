//! Who survives whom, and that nothing is left in the end.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_runtime::{Error, Runtime, RuntimeConfig};

use super::fixture::{
    Bench, PAUSE, code, end_of, eventually, exec, marker, pids_with, pod, reason, sh, told, until,
};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_pod_is_adopted_by_another_runtime", Needs::Nothing, a_pod_is_adopted),
    ("a_pod_outlives_its_caller", Needs::Nothing, a_pod_outlives_its_caller),
    ("a_killed_shim_takes_everything_along", Needs::Nothing, a_killed_shim_takes_everything_along),
    ("a_killed_zygote_ends_the_pod", Needs::Nothing, a_killed_zygote_ends_the_pod),
    ("the_binary_may_be_replaced", Needs::Nothing, the_binary_may_be_replaced),
    ("ids_and_names_are_checked", Needs::Nothing, ids_and_names_are_checked),
    ("removing_leaves_nothing", Needs::Nothing, removing_leaves_nothing),
    ("files_of_any_mode_are_removed", Needs::Nothing, files_of_any_mode_are_removed),
    ("a_long_state_path_works", Needs::Nothing, a_long_state_path_works),
    ("many_pods_at_once", Needs::Nothing, many_pods_at_once),
];

/// Of pods that are started anew each time.
pub(crate) const COLD: &[Test] = &[
    ("a_shim_that_is_only_beginning_is_no_second_one", Needs::Nothing, only_beginning),
    ("groups_that_nobody_wrote_down_are_removed", Needs::Cgroups, unknown_groups),
];

/// Holds a shim up at its first step while the state folder has a file `hold`.
pub(crate) fn while_held(folder: Option<&OsString>) {
    let Some(state) = folder.and_then(|folder| Path::new(folder).ancestors().nth(2)) else {
        return;
    };
    while state.join("hold").exists() {
        sleep(PAUSE);
    }
}

/// Starts a pod as a caller that can be killed: `start STATE_DIR`, its spec on standard input.
pub(crate) fn start_from_stdin(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (state_dir, binary) = (args.next().unwrap().into(), std::env::current_exe().unwrap());
    let runtime = Runtime::open(RuntimeConfig { state_dir, binary }).unwrap();
    let spec = serde_json::from_reader(std::io::stdin()).unwrap();
    runtime.start(&spec).unwrap();
    ExitCode::SUCCESS
}

/// Its shim was killed after it had made its groups, and before it said so.
fn unknown_groups() -> Result<(), Failed> {
    let bench = Bench::cold();
    let known = pod(sh("exec sleep 999"));
    bench.running(&known);
    let shim = shim_json(&bench, &known.id);
    let groups = shim["cgroups"].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
    let other = pod(sh("true")).id;
    let mut groups: Vec<_> = groups.map(|path| path.replace(&known.id, &other)).collect();
    assert!(groups.iter().all(|path| path.contains(&other)), "{groups:?}");
    groups.reverse();
    groups.iter().for_each(|path| drop(fs::create_dir(path)));
    let there = || groups.iter().filter(|path| Path::new(path.as_str()).exists()).count();
    assert_eq!(there(), groups.len());
    fs::create_dir(bench.state.join("pods").join(&other)).unwrap();
    bench.runtime.remove(&other).unwrap();
    assert_eq!(there(), 0);
    Ok(())
}

/// Its caller was killed while it was doing its first step.
fn only_beginning() -> Result<(), Failed> {
    let bench = Bench::cold();
    let marker = marker();
    let spec = pod(sh(&format!("exec sleep {marker}")));
    let hold = bench.state.join("hold");
    fs::write(&hold, "").unwrap();
    let mut caller = Command::new(std::env::current_exe().unwrap());
    let mut caller = caller.arg("start").arg(&bench.state).stdin(Stdio::piped()).spawn().unwrap();
    serde_json::to_writer(caller.stdin.take().unwrap(), &spec).unwrap();
    let shims = || pids_with(&format!("pod-shim run {}/pods/{}", bench.state.display(), spec.id));
    eventually("its shim has begun", || shims().len() == 1);
    caller.kill().unwrap();
    caller.wait().unwrap();
    let begun = |result: Result<(), Error>| matches!(result, Err(Error::Beginning(_)));
    assert!(begun(bench.runtime.adopt(&spec.id).map(drop)), "it lives");
    assert!(begun(bench.runtime.remove(&spec.id)), "nobody knows what to end");
    assert!(matches!(bench.runtime.start(&spec), Err(Error::Exists(_))));
    fs::remove_file(hold).unwrap();
    let pod = bench.runtime.adopt(&spec.id).unwrap();
    until(&pod, |status| reason(&status.containers[0].state) == "Running");
    assert_eq!(pids_with(&format!("sleep {marker}")).len(), 1);
    pod.remove().unwrap();
    eventually("nothing is left", || shims().is_empty() && pids_with(&marker).is_empty());
    Ok(())
}

pub(crate) fn shim_json(bench: &Bench, id: &str) -> serde_json::Value {
    let path = bench.state.join("pods").join(id).join("shim.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn pid_of(value: &serde_json::Value) -> i32 {
    i32::try_from(value.as_i64().unwrap()).unwrap()
}

fn a_pod_is_adopted() -> Result<(), Failed> {
    let bench = Bench::new();
    let spec = pod(sh("exec sleep 999"));
    drop(bench.running(&spec));
    let binary = std::env::current_exe().unwrap();
    let other = Runtime::open(RuntimeConfig { state_dir: bench.state.clone(), binary }).unwrap();
    assert_eq!(other.list().unwrap(), std::slice::from_ref(&spec.id));
    let adopted = other.adopt(&spec.id).unwrap();
    assert_eq!(told(adopted.exec(&exec(&["echo", "hi"])).unwrap(), b"").1, "hi\n");
    adopted.stop(Duration::ZERO).unwrap();
    assert_eq!(code(&end_of(&adopted)), 137);
    eventually("the shim is gone", || other.adopt(&spec.id).is_err());
    let Err(Error::Gone { last: Some(last), rebooted: false }) = other.adopt(&spec.id) else {
        panic!("it should be gone")
    };
    assert_eq!(code(&last), 137);
    assert!(matches!(other.adopt("unknown"), Err(Error::NotFound(_))));
    Ok(())
}

/// The shim is no child of ours, in a session of its own, and holds none of our descriptors.
fn a_pod_outlives_its_caller() -> Result<(), Failed> {
    let bench = Bench::new();
    let spec = pod(sh("exec sleep 999"));
    bench.running(&spec);
    let shim = pid_of(&shim_json(&bench, &spec.id)["pid"]);
    let stat = fs::read_to_string(format!("/proc/{shim}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let own = std::process::id().to_string();
    assert_ne!(fields[1], own, "parent");
    assert_eq!(fields[2], fields[3], "group and session");
    assert_ne!(fields[3], nix::unistd::getsid(None).unwrap().to_string());
    Ok(())
}

fn a_killed_shim_takes_everything_along() -> Result<(), Failed> {
    let bench = Bench::new();
    let marker = marker();
    let script = format!("setsid sleep {marker} & exec sleep {marker}");
    let spec = pod(sh(&script));
    let pod = bench.running(&spec);
    eventually("both run", || pids_with(&format!("sleep {marker}")).len() == 2);
    let shim = shim_json(&bench, &spec.id);
    kill(Pid::from_raw(pid_of(&shim["pid"])), Signal::SIGKILL).unwrap();
    eventually("all are dead", || pids_with(&marker).is_empty());
    let zygote = format!("/proc/{}/status", pid_of(&shim["zygote"][0]));
    eventually("the zygote is dead", || {
        fs::read_to_string(&zygote).map_or(true, |status| status.contains("State:\tZ"))
    });
    let Err(Error::Gone { last: Some(last), .. }) = pod.status() else { panic!("not gone") };
    assert_eq!(reason(&last.containers[0].state), "Running");
    Ok(())
}

fn a_killed_zygote_ends_the_pod() -> Result<(), Failed> {
    let bench = Bench::new();
    let spec = pod(sh("exec sleep 999"));
    let pod = bench.running(&spec);
    until(&pod, |status| reason(&status.containers[0].state) == "Running");
    let zygote = pid_of(&shim_json(&bench, &spec.id)["zygote"][0]);
    kill(Pid::from_raw(zygote), Signal::SIGKILL).unwrap();
    assert_eq!(code(&end_of(&pod)), 137);
    Ok(())
}

fn the_binary_may_be_replaced() -> Result<(), Failed> {
    let bench = Bench::new();
    let binary = bench.state.join("a-binary");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let config = RuntimeConfig { state_dir: bench.state.clone(), binary: binary.clone() };
    let runtime = Runtime::open(config).unwrap();
    fs::remove_file(&binary).unwrap();
    let mut spec = pod(super::fixture::inside(&["allocate", "1"]));
    spec.active_deadline_seconds = Some(600);
    let pod = runtime.start(&spec).unwrap();
    assert_eq!(code(&end_of(&pod)), 0);
    Ok(())
}

fn ids_and_names_are_checked() -> Result<(), Failed> {
    let bench = Bench::new();
    for id in ["", "..", "a/b", ".hidden"] {
        let mut spec = pod(sh("true"));
        spec.id = id.to_owned();
        assert!(matches!(bench.runtime.start(&spec), Err(Error::Name(_))), "{id:?}");
    }
    let mut spec = pod(sh("true"));
    spec.containers[0].name = "../main".to_owned();
    assert!(matches!(bench.runtime.start(&spec), Err(Error::Name(_))));
    let spec = pod(sh("exec sleep 999"));
    bench.running(&spec);
    assert!(matches!(bench.runtime.start(&spec), Err(Error::Exists(_))));
    Ok(())
}

fn removing_leaves_nothing() -> Result<(), Failed> {
    let bench = Bench::new();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let marker = marker();
    let mut main = sh(&format!("exec sleep {marker}"));
    main.limits.memory_bytes = Some(1 << 30);
    let spec = pod(main);
    let pod = bench.running(&spec);
    until(&pod, |status| reason(&status.containers[0].state) == "Running");
    let shim = shim_json(&bench, &spec.id);
    pod.remove().unwrap();
    assert!(pids_with(&marker).is_empty());
    assert!(pids_with(&spec.id).is_empty());
    for pid in [&shim["pid"], &shim["zygote"][0]] {
        // Whoever inherits the dead may take a while to bury them.
        let status = fs::read_to_string(format!("/proc/{}/status", pid_of(pid)));
        assert!(status.is_err() || status.unwrap().contains("State:\tZ"));
    }
    for cgroup in shim["cgroups"].as_array().unwrap() {
        assert!(!Path::new(cgroup.as_str().unwrap()).exists(), "{cgroup}");
    }
    assert!(!mounts().contains(&spec.id));
    assert!(!bench.state.join("pods").join(&spec.id).exists());
    assert!(matches!(bench.runtime.remove(&spec.id), Err(Error::NotFound(_))));
    Ok(())
}

fn files_of_any_mode_are_removed() -> Result<(), Failed> {
    let bench = Bench::new();
    let script =
        "mkdir -p /workspace/a/b; touch /workspace/a/b/c; chmod 0 /workspace/a/b /workspace/a";
    let spec = pod(sh(script));
    let pod = bench.start(&spec);
    assert_eq!(code(&end_of(&pod)), 0);
    pod.remove().unwrap();
    assert!(!bench.state.join("pods").join(&spec.id).exists());
    Ok(())
}

fn a_long_state_path_works() -> Result<(), Failed> {
    let bench = Bench::new();
    let state_dir = bench.state.join("x".repeat(120)).join("y".repeat(120));
    let binary = std::env::current_exe().unwrap();
    let runtime = Runtime::open(RuntimeConfig { state_dir, binary }).unwrap();
    let pod = runtime.start(&pod(sh("exit 4"))).unwrap();
    assert_eq!(code(&end_of(&pod)), 4);
    pod.remove().unwrap();
    Ok(())
}

fn many_pods_at_once() -> Result<(), Failed> {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        let pods = (0..8).map(|number| {
            let bench = &bench;
            let spec = pod(sh(&format!("exit {number}")));
            scope.spawn(move || code(&end_of(&bench.start_in_any(&spec))))
        });
        let codes: Vec<i32> =
            pods.collect::<Vec<_>>().into_iter().map(|pod| pod.join().unwrap()).collect();
        assert_eq!(codes, (0..8).collect::<Vec<_>>());
    });
    Ok(())
}
