//! Tries what pods need on this machine, each in a child process, and says what to do.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getegid, geteuid};

use crate::shim::ids::{self, IdMap};
use crate::shim::{StartReport, cgroup};
use crate::sys;
use crate::zygote::tun;

const USER_NAMESPACES: &str = "user namespaces are not allowed here";
const USERNS_CLONE: &str = "/proc/sys/kernel/unprivileged_userns_clone";
const USERNS_MOST: &str = "/proc/sys/user/max_user_namespaces";
const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `user-namespaces`, `mounts`, `overlay`, `tun`, `cgroups` or `ids`.
    pub name: &'static str,
    /// Whether it works.
    pub ok: bool,
    /// What was found, in words.
    pub detail: String,
    /// What to do when it does not work.
    pub fix: Option<String>,
    /// Whether no pod can start without it.
    pub fatal: bool,
}

/// Tries everything; takes well under a second.
pub fn probe(state_dir: &Path) -> Vec<Check> {
    let [users, mounts, overlay, tun] = try_all(state_dir);
    let users_fix = users.as_ref().err().map(|error| why_no_user_namespaces(error).1);
    let mounts_fix = mounts.as_ref().err().map(|_| why_no_mounts());
    let tun_fix = tun.as_ref().err().map(|_| TUN_FIX.to_owned());
    vec![
        check("user-namespaces", users, users_fix, true),
        check("mounts", mounts, mounts_fix, true),
        check("overlay", overlay, None, false),
        check("tun", tun, tun_fix, false),
        cgroups(),
        owners(),
    ]
}

const TUN_FIX: &str = "pods have no network without it: sudo chmod 666 /dev/net/tun \
                       (in a container: --device /dev/net/tun)";

/// Error numbers of what was tried, 0 for what works.
type Codes = [i32; 4];

/// Addresses of a pod that is only tried out.
const ALONE: tun::Addresses = tun::Addresses { four: netstack::POD_IP, six: None };

/// Has a child try, since we may have threads, and children of a process with threads may not do
/// much. It has none, and so can fork into namespaces as it likes.
fn try_all(state_dir: &Path) -> [io::Result<()>; 4] {
    let codes = sys::in_child(|| {
        let users = CloneFlags::CLONE_NEWUSER;
        let mounts = users | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
        let network = users | CloneFlags::CLONE_NEWNET;
        let codes: Codes = [
            code(attempt(users, || Ok(()))),
            code(attempt(mounts, try_mounts)),
            code(attempt(mounts, || try_overlay(state_dir))),
            code(attempt(network, || tun::open(ALONE).map(drop))),
        ];
        serde_json::to_vec(&codes).unwrap_or_default()
    });
    let codes = codes.and_then(|text| Ok(serde_json::from_slice::<Codes>(&text)?));
    let codes = codes.unwrap_or([nix::libc::EAGAIN; 4]);
    codes.map(|code| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) })
}

fn code(result: io::Result<()>) -> i32 {
    result.err().map_or(0, |error| error.raw_os_error().unwrap_or(nix::libc::EIO))
}

fn check(name: &'static str, result: io::Result<()>, fix: Option<String>, fatal: bool) -> Check {
    match result {
        Ok(()) => Check { name, ok: true, detail: "works".to_owned(), fix: None, fatal },
        Err(error) => Check { name, ok: false, detail: error.to_string(), fix, fatal },
    }
}

fn cgroups() -> Check {
    let (ok, detail) = match cgroup::probe() {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    };
    let fix = "limits need root, or a delegated scope: loom dev stop && \
               systemd-run --user --scope -p Delegate=yes loom dev --detach";
    let fix = (!ok).then(|| fix.to_owned());
    Check { name: "cgroups", ok, detail, fix, fatal: false }
}

