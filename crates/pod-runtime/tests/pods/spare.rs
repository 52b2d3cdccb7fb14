//! The sandbox made ahead: taken once, gone with its runtime, missed by nobody.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_runtime::spec::Network;
use pod_runtime::{Runtime, RuntimeConfig};
use serde_json::Value;

use super::fixture::{Bench, code, eventually, mould, pod, sh};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_spare_is_taken_once", Needs::Nothing, a_spare_is_taken_once),
    ("a_spare_is_for_its_mould_only", Needs::Nothing, a_spare_is_for_its_mould_only),
    ("a_spare_goes_with_its_runtime", Needs::Nothing, a_spare_goes_with_its_runtime),
    ("a_released_spare_has_left", Needs::Nothing, a_released_spare_has_left),
    ("a_dead_spare_is_not_missed", Needs::Nothing, a_dead_spare_is_not_missed),
    ("a_dead_spare_is_swept_away", Needs::Nothing, a_dead_spare_is_swept_away),
    ("a_taken_id_keeps_the_spare", Needs::Nothing, a_taken_id_keeps_the_spare),
];

/// A spare that waits: its folder and what identifies its shim.
struct Waiting {
    folder: PathBuf,
    shim: Value,
}

fn order(runtime: &Runtime) {
    runtime.prepare(&mould(Network::None, &sh(""))).unwrap();
}

fn spares(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state.join("spares")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Has a spare made and waits until it says who it is; it may still be at work.
fn prepare(runtime: &Runtime, state: &Path) -> Waiting {
    order(runtime);
    let found = spares(state);
    let [folder] = found.as_slice() else { panic!("{found:?}") };
    let identity = folder.join("shim.json");
    eventually("it is identified", || identity.exists());
    let shim = serde_json::from_slice(&fs::read(identity).unwrap()).unwrap();
    Waiting { folder: folder.clone(), shim }
}

impl Waiting {
    fn pid(&self) -> i32 {
        i32::try_from(self.shim["pid"].as_i64().unwrap()).unwrap()
    }

    /// Says whether processes, control groups and files are all gone.
    fn is_gone(&self) -> bool {
        let lives = |pid: &Value| {
            let status = fs::read_to_string(format!("/proc/{pid}/status"));
            status.is_ok_and(|status| !status.contains("State:\tZ"))
        };
        let groups = self.shim["cgroups"].as_array().unwrap();
        !lives(&self.shim["pid"])
            && !lives(&self.shim["zygote"][0])
            && groups.iter().all(|group| !Path::new(group.as_str().unwrap()).exists())
            && !self.folder.exists()
    }

    fn kill(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGKILL).unwrap();
        eventually("its shim is dead", || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
            status.map_or(true, |status| status.contains("State:\tZ"))
        });
    }
}

fn shim_of(bench: &Bench, id: &str) -> Value {
    let path = bench.state.join("pods").join(id).join("shim.json");
    let shim: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    shim["pid"].clone()
}

fn a_spare_is_taken_once() -> Result<(), Failed> {
    let bench = Bench::cold();
    let spare = prepare(&bench.runtime, &bench.state);
    order(&bench.runtime);
    assert_eq!(spares(&bench.state), std::slice::from_ref(&spare.folder), "one is enough");
    let (first, second) = (pod(sh("exec sleep 999")), pod(sh("exec sleep 999")));
    let pod = bench.running(&first);
    assert_eq!(shim_of(&bench, &first.id), spare.shim["pid"]);
    assert!(spares(&bench.state).is_empty());
    bench.running(&second);
    assert_ne!(shim_of(&bench, &second.id), spare.shim["pid"]);
    assert_eq!(bench.runtime.list().unwrap().len(), 2);
    pod.remove().unwrap();
    assert!(spare.is_gone());
    Ok(())
}

fn a_spare_is_for_its_mould_only() -> Result<(), Failed> {
    let bench = Bench::cold();
    let spare = prepare(&bench.runtime, &bench.state);
    let mut other = sh("exit 3");
    other.uid = 0;
    assert_eq!(code(&bench.finish(&pod(other))), 3);
    let mut two = pod(sh("exit 4"));
    two.init_containers = vec![sh("true")];
    two.init_containers[0].name = "init".to_owned();
    assert_eq!(code(&bench.finish(&two)), 4);
    assert_eq!(spares(&bench.state), [spare.folder]);
    Ok(())
}

fn a_spare_goes_with_its_runtime() -> Result<(), Failed> {
    let bench = Bench::cold();
    let binary = std::env::current_exe().unwrap();
    let config = RuntimeConfig { state_dir: bench.state.clone(), binary };
    let spare = prepare(&Runtime::open(config).unwrap(), &bench.state);
    eventually("nothing of it is left", || spare.is_gone());
    Ok(())
}

fn a_released_spare_has_left() -> Result<(), Failed> {
    let bench = Bench::cold();
    let spare = prepare(&bench.runtime, &bench.state);
    bench.runtime.release();
    eventually("nothing of it is left", || spare.is_gone());
    bench.runtime.release();
    Ok(())
}

fn a_dead_spare_is_not_missed() -> Result<(), Failed> {
    let bench = Bench::cold();
    let spare = prepare(&bench.runtime, &bench.state);
    spare.kill();
    assert_eq!(code(&bench.finish(&pod(sh("exit 5")))), 5);
    assert!(spare.is_gone());
    Ok(())
}

fn a_dead_spare_is_swept_away() -> Result<(), Failed> {
    let bench = Bench::cold();
    let spare = prepare(&bench.runtime, &bench.state);
    spare.kill();
    bench.runtime.release();
    assert!(spare.folder.exists(), "nobody was there to remove it");
    let next = prepare(&bench.runtime, &bench.state);
    assert!(spare.is_gone());
    bench.runtime.sweep().unwrap();
    assert!(next.folder.exists(), "it is not to be swept away while it is wanted");
    next.kill();
    bench.runtime.release();
    bench.runtime.sweep().unwrap();
    assert!(next.is_gone());
    Ok(())
}

fn a_taken_id_keeps_the_spare() -> Result<(), Failed> {
    let bench = Bench::cold();
    let first = pod(sh("exec sleep 999"));
    bench.running(&first);
    let spare = prepare(&bench.runtime, &bench.state);
    let again = bench.runtime.start(&first);
    assert!(matches!(again, Err(pod_runtime::Error::Exists(_))));
    assert_eq!(spares(&bench.state), [spare.folder]);
    Ok(())
}
