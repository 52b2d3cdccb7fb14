//! Runs a program as root of the ids in which an ordinary user's images are unpacked.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::ids::{self, IdMap};
use crate::runtime::SHIM_VERB;
use crate::sys;

/// The verb of the shim's command line.
pub(super) const VERB: &str = "subordinate";

/// Returns the beginning of a command line, to be followed by a program and its arguments, that
/// runs it in a user namespace in which 0 to 65535 are the caller's first subordinate ids and it
/// is root: what it unpacks there has the owners that it should. `binary` is as in
/// [`crate::RuntimeConfig`]. `None` as root, and without ranges: then it can run as it is.
#[must_use]
pub fn as_subordinate(binary: &Path) -> Option<Command> {
    ids::of_images()?;
    let mut command = Command::new(binary);
    command.args([SHIM_VERB, VERB]);
    Some(command)
}

/// What `pod-shim subordinate PROGRAM ARGS…` does.
pub(super) fn main(program: &[OsString]) -> ExitCode {
    match run(program) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("cannot use subordinate ids: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(program: &[OsString]) -> io::Result<u8> {
    let (Some(map), Some((name, args))) = (ids::of_images(), program.split_first()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let Some(pid) = sys::fork_into(CloneFlags::CLONE_NEWUSER)? else {
        drop(go);
        let ready = rustix::io::read(&wait, &mut [0_u8; 1]).is_ok_and(|count| count == 1);
        let error = match become_root().map_err(io::Error::from) {
            Ok(()) if ready => Command::new(name).args(args).exec(),
            Ok(()) => io::ErrorKind::BrokenPipe.into(),
            Err(error) => error,
        };
        eprintln!("{}: {error}", name.display());
        sys::exit_now(126)
    };
    if !matches!(map.write(pid.as_raw(), (0, 0))?, IdMap::Subordinate { .. }) {
        return Err(io::Error::other("newuidmap refuses"));
    }
    rustix::io::write(&go, b"!")?;
    drop(go);
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        _ => Err(io::Error::other("it was killed")),
    }
}

fn become_root() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}
