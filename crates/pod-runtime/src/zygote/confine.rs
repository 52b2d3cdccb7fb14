//! What a program may not do, set just before it is executed: capabilities, privileges, calls.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::failure::{Failure, Step};

/// System calls that have no use in a pod but to leave it, as in Docker's default list.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The same, where only the oldest architecture has them.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_nfsservctl,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[libc::SYS_nfsservctl];

/// `clone` with any of these would make a namespace.
const NAMESPACE_FLAGS: [libc::c_int; 8] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
    0x80, // CLONE_NEWTIME
];

/// Socket families that stay inside the network namespace; AF_VSOCK, for one, does not.
const FAMILIES: [libc::c_int; 5] =
    [libc::AF_UNSPEC, libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Compiled once, applied to every program.
pub(crate) struct Filters([BpfProgram; 2]);

impl Filters {
    /// Compiles the lists for the architecture that we run on.
    pub(crate) fn compile() -> Result<Self, String> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let rules = rules().map_err(|error| error.to_string())?;
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)
            .map_err(|error| error.to_string())?;
        let program = BpfProgram::try_from(filter).map_err(|error| error.to_string())?;
        Ok(Self([unknown_calls(), program]))
    }
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, Vec::new())).collect();
    let flags = NAMESPACE_FLAGS.map(|flag| u64::from(flag.unsigned_abs()));
    let clone = flags.iter().map(|flag| {
        let set = SeccompCondition::new(0, Qword, SeccompCmpOp::MaskedEq(*flag), *flag)?;
        SeccompRule::new(vec![set])
    });
    rules.insert(libc::SYS_clone, clone.collect::<Result<_, _>>()?);
    let other_family = FAMILIES.map(|family| {
        SeccompCondition::new(0, Dword, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()))
    });
    let other_family = other_family.into_iter().collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(other_family)?]);
    let typing = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| {
        SeccompRule::new(vec![SeccompCondition::new(1, Dword, SeccompCmpOp::Eq, request)?])
    });
    rules.insert(libc::SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    Ok(rules)
}

/// Says ENOSYS, so that a libc falls back: to `clone3`, whose flags no filter can see, and to the
/// x32 numbers, which would pass by any list of the ordinary ones.
fn unknown_calls() -> BpfProgram {
    const LOAD: u16 = 0x20;
    const IF_AT_LEAST: u16 = 0x35;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let clone3 = libc::SYS_clone3 as u32;
    let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        step(LOAD, 0, 0, 0), // the number: first in seccomp_data
        step(IF_AT_LEAST, 1, 0, 0x4000_0000),
        step(IF_EQUAL, 0, 1, clone3),
        step(RETURN, 0, 0, no_such_call),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Returns the capabilities of these names, such as `CHOWN`.
pub(crate) fn named(names: &[String]) -> CapabilitySet {
    names.iter().filter_map(|name| CapabilitySet::from_name(name)).collect()
}

/// Becomes the user, with no capability but these, for good.
pub(crate) fn become_user(ids: Option<(u32, u32)>, kept: CapabilitySet) -> Result<(), Failure> {
    drop_bounding_set(kept).step("dropping capabilities")?;
    if let Some((uid, gid)) = ids {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&[gid]).step("setting groups")?;
        set_thread_res_gid(gid, gid, gid).step("setting the group")?;
        set_thread_res_uid(uid, uid, uid).step("setting the user")?;
    }
    clear_ambient_capability_set().step("dropping capabilities")?;
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    set_capabilities(None, sets).step("dropping capabilities")
}

/// Also those that are newer than this program: up to the first number the kernel does not know.
fn drop_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

/// Takes the last privileges; nothing but executing the program may follow.
pub(crate) fn seal(filters: &Filters) -> Result<(), Failure> {
    set_no_new_privs(true).step("refusing new privileges")?;
    for filter in &filters.0 {
        seccompiler::apply_filter(filter)
            .map_err(|error| Failure::step("filtering system calls", io::Error::other(error)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_this_machine() {
        let filters = Filters::compile().unwrap();
        assert!(filters.0.iter().all(|program| !program.is_empty()));
    }
}
