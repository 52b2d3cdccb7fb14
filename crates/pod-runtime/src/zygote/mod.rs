//! The first process of a pod's namespaces: single-threaded, it forks whatever the shim asks for.
//!
//! It keeps the host's mounts in view (as a slave, so that the host may unmount), because each
//! container builds its root from them. Containers see neither it nor each other.

pub(crate) mod beneath;
pub(crate) mod confine;
pub(crate) mod container;
pub(crate) mod devices;
pub(crate) mod etc;
pub(crate) mod failure;
mod files;
pub(crate) mod images;
pub(crate) mod message;
pub(crate) mod mounts;
pub(crate) mod program;
pub(crate) mod rootfs;
pub(crate) mod tun;
mod usage;
pub(crate) mod volumes;
pub(crate) mod watches;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sched::CloneFlags;
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{
    DumpableBehavior, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, set_dumpable_behavior,
    set_parent_process_death_signal, waitid,
};
use rustix::thread::{
    Gid, LinkNameSpaceType, ThreadNameSpaceType, Uid, move_into_link_name_space,
    move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::shim::ids::IdMap;
use crate::spec::{ContainerSpec, FileContent, Mould};
use crate::{fdpass, sys};
use confine::Filters;
use failure::{Failure, Step};
use message::{Event, Key, Order, Setup, Stdio};
use watches::Share;

/// The namespaces that all containers of a pod share.
pub(crate) const POD_NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWUSER
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWNET);

/// A process that the zygote forked.
struct Child {
    pid: Pid,
    handle: OwnedFd,
    /// What it was started from, if it is a container's first process.
    container: Option<ContainerSpec>,
}

struct Zygote {
    link: UnixStream,
    setup: Setup,
    filters: Filters,
    /// A root lies ready for the first container.
    laid_out: bool,
    own_pids: File,
    children: BTreeMap<Key, Child>,
}

/// Runs as the child of [`sys::fork_into`] with [`POD_NAMESPACES`]; never returns.
///
/// The current folder is the pod's `fs`: the kernel carries it into the new mount namespace, so
/// that nothing above it need be open to us.
pub(crate) fn main(
    link: UnixStream,
    binary: &Path,
    addresses: Option<tun::Addresses>,
    mould: Option<&Mould>,
    watches: &Share,
) -> ! {
    let code = match begin(&link, binary, addresses, mould, watches) {
        Ok(Some((setup, filters))) => serve(link, setup, filters, mould.is_some()),
        Ok(None) => 0,
        Err(failure) => {
            // Without a shim there is nobody to tell.
            message::send(&link, &Event::Failed(failure.to_string()), &[]).ok();
            1
        }
    };
    sys::exit_now(code)
}

/// Makes what needs the ids of the one who called us, then takes on the pod's, then makes what is
/// the pod's own. Nothing when the shim goes meanwhile.
fn begin(
    link: &UnixStream,
    binary: &Path,
    addresses: Option<tun::Addresses>,
    mould: Option<&Mould>,
    watches: &Share,
) -> Result<Option<(Setup, Filters)>, Failure> {
    die_with_parent()?;
    detach_stdio().step("opening /dev/null")?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).step("separating mounts from the host's")?;
    watches.impose();
    tun::loopback().step("taking the loopback device up")?;
    born(link, addresses)?;
    let Ok(Some((Order::Ids(ids), _))) = message::recv(link) else { return Ok(None) };
    // Only now, with ids mapped and not yet ours, may we pass through both the pod's folder, which
    // belongs to the pod, and those above it, which belong to the caller.
    let binary = openat(CWD, binary, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step("opening the runtime's own binary")?;
    take_ids(ids)?;
    // Children that are not yet their program are in sight of the container: it must not get hold
    // of this binary through them (CVE-2019-5736). Executing a program ends it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hiding from the pod")?;
    tun::open_low_ports();
    tun::open_ping();
    volumes::tools(&binary)?;
    if let Some(Mould { image, uid, gid, .. }) = mould {
        rootfs::lay_out(rootfs::AHEAD, image, (ids.uid(*uid), ids.gid(*gid)))?;
    }
    let filters = Filters::compile().map_err(Failure::Program)?;
    let Ok(Some((Order::Setup(setup), given))) = message::recv(link) else { return Ok(None) };
    images::show(&setup, &given)?;
    rustix::system::sethostname(setup.hostname.as_bytes()).step("setting the host name")?;
    volumes::prepare(&setup)?;
    Ok(Some((*setup, filters)))
}

fn die_with_parent() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step("tying the pod to its shim")
}

/// The shim's standard output is awaited by its parent: nobody else may hold it.
fn detach_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

