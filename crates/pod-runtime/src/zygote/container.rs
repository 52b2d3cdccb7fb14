//! What a forked child does until it is the program that was asked for.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::thread::{CapabilitySet, ThreadNameSpaceType, move_into_thread_name_spaces};

use super::confine::{self, Filters};
use super::failure::{Failure, Step};
use super::message::{Setup, Stdio};
use super::{Streams, etc, mounts, program, rootfs, volumes};
use crate::fdpass;
use crate::shim::ids::RANGE;
use crate::spec::ContainerSpec;
use crate::sys;

/// What is known to every child.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) container: &'a ContainerSpec,
    pub(crate) filters: &'a Filters,
}

impl Context<'_> {
    /// The user and group inside.
    pub(crate) fn ids(&self) -> (u32, u32) {
        let ids = self.setup.ids;
        (ids.uid(self.container.uid), ids.gid(self.container.gid))
    }

    fn check_ids(&self) -> Result<(), Failure> {
        let largest = self.container.uid.max(self.container.gid);
        if self.setup.ids.is_range() && largest >= RANGE - 1 {
            return Err(Failure::Program(format!("user or group {largest} is above 65534")));
        }
        Ok(())
    }
}

/// What is there already of a container's root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root {
    /// It lies ready.
    pub(crate) laid_out: bool,
    /// It is that of an earlier run.
    pub(crate) again: bool,
}

/// Becomes a container's first process. The namespaces for processes and mounts are new already.
pub(crate) fn run(
    context: Context<'_>,
    root: Root,
    streams: &Streams,
) -> Result<Infallible, Failure> {
    context.check_ids()?;
    begin()?;
    let mut detached = volumes::detach(context.setup, context.container)?;
    let made_up = context.container.image.rootfs_path().is_none();
    if !made_up {
        detached.extend(etc::detach(&context)?);
    }
    if root.again {
        rootfs::forget(&context.container.name);
    }
    rootfs::enter(&context, root.laid_out)?;
    volumes::attach(&detached)?;
    drop(detached);
    rootfs::enter_workdir(&context)?;
    if context.container.read_only_root {
        mounts::restrict("/", mounts::READ_ONLY, false)?;
        if made_up {
            mounts::restrict("/etc", mounts::READ_ONLY, false)?;
        }
    }
    // As late as can be: see cgroup::warm_up.
    join_cgroups(streams)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).step("separating control groups")?;
    become_program(&context, &context.container.argv, streams)
}

/// Becomes a program in a running container. The namespace for processes is the container's.
pub(crate) fn join(
    context: Context<'_>,
    container: &OwnedFd,
    argv: &[String],
    streams: &Streams,
) -> Result<Infallible, Failure> {
    begin()?;
    join_cgroups(streams)?;
    let spaces = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::CONTROL_GROUP;
    move_into_thread_name_spaces(container.as_fd(), spaces).map_err(|error| match error {
        rustix::io::Errno::SRCH => Failure::Gone,
        error => Failure::step("entering the container", error),
    })?;
    become_program(&context, argv, streams)
}

fn begin() -> Result<(), Failure> {
    sys::reset_signals();
    rustix::process::setsid().step("starting a session").map(drop)
}

fn join_cgroups(streams: &Streams) -> Result<(), Failure> {
    for procs in &streams.cgroups {
        let mut procs = File::from(procs.try_clone().step("joining a control group")?);
        procs.write_all(b"0").step("joining a control group")?;
    }
    Ok(())
}

fn become_program(
    context: &Context<'_>,
    argv: &[String],
    streams: &Streams,
) -> Result<Infallible, Failure> {
    let (uid, gid) = context.ids();
    set_streams(streams, uid).step("preparing standard streams")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let range = context.setup.ids.is_range();
    let none = CapabilitySet::empty();
    let kept = if uid == 0 { confine::named(&context.container.capabilities) } else { none };
    confine::become_user(range.then_some((uid, gid)), kept)?;
    let workdir = &context.container.workdir;
    std::env::set_current_dir(workdir).step(&format!("chdir to {workdir:?}"))?;
    sys::close_from_on_exec(3).step("closing descriptors")?;
    confine::seal(context.filters)?;
    program::execute(argv, &context.container.env)
}

fn set_streams(streams: &Streams, uid: u32) -> std::io::Result<()> {
    let open = |path: &str, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    match (streams.kind, streams.pipes.as_slice()) {
        (Stdio::Terminal, _) => {
            // In the container's own devpts, so that `tty` finds its name.
            let master = open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)?;
            unlockpt(&master)?;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let slave = ioctl_tiocgptpeer(&master, flags)?;
            nix::unistd::fchown(&slave, Some(uid.into()), None)?;
            rustix::process::ioctl_tiocsctty(&slave)?;
            fdpass::send(&streams.report, b"T", &[master.as_fd()])?;
            sys::set_stdio([&slave, &slave, &slave])
        }
        (Stdio::Pipes { .. }, [stdout, stderr, stdin]) => sys::set_stdio([stdin, stdout, stderr]),
        (Stdio::Pipes { .. }, [stdout, stderr]) => {
            let null: OwnedFd = open("/dev/null", OFlags::RDONLY)?;
            sys::set_stdio([&null, stdout, stderr])
        }
        _ => {
            let null: OwnedFd = open("/dev/null", OFlags::RDWR)?;
            sys::set_stdio([&null, &null, &null])
        }
    }
}
