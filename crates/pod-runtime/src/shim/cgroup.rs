//! Limits by control groups, version 1 or 2, wherever this process may make some.
//!
//! ```text
//! BASE/loom-POD            pids.max for all
//! BASE/loom-POD/CONTAINER  memory and cpu
//! ```
//!
//! In a spare the names are its own and [`ONLY`]: the zygote is in the only container's groups
//! before that container is known, and its programs are in them from birth.

mod places;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::spec::Limits;
use places::Places;

/// Processes and threads of a pod, where there is room for several times as many.
const MOST_PROCESSES: u64 = 4096;
/// What part of the room that the machine has for processes one pod may take.
const SHARE_OF_PROCESSES: u64 = 4;
/// Microseconds in which a CPU share is measured out.
const CPU_PERIOD: u64 = 100_000;
/// Where processes go that are in the way: version 2 wants them in leaves only.
const LEAF: &str = "loom-daemon";
/// How often a group is tried again while its last processes die.
const TRIES: u32 = 200;

/// Stands for the only container of a pod that is made of a spare.
pub(crate) const ONLY: &str = "only";

/// What limits a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A pod's groups.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    /// By controller; with version 2 all are the same folder.
    folders: BTreeMap<Controller, (Version, PathBuf)>,
    names: Vec<String>,
    /// The zygote is in the groups of the only container.
    zygote_inside: bool,
    not_enforced: Option<String>,
}

/// A container's groups.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    folders: Vec<(Controller, Version, PathBuf)>,
    /// Whatever the zygote forks is in them.
    by_birth: bool,
}

impl Cgroups {
    /// Makes what can be made for a pod's containers; never fails.
    pub(crate) fn make(pod: &str, names: Vec<String>) -> Self {
        let (mut folders, mut why) = (BTreeMap::new(), None);
        let places = Places::read();
        for controller in Controller::ALL {
            match places.pod_folder(controller, pod) {
                Ok(found) => drop(folders.insert(controller, found)),
                Err(error) => {
                    why.get_or_insert(format!("{} cannot be limited: {error}", controller.name()));
                }
            }
        }
        if let Some((version, pids)) = folders.get(&Controller::Pids) {
            let machine = Path::new("/proc/sys/kernel/threads-max");
            let most = most_processes(pids, number(machine).unwrap_or(u64::MAX));
            limit(*version, pids, Controller::Pids, most).ok();
        }
        Self { folders, names, zygote_inside: false, not_enforced: why }
    }

    /// Moves the zygote of a spare to where its container will be, which may take some 15 ms.
    pub(crate) fn take_in(&mut self, zygote: i32) {
        let groups = self.container(ONLY, &Limits::default());
        let join = |procs: &PathBuf| fs::write(procs, zygote.to_string()).is_ok();
        self.zygote_inside = groups.procs().iter().all(join);
    }

    /// Says why not everything is limited, if so.
    pub(crate) fn not_enforced(&self) -> Option<String> {
        self.not_enforced.clone()
    }

    /// Returns all folders that will ever be made, the deepest first.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut pods: Vec<&PathBuf> = self.folders.values().map(|(_, path)| path).collect();
        pods.dedup();
        let inner = pods.iter().flat_map(|pod| self.names.iter().map(|name| pod.join(name)));
        inner.chain(pods.iter().map(|pod| (*pod).clone())).collect()
    }

    /// Makes a container's groups with its limits.
    pub(crate) fn container(&self, name: &str, limits: &Limits) -> Cgroup {
        let name = if self.names == [ONLY] { ONLY } else { name };
        let mut groups: Vec<(Controller, Version, PathBuf)> = Vec::new();
        for (controller, (version, pod)) in &self.folders {
            let path = pod.join(name);
            if !path.is_dir() && fs::create_dir(&path).is_err() {
                continue;
            }
            let wanted = match controller {
                Controller::Memory => limits.memory_bytes,
                Controller::Cpu => limits.cpu_millis,
                Controller::Pids => None,
            };
            let limited =
                wanted.map_or(Ok(()), |wanted| limit(*version, &path, *controller, wanted));
            if let Err(error) = limited {
                eprintln!("{} of {name} is not limited: {error}", controller.name());
            }
            groups.push((*controller, *version, path));
        }
        Cgroup { folders: groups, by_birth: self.zygote_inside }
    }
}

impl Cgroup {
    /// Returns the files through which a process joins; none where it is in them by birth.
    pub(crate) fn procs(&self) -> Vec<PathBuf> {
        if self.by_birth {
            return Vec::new();
        }
        let paths = self.folders.iter().map(|(.., path)| path);
        let mut files: Vec<_> = paths.map(|path| path.join("cgroup.procs")).collect();
        files.dedup();
        files
    }

    pub(crate) fn open(&self) -> io::Result<Vec<OwnedFd>> {
        open_all(&self.procs())
    }