fn born(link: &UnixStream, addresses: Option<tun::Addresses>) -> Result<(), Failure> {
    let tun = match addresses {
        Some(addresses) => tun::open(addresses).map_err(|error| format!("/dev/net/tun: {error}")),
        None => Err("not asked for".to_owned()),
    };
    let no_network = tun.as_ref().err().cloned();
    let fds: Vec<_> = tun.iter().map(AsFd::as_fd).collect();
    message::send(link, &Event::Born { no_network }, &fds).step("reporting to the shim")
}

/// Becomes root of the pod's own ids. With a single id there is nothing else to become.
fn take_ids(ids: IdMap) -> Result<(), Failure> {
    if !ids.is_range() {
        return Ok(());
    }
    set_thread_groups(&[]).step("dropping groups")?;
    let (gid, uid) = (Gid::ROOT, Uid::ROOT);
    set_thread_res_gid(gid, gid, gid).step("taking the pod's group")?;
    set_thread_res_uid(uid, uid, uid).step("taking the pod's user")?;
    // Changing ids has cleared it.
    die_with_parent()?;
    std::os::unix::fs::chown(".", Some(0), Some(0)).step("owning the pod's folder")
}

fn serve(link: UnixStream, setup: Setup, filters: Filters, laid_out: bool) -> i32 {
    let own_pids = match File::open("/proc/self/ns/pid") {
        Ok(own_pids) => own_pids,
        Err(error) => {
            message::send(&link, &Event::Failed(error.to_string()), &[]).ok();
            return 1;
        }
    };
    let children = BTreeMap::new();
    let mut zygote = Zygote { link, setup, filters, laid_out, own_pids, children };
    if message::send(&zygote.link, &Event::Ready, &[]).is_err() {
        return 0;
    }
    while zygote.turn().is_ok_and(|more| more) {}
    0
}

impl Zygote {
    /// Waits for an order or the end of a child; false when the shim is gone.
    fn turn(&mut self) -> io::Result<bool> {
        let (ordered, ended) = {
            let mut waits = vec![PollFd::new(&self.link, PollFlags::IN)];
            waits.extend(self.children.values().map(|c| PollFd::new(&c.handle, PollFlags::IN)));
            rustix::io::retry_on_intr(|| poll(&mut waits, None))?;
            let woken = |wait: &PollFd<'_>| !wait.revents().is_empty();
            let keys = self.children.keys().zip(&waits[1..]);
            let ended: Vec<Key> = keys.filter(|(_, w)| woken(w)).map(|(key, _)| *key).collect();
            (woken(&waits[0]), ended)
        };
        for key in ended {
            self.reap(key)?;
        }
        if !ordered {
            return Ok(true);
        }
        let Some((order, fds)) = message::recv(&self.link)? else { return Ok(false) };
        self.obey(order, fds);
        Ok(true)
    }

    fn reap(&mut self, key: Key) -> io::Result<()> {
        let Some(child) = self.children.remove(&key) else { return Ok(()) };
        let wait = WaitId::PidFd(child.handle.as_fd());
        let status = rustix::io::retry_on_intr(|| waitid(wait.clone(), WaitIdOptions::EXITED))?;
        let signal = status.as_ref().and_then(|status| status.terminating_signal());
        let code = status.and_then(|status| status.exit_status());
        let code = code.or(signal.map(|signal| 128 + signal)).unwrap_or(255);
        message::send(&self.link, &Event::Exited { key, code, signal }, &[])
    }

    fn obey(&mut self, order: Order, fds: Vec<OwnedFd>) {
        match order {
            Order::Ids(_) | Order::Setup(_) => {}
            Order::Signal { key, signal, group } => self.signal(key, signal, group),
            Order::Socket => {
                let Some(report) = fds.into_iter().next().map(UnixStream::from) else { return };
                // Without one the report ends without a word.
                tun::socket().and_then(|it| fdpass::send_all(&report, b"S", &[it.as_fd()])).ok();
            }
            Order::Usage { key, containers } => self.measure(key, &containers, fds),
            Order::Files { volume, files } => {
                let Some(report) = fds.into_iter().next().map(UnixStream::from) else { return };
                self.update(&volume, &files, report);
            }
            Order::Run { key, container, stdio, again } => {
                let Some(streams) = Streams::new(stdio, fds) else { return };
                let laid_out = std::mem::take(&mut self.laid_out);
                let forked = sys::fork_into(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS);
                if let Ok(None) = forked {
                    let context = self.context(&container);
                    let root = container::Root { laid_out, again };
                    streams.finish(container::run(context, root, &streams));
                }
                self.adopt(key, forked, Some(*container), &streams);
            }
            Order::Exec { key, container, argv, stdio } => {
                let Some(streams) = Streams::new(stdio, fds) else { return };
                let Some((handle, spec)) = self.container(container) else {
                    return streams.fail(&Failure::Gone);
                };
                let forked = self.fork_beside(handle);
                if let Ok(None) = forked {
                    streams.finish(container::join(self.context(spec), handle, &argv, &streams));
                }
                self.adopt(key, forked, None, &streams);
            }
        }
    }

