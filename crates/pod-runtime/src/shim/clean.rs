//! Takes away what a pod leaves: its processes, then its files, whoever owns them.

use std::fs;
use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::folder::{self, Folder, ShimIdentity};
use crate::runtime::SHIM_VERB;
use crate::sys;

/// How often a folder is tried again while something still writes into it.
const TRIES: u32 = 50;

impl ShimIdentity {
    /// Whether this very process lives, and not another with its pid.
    pub(crate) fn is_alive(&self) -> bool {
        self.boot_id == folder::boot_id() && folder::is_alive(self.pid, self.start_time)
    }
}

/// Kills the shim, and with it the pod, and waits for both to be gone.
pub(crate) fn kill_shim(shim: &ShimIdentity) {
    if shim.boot_id != folder::boot_id() {
        return;
    }
    // The zygote is its namespace's first process: when it is gone, all others are.
    for (pid, start_time) in [(shim.pid, shim.start_time), shim.zygote] {
        let Some(pid) = Pid::from_raw(pid) else { continue };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if folder::start_time(pid.as_raw_nonzero().get()) != Some(start_time) {
            continue;
        }
        if pidfd_send_signal(&handle, Signal::KILL).is_ok() {
            let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
            // Out of patience we go on: what is left will show when files are removed.
            poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience)).ok();
        }
    }
}

/// Removes a pod's folder, with the pod's own ids where the caller's do not suffice.
pub(crate) fn remove_folder(folder: &Folder, shim: Option<&ShimIdentity>) -> io::Result<()> {
    // Nothing is known of the pod without its identity, so that is the last to go.
    let mut result = Ok(());
    for _ in 0..TRIES {
        result = remove_files(folder, shim).and_then(|()| fs::remove_dir_all(folder.path()));
        match &result {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Something still writes there.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    result
}

/// Removes what the pod itself has written.
pub(crate) fn remove_files(folder: &Folder, shim: Option<&ShimIdentity>) -> io::Result<()> {
    match (fs::remove_dir_all(folder.files()), shim) {
        (Err(error), Some(shim)) if error.kind() == io::ErrorKind::PermissionDenied => {
            remove_inside(folder, shim)
        }
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        (result, _) => result,
    }
}

/// Has the files removed by a process inside a user namespace like the pod's.
fn remove_inside(folder: &Folder, shim: &ShimIdentity) -> io::Result<()> {
    let status = Command::new(&shim.binary)
        .arg(SHIM_VERB)
        .arg("clean")
        .arg(folder.path())
        .stdin(Stdio::null())
        .status()?;
    match status.success() {
        // It is the pod's own and cannot be looked into, but it lies in a folder of ours.
        true => fs::remove_dir(folder.files()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// What `pod-shim clean FOLDER` does.
pub(crate) fn main(folder: &Folder) -> ExitCode {
    match clean(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot remove {}: {error}", folder.files().display());
            ExitCode::FAILURE
        }
    }
}

fn clean(folder: &Folder) -> io::Result<()> {
    let shim: ShimIdentity = folder::read_json(&folder.identity())?;
    let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let Some(pid) = sys::fork_into(nix::sched::CloneFlags::CLONE_NEWUSER)? else {
        drop(go);
        let ready = rustix::io::read(&wait, &mut [0_u8; 1]).is_ok_and(|count| count == 1);
        let done = ready && empty(folder).is_ok();
        sys::exit_now(i32::from(!done));
    };
    shim.ids.write(pid.as_raw(), (0, 0))?;
    rustix::io::write(&go, b"!")?;
    match nix::sys::wait::waitpid(pid, None)? {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Removes all content of `fs`; the folder itself is its caller's.
fn empty(folder: &Folder) -> io::Result<()> {
    for entry in fs::read_dir(folder.files())? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
