//! The system calls that no safe wrapper offers, one function each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ffi::CStr;

use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

/// Forks into new namespaces. `None` is the child, which has only this thread.
///
/// The caller must be single-threaded: locks held by other threads would stay locked for ever.
pub(crate) fn fork_into(namespaces: CloneFlags) -> io::Result<Option<Pid>> {
    let flags = namespaces.bits() | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack given, clone is fork: the child runs on a copy of
    // everything and shares no memory with us. glibc keeps no pid; its cached thread id is used
    // only by locks that both sides leave alone.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Some(Pid::from_raw(pid))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends a forked process without running what its parent registered for its own end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Sets attributes of a mount and of all mounts below it, keeping those that are set already.
pub(crate) fn restrict_mounts(path: &CStr, attributes: u64) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: path and attr live through the call, and the size given is attr's own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE | libc::AT_SYMLINK_NOFOLLOW,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs an ioctl that takes an `ifreq`-like block of data.
pub(crate) fn ioctl_block<T>(fd: BorrowedFd<'_>, request: u64, block: &mut T) -> io::Result<()> {
    // SAFETY: the requests used in this crate (TUNSETIFF, SIOCSIF*, SIOCADDRT) read and write at
    // most one ifreq or rtentry, which is what their callers pass; it outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(block)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every file descriptor from `first` on when the next program is executed.
pub(crate) fn close_from_on_exec(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: only marks descriptors; every OwnedFd stays valid until exec or exit.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes standard input, output and error those three.
pub(crate) fn set_stdio(stdio: [impl AsFd; 3]) -> io::Result<()> {
    for (number, fd) in (0_i32..).zip(&stdio) {
        // SAFETY: replaces descriptors 0 to 2 of a process that is about to execute a program and
        // uses none of them itself.
        if unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