    fn update(&self, volume: &str, files: &BTreeMap<String, FileContent>, mut report: UnixStream) {
        if let Err(failure) = volumes::update(&self.setup, volume, files) {
            // If the shim no longer listens, nobody asks.
            report.write_all(&failure.to_report()).ok();
        }
    }

    /// Counts what was written, which may take long: not in this process.
    fn measure(&mut self, key: Key, containers: &[String], fds: Vec<OwnedFd>) {
        let Some(streams) = Streams::new(Stdio::Null, fds) else { return };
        let forked = sys::fork_into(CloneFlags::empty());
        if let Ok(None) = forked {
            let usage = usage::measure(&self.setup, containers);
            let text = serde_json::to_vec(&usage).unwrap_or_default();
            let told = (&streams.report).write_all(&text);
            sys::exit_now(i32::from(told.is_err()));
        }
        self.adopt(key, forked, None, &streams);
    }

    fn context<'a>(&'a self, container: &'a ContainerSpec) -> container::Context<'a> {
        container::Context { setup: &self.setup, container, filters: &self.filters }
    }

    fn container(&self, key: Key) -> Option<(&OwnedFd, &ContainerSpec)> {
        let child = self.children.get(&key)?;
        Some((&child.handle, child.container.as_ref()?))
    }

    /// Forks into the process-id namespace of a container, as a child of ours all the same.
    fn fork_beside(&self, container: &OwnedFd) -> io::Result<Option<Pid>> {
        move_into_thread_name_spaces(container.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
        let forked = sys::fork_into(CloneFlags::empty());
        let own = Some(LinkNameSpaceType::ProcessID);
        if !matches!(forked, Ok(None)) {
            move_into_link_name_space(self.own_pids.as_fd(), own)?;
        }
        forked
    }

    fn adopt(
        &mut self,
        key: Key,
        forked: io::Result<Option<Pid>>,
        container: Option<ContainerSpec>,
        streams: &Streams,
    ) {
        let child = forked.and_then(|pid| {
            let pid = pid.ok_or(io::ErrorKind::NotFound)?;
            let raw =
                rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::NotFound)?;
            Ok(Child { pid, handle: pidfd_open(raw, PidfdFlags::empty())?, container })
        });
        match child {
            Ok(child) => drop(self.children.insert(key, child)),
            Err(_) if container_is_gone(&child) => streams.fail(&Failure::Gone),
            Err(error) => streams.fail(&Failure::step("forking", error)),
        }
    }

    fn signal(&self, key: Key, signal: i32, group: bool) {
        let Some(child) = self.children.get(&key) else { return };
        let Ok(signal) = nix::sys::signal::Signal::try_from(signal) else { return };
        let target = if group { Pid::from_raw(-child.pid.as_raw()) } else { child.pid };
        // It may have ended, and a group may not exist yet: then the process itself is meant.
        if nix::sys::signal::kill(target, signal).is_err() {
            nix::sys::signal::kill(child.pid, signal).ok();
        }
    }
}

/// Forking into a namespace whose first process has ended says ENOMEM; entering it, ESRCH.
fn container_is_gone(result: &io::Result<Child>) -> bool {
    let code = result.as_ref().err().and_then(io::Error::raw_os_error);
    matches!(code, Some(nix::libc::ENOMEM | nix::libc::ESRCH))
}

/// The descriptors that came with an order.
pub(crate) struct Streams {
    pub(crate) kind: Stdio,
    /// Where a failure is told; its end without a word is success.
    pub(crate) report: UnixStream,
    pub(crate) pipes: Vec<OwnedFd>,
    pub(crate) cgroups: Vec<OwnedFd>,
}

impl Streams {
    fn new(kind: Stdio, fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let report = UnixStream::from(fds.next()?);
        let pipes: Vec<_> = fds.by_ref().take(kind.fds()).collect();
        (pipes.len() == kind.fds()).then(|| Self { kind, report, pipes, cgroups: fds.collect() })
    }

    fn fail(&self, failure: &Failure) {
        // If the shim no longer listens, nobody asks.
        (&self.report).write_all(&failure.to_report()).ok();
    }

    /// Ends a forked child that could not execute its program.
    fn finish(&self, result: Result<std::convert::Infallible, Failure>) -> ! {
        let Err(failure) = result;
        self.fail(&failure);
        sys::exit_now(127)
    }
}
