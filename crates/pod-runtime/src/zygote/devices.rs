//! A container's own /dev, /proc and /sys.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;

use rustix::mount::{MountFlags, mount_bind};

use super::failure::{Failure, Step};
use super::mounts::{self, HARMLESS, NO_EXEC, READ_ONLY};

/// Shared with the host, because a user namespace cannot make devices; harmless for all.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What shows or changes the machine rather than the container.
const HIDDEN_FILES: [&str; 6] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/sysrq-trigger",
];
const HIDDEN_FOLDERS: [&str; 3] = ["/proc/acpi", "/proc/scsi", "/proc/asound"];
const FIXED: [&str; 4] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];

/// Mounts /proc of this process-id namespace, while the host's is still in sight (the kernel
/// allows it in a user namespace only then).
pub(crate) fn proc() -> Result<(), Failure> {
    mounts::folder("proc", 0o755)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounts::fresh("proc", "proc", flags, "")
}

/// Fills dev. Terminals get group 5 (tty) where there are several groups.
pub(crate) fn dev(groups: bool) -> Result<(), Failure> {
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC;
    mounts::folder("dev", 0o755)?;
    mounts::fresh("tmpfs", "dev", safe, "mode=755,size=65536k")?;
    for name in DEVICES {
        mounts::bind_file(&format!("/dev/{name}"), &format!("dev/{name}"))?;
    }
    mounts::folder("dev/pts", 0o755)?;
    let group = if groups { ",gid=5" } else { "" };
    mounts::fresh(
        "devpts",
        "dev/pts",
        safe,
        &format!("newinstance,ptmxmode=0666,mode=0620{group}"),
    )?;
    mounts::folder("dev/shm", 0o755)?;
    mounts::fresh("tmpfs", "dev/shm", safe | MountFlags::NODEV, "mode=1777,size=64m")?;
    let links = [
        ("pts/ptmx", "dev/ptmx"),
        ("/proc/self/fd", "dev/fd"),
        ("/proc/self/fd/0", "dev/stdin"),
        ("/proc/self/fd/1", "dev/stdout"),
        ("/proc/self/fd/2", "dev/stderr"),
    ];
    links.iter().try_for_each(|(to, at)| symlink(to, at)).step("linking in /dev")
}

/// Fills sys with what runtimes ask about processors, and nothing else.
pub(crate) fn sys() -> Result<(), Failure> {
    const PROCESSORS: &str = "/sys/devices/system/cpu";
    mounts::folder("sys", 0o755)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounts::fresh("tmpfs", "sys", flags, "mode=755,size=64k")?;
    if std::path::Path::new(PROCESSORS).is_dir() {
        mounts::bind_folder(PROCESSORS, "sys/devices/system/cpu", READ_ONLY | HARMLESS | NO_EXEC)?;
    }
    mounts::restrict("sys", READ_ONLY, false)
}

/// Hides and fixes parts of /proc; the root is the container's own by now.
pub(crate) fn mask_proc() -> Result<(), Failure> {
    for path in HIDDEN_FILES {
        ignore_missing(mount_bind("/dev/null", path), path)?;
    }
    for path in HIDDEN_FOLDERS {
        if std::path::Path::new(path).is_dir() {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            mounts::fresh("tmpfs", path, flags, "mode=755,size=4k")?;
        }
    }
    for path in FIXED {
        if ignore_missing(mount_bind(path, path), path)? {
            mounts::restrict(path, READ_ONLY, false)?;
        }
    }
    Ok(())
}

fn ignore_missing(result: rustix::io::Result<()>, path: &str) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if std::io::Error::from(error).kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::step(format!("masking {path}"), error)),
    }
}