fn owners() -> Check {
    let ok = ids::claim("probe", (0, 0), ids::Unpacked::Nobodys).map.is_range();
    let detail = if ok {
        "each pod has 65536 ids of its own".to_owned()
    } else {
        "pods have a single id, the caller's: all their files have one owner".to_owned()
    };
    let fix = (!ok).then(|| {
        "install newuidmap (package uidmap), then: sudo usermod --add-subuids 100000-165535 \
         --add-subgids 100000-165535 $USER"
            .to_owned()
    });
    Check { name: "ids", ok, detail, fix, fatal: false }
}

/// Runs something in a forked child with namespaces of its own; its error number is its exit code.
fn attempt(spaces: CloneFlags, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let Some(child) = sys::fork_into(spaces)? else {
        drop(go);
        let ready = rustix::io::read(wait.as_fd(), &mut [0_u8; 1]).is_ok_and(|count| count == 1);
        let result = if ready { run() } else { Err(io::ErrorKind::BrokenPipe.into()) };
        sys::exit_now(code(result));
    };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mapped = IdMap::Single { uid, gid }.write(child.as_raw(), (uid, gid));
    if mapped.is_ok() {
        rustix::io::write(&go, b"!")?;
    }
    drop(go);
    let status = waitpid(child, None)?;
    mapped?;
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, code) => Err(io::Error::from_raw_os_error(code)),
        _ => Err(io::Error::other("the child that tried it was killed")),
    }
}

fn try_mounts() -> io::Result<()> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    // A hidden part of the host's /proc makes this fail, as in a container.
    mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
    mount("tmpfs", "/dev", "tmpfs", MountFlags::empty(), None)?;
    Ok(())
}

fn try_overlay(state_dir: &Path) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let target = if state_dir.is_dir() { state_dir } else { Path::new("/tmp") };
    mount("tmpfs", target, "tmpfs", MountFlags::empty(), None)?;
    let folder = |name: &str| -> io::Result<std::path::PathBuf> {
        let path = target.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    };
    let (upper, work, merged) = (folder("upper")?, folder("work")?, folder("merged")?);
    let data = format!("lowerdir=/usr,upperdir={},workdir={}", upper.display(), work.display());
    let data = std::ffi::CString::new(data)?;
    mount("overlay", &merged, "overlay", MountFlags::empty(), Some(data.as_c_str()))?;
    File::create(merged.join("written")).map(drop)
}

fn says(path: &str, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

fn in_container() -> bool {
    ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists())
}

fn apparmor_forbids() -> bool {
    says(APPARMOR, "1") && !geteuid().is_root()
}

/// Names the one cause and the one fix when user namespaces cannot be made.
pub(crate) fn why_no_user_namespaces(error: &io::Error) -> (String, String) {
    let fix = if says(USERNS_CLONE, "0") {
        "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned()
    } else if says(USERNS_MOST, "0") {
        "sudo sysctl -w user.max_user_namespaces=15000".to_owned()
    } else if apparmor_forbids() {
        "sudo loom dev allow-userns".to_owned()
    } else if in_container() {
        "start the container with --security-opt seccomp=unconfined \
         --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
            .to_owned()
    } else {
        format!("the kernel says {error}: ask whoever runs this machine to allow them")
    };
    (USER_NAMESPACES.to_owned(), fix)
}

fn why_no_mounts() -> String {
    if apparmor_forbids() {
        "sudo loom dev allow-userns".to_owned()
    } else {
        "inside a container, start it with --security-opt systempaths=unconfined \
         --security-opt apparmor=unconfined"
            .to_owned()
    }
}

/// Finds the cause behind a failure that the pod's first process reports.
pub(crate) fn explain(message: String) -> StartReport {
    let refused = ["ermission denied", "not permitted"].iter().any(|words| message.contains(words));
    match refused && apparmor_forbids() {
        true => StartReport::Unsupported {
            cause: USER_NAMESPACES.to_owned(),
            fix: "sudo loom dev allow-userns".to_owned(),
        },
        false => StartReport::Failed(message),
    }
}