    /// Returns how many processes the kernel has killed in it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let count = |(controller, version, path): &(Controller, Version, PathBuf)| {
            let file = match (controller, version) {
                (Controller::Memory, Version::One) => "memory.oom_control",
                (Controller::Memory, Version::Two) => "memory.events",
                _ => return 0,
            };
            let text = fs::read_to_string(path.join(file)).unwrap_or_default();
            let mut counts = text.lines().filter_map(|line| line.strip_prefix("oom_kill "));
            counts.next().and_then(|count| count.trim().parse().ok()).unwrap_or(0)
        };
        self.folders.iter().map(count).max().unwrap_or(0)
    }
}

/// Moves this process to where it is. The first move within a while makes the kernel wait for all
/// processors, some 15 ms; those soon after it are free. So one is made ahead, on a thread.
pub(crate) fn warm_up() {
    let places = Places::read();
    let own = places.place(Controller::Memory.name()).or_else(|| places.place(""));
    if let Some((_, own)) = own {
        // Where it is not allowed there are no limits, and nothing to be made faster.
        fs::write(own.join("cgroup.procs"), "0").ok();
    }
}

/// Opens the files through which a process joins; it writes `0` with the opener's rights.
pub(crate) fn open_all(procs: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    procs.iter().map(|path| Ok(File::options().write(true).open(path)?.into())).collect()
}

/// Returns how many processes a pod may have, so that one alone does not leave the others and the
/// daemon without: systemd gives a user's scope 15% of what `machine` has.
fn most_processes(pod: &Path, machine: u64) -> u64 {
    let above = pod.ancestors().skip(1).map_while(|group| {
        let limit = fs::read_to_string(group.join("pids.max")).ok()?;
        // "max" is none.
        Some(limit.trim().parse().unwrap_or(u64::MAX))
    });
    let room = above.min().unwrap_or(u64::MAX).min(machine);
    MOST_PROCESSES.min(room / SHARE_OF_PROCESSES)
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn limit(version: Version, path: &Path, controller: Controller, value: u64) -> io::Result<()> {
    let write = |file: &str, text: String| fs::write(path.join(file), text);
    match (controller, version) {
        (Controller::Pids, _) => write("pids.max", value.to_string()),
        (Controller::Memory, Version::One) => {
            write("memory.limit_in_bytes", value.to_string())?;
            // Missing where swap is not accounted.
            write("memory.memsw.limit_in_bytes", value.to_string()).ok();
            Ok(())
        }
        (Controller::Memory, Version::Two) => {
            write("memory.max", value.to_string())?;
            write("memory.swap.max", "0".to_owned()).ok();
            // As Kubernetes does: a container is killed whole.
            write("memory.oom.group", "1".to_owned()).ok();
            Ok(())
        }
        (Controller::Cpu, version) => {
            // The kernel refuses quotas below a millisecond.
            let quota = (value.saturating_mul(CPU_PERIOD) / 1000).max(1000);
            match version {
                Version::One => write("cpu.cfs_quota_us", quota.to_string()),
                Version::Two => write("cpu.max", format!("{quota} {CPU_PERIOD}")),
            }
        }
    }
}

/// Removes groups, given the deepest first. Their processes may still be dying.
pub(crate) fn remove(paths: &[PathBuf]) {
    for path in paths {
        for _ in 0..TRIES {
            match fs::remove_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => break,
            }
        }
    }
}

/// Removes the groups of a pod whose shim was killed before it could write down which they are.
pub(crate) fn remove_unknown(pod: &str) {
    let places = Places::read();
    let name = format!("loom-{pod}");
    for controller in Controller::ALL {
        for place in places.candidates(controller) {
            let found = place.join(&name);
            let inner = fs::read_dir(&found).into_iter().flatten().flatten();
            let inner = inner.map(|entry| entry.path()).filter(|path| path.is_dir());
            let mut paths: Vec<_> = inner.collect();
            paths.push(found);
            remove(&paths);
        }
    }
}

/// Tries whether a pod could be limited here; says how or why not.
pub(crate) fn probe() -> Result<String, String> {
    let places = Places::read();
    let name = format!("probe-{}", std::process::id());
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    for controller in Controller::ALL {
        match places.pod_folder(controller, &name) {
            Ok((version, path)) => {
                made.push(match version {
                    Version::One => format!("{} (version 1)", controller.name()),
                    Version::Two => format!("{} (version 2)", controller.name()),
                });
                fs::remove_dir(path).ok();
            }
            Err(error) => failed.push(format!("{}: {error}", controller.name())),
        }
    }
    if failed.is_empty() { Ok(made.join(", ")) } else { Err(failed.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_takes_a_quarter_of_the_processes_at_most() {
        let top = std::env::temp_dir().join(format!("loom-pids-{}", std::process::id()));
        let pod = top.join("slice/scope/loom-pod");
        fs::create_dir_all(&pod).unwrap();
        let most = |slice: &str, scope: &str, machine| {
            fs::write(top.join("slice/pids.max"), slice).unwrap();
            fs::write(top.join("slice/scope/pids.max"), scope).unwrap();
            most_processes(&pod, machine)
        };
        assert_eq!(most("max\n", "max\n", u64::MAX), 4096);
        assert_eq!(most("7839\n", "3563\n", 23_756), 890);
        assert_eq!(most("1000\n", "max\n", 23_756), 250);
        assert_eq!(most("max\n", "max\n", 8000), 2000);
        fs::remove_dir_all(&top).unwrap();
    }
}
