//! The system calls that no safe wrapper offers, one function each.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

pub(crate) mod six;

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

/// Runs something in a forked child, whoever has threads, and returns what it found.
pub(crate) fn in_child(run: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the C library's own fork puts its allocator in order in the child; beyond that the
    // child makes system calls only and leaves by _exit, without touching locks of other threads.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => {
            let done = io::Write::write_all(&mut File::from(write), &run());
            exit_now(i32::from(done.is_err()))
        }
        nix::unistd::ForkResult::Parent { child } => {
            drop(write);
            let mut found = Vec::new();
            let result = io::Read::read_to_end(&mut File::from(read), &mut found);
            nix::sys::wait::waitpid(child, None)?;
            result.map(|_| found)
        }
    }
}

/// Ends a forked process without running what its parent registered for its own end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Sets attributes of a mount (and of all mounts below it), keeping those that are set already.
/// An empty path means the mount that `fd` refers to.
pub(crate) fn restrict_mount(
    fd: BorrowedFd<'_>,
    path: &CStr,
    attributes: u64,
    recursive: bool,
) -> io::Result<()> {
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    set_mount(fd, path, below, &attr)
}

/// Shows the ids of files on a mount that is nowhere yet as those of a user namespace: what
/// belongs to 0 on the disk belongs to its 0. Linux 5.12; not every file system has it.
pub(crate) fn map_mount(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(users.as_raw_fd().unsigned_abs()),
    };
    set_mount(mount, c"", 0, &attr)
}

fn set_mount(
    fd: BorrowedFd<'_>,
    path: &CStr,
    flags: libc::c_int,
    attr: &libc::mount_attr,
) -> io::Result<()> {
    // SAFETY: path and attr live through the call, and the size given is attr's own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            path.as_ptr(),
            flags | libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel's `ifreq`: a device's name and one value.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct IfRequest {
    name: [u8; 16],
    value: [u8; 24],
}

/// The kernel's `sockaddr_in`.
#[repr(C)]
#[derive(Debug)]
struct Address {
    family: u16,
    port: u16,
    ip: [u8; 4],
    zero: [u8; 8],
}

/// The kernel's `rtentry`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Route {
    pad1: libc::c_ulong,
    destination: Address,
    gateway: Address,
    mask: Address,
    flags: u16,
    pad2: i16,
    pad3: libc::c_ulong,
    pad4: usize,
    metric: i16,
    device: usize,
    mtu: libc::c_ulong,
    window: libc::c_ulong,
    irtt: u16,
}

impl Address {
    fn new(ip: Ipv4Addr) -> Self {
        let family = libc::AF_INET.unsigned_abs() as u16;
        Self { family, port: 0, ip: ip.octets(), zero: [0; 8] }
    }
}

impl IfRequest {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let mut request = Self { name: [0; 16], value: [0; 24] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        request.value[..bytes.len()].copy_from_slice(bytes);
        request
    }

    pub(crate) fn flags(name: &str, flags: u16) -> Self {
        Self::new(name, &flags.to_ne_bytes())
    }

    pub(crate) fn number(name: &str, number: i32) -> Self {
        Self::new(name, &number.to_ne_bytes())
    }

    pub(crate) fn address(name: &str, ip: Ipv4Addr) -> Self {
        let family = (libc::AF_INET.unsigned_abs() as u16).to_ne_bytes();
        let [a, b, c, d] = ip.octets();
        Self::new(name, &[family[0], family[1], 0, 0, a, b, c, d])
    }
}

impl IfRequest {
    /// Returns the number that the kernel has written.
    pub(crate) fn first_number(&self) -> i32 {
        let [a, b, c, d, ..] = self.value;
        i32::from_ne_bytes([a, b, c, d])
    }
}

impl Route {
    pub(crate) fn default_via(gateway: Ipv4Addr, flags: u16) -> Self {
        Self {
            pad1: 0,
            destination: Address::new(Ipv4Addr::UNSPECIFIED),
            gateway: Address::new(gateway),
            mask: Address::new(Ipv4Addr::UNSPECIFIED),
            flags,
            pad2: 0,
            pad3: 0,
            pad4: 0,
            metric: 0,
            device: 0,
            mtu: 0,
            window: 0,
            irtt: 0,
        }
    }
}

/// Runs one of the ioctls that read and write one `ifreq`.
pub(crate) fn ioctl_interface(
    fd: BorrowedFd<'_>,
    request: u64,
    block: &mut IfRequest,
) -> io::Result<()> {
    // SAFETY: the callers' requests (TUNSETIFF, SIOCSIF*) read and write one ifreq, which has
    // this layout and size and outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(block)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs TUNSETOFFLOAD.
pub(crate) fn ioctl_offload(fd: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    const TUNSETOFFLOAD: u64 = 0x4004_54d0;
    // SAFETY: the request takes a number and touches no memory of ours.
    let result =
        unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD as _, libc::c_ulong::from(flags)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs SIOCADDRT.
pub(crate) fn ioctl_route(fd: BorrowedFd<'_>, request: u64, route: &mut Route) -> io::Result<()> {
    // SAFETY: the request reads one rtentry, which has this layout and outlives the call; its
    // pointer to a device's name is null, which the kernel takes for "none".
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(route)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives all signals their default effect and unblocks them, as a fresh program expects.
pub(crate) fn reset_signals() {
    for number in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours; numbers that cannot be set are refused.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // Unblocking cannot fail: the set is valid.
    nix::sys::signal::SigSet::empty().thread_set_mask().ok();
}

/// Closes every file descriptor but the standard ones, before any was opened here: what is there
/// was left open by whoever started us.
pub(crate) fn close_inherited() {
    // SAFETY: called first in the shim's main, when nothing owns a descriptor above 2 yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
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

/// Keeps large allocations mapped, so that their pages are used only when written.
pub(crate) fn map_large_allocations() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator; refused, it changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 65536);
    }
}
