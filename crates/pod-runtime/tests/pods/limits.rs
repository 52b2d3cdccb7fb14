//! What a pod may take of the machine, and that it says so where nobody can hold it back.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use nix::unistd::geteuid;

use super::fixture::{Bench, eventually, inside, pod, reason, sh, until};
use super::lasting::shim_json;
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("too_much_memory_is_oom_killed", Needs::Cgroups, too_much_memory_is_oom_killed),
    ("a_fork_bomb_stays_within_its_pod", Needs::Cgroups, a_fork_bomb_stays_within_its_pod),
    ("who_takes_too_much_of_a_processor_waits", Needs::Cgroups, who_takes_too_much_waits),
];

/// Of pods that are started anew each time.
pub(crate) const COLD: &[Test] = &[
    ("limits_that_cannot_be_had_are_told", Needs::NoCgroups, what_cannot_be_had_is_told),
    (
        "abuse_a_million_watches_stay_within_their_pod",
        Needs::Nothing,
        a_million_watches_stay_within_their_pod,
    ),
];

fn too_much_memory_is_oom_killed() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = inside(&["allocate", "256"]);
    main.limits.memory_bytes = Some(64 << 20);
    let status = bench.finish(&pod(main));
    assert_eq!(status.limits_not_enforced, None);
    assert_eq!(reason(&status.containers[0].state), "OOMKilled 137");
    Ok(())
}

fn a_fork_bomb_stays_within_its_pod() -> Result<(), Failed> {
    let bench = Bench::new();
    let bomb = pod(inside(&["fork"]));
    let _bomb = bench.running(&bomb);
    let count = || bench.output(&bomb.id, "main").lines().next()?.parse::<usize>().ok();
    eventually("the bomb has all that it gets", || count().is_some());
    assert!(count().is_some_and(|count| count > 100 && count <= 4096), "{:?}", count());
    // While it has that, another pod starts and forks.
    assert_eq!(bench.script("(echo well)"), (0, "well".to_owned()));
    Ok(())
}

/// What may be watched is counted for the user of this machine who owns the pods, too.
fn a_million_watches_stay_within_their_pod() -> Result<(), Failed> {
    let bench = Bench::cold();
    let hog = pod(inside(&["watch"]));
    let _hog = bench.running(&hog);
    eventually("it has all that it gets", || !bench.output(&hog.id, "main").is_empty());
    let told = bench.output(&hog.id, "main");
    let counts: Vec<u32> = told.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    assert!(counts[0] > 16 && counts[1] > 1000 && counts[1] < 1_000_000, "{told}");
    // While it has that, its user watches, and so does another pod.
    crate::inside::watch("/tmp").map_err(|error| format!("after {told}: {error}"))?;
    assert_eq!(bench.inside(&["watch", "/tmp"]), "0: done");
    Ok(())
}

fn who_takes_too_much_waits() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut spec = pod(sh("while :; do :; done"));
    spec.containers[0].limits.cpu_millis = Some(100);
    bench.running(&spec);
    let groups: Vec<PathBuf> =
        serde_json::from_value(shim_json(&bench, &spec.id)["cgroups"].clone())?;
    let waited = |group: &PathBuf| {
        let stat = fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
        stat.lines().any(|line| line.starts_with("nr_throttled ") && !line.ends_with(" 0"))
    };
    eventually("the kernel makes it wait", || groups.iter().any(waited));
    Ok(())
}

/// Root hides its control groups from the shim; an ordinary user often has none.
fn what_cannot_be_had_is_told() -> Result<(), Failed> {
    let bench = Bench::cold();
    let mut spec = pod(sh("exec sleep 999"));
    spec.containers[0].limits.memory_bytes = Some(64 << 20);
    let pod = if geteuid().is_root() {
        start_without_groups(&bench.state, &serde_json::to_vec(&spec)?)?;
        bench.runtime.adopt(&spec.id)?
    } else {
        bench.start(&spec)
    };
    let status = until(&pod, |status| reason(&status.containers[0].state) == "Running");
    let why = status.limits_not_enforced.unwrap_or_default();
    assert!(why.starts_with("memory cannot be limited: "), "{why}");
    Ok(())
}

fn start_without_groups(state: &Path, spec: &[u8]) -> Result<(), Failed> {
    let mut caller = Command::new("unshare");
    let hide = "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"";
    caller.args(["--mount", "sh", "-c", hide, "sh"]);
    caller.arg(std::env::current_exe()?).arg("start").arg(state).stdin(Stdio::piped());
    let mut caller = caller.spawn()?;
    caller.stdin.take().ok_or("no input")?.write_all(spec)?;
    assert!(caller.wait()?.success());
    Ok(())
}
