//! The few ways of mounting that pods use. Targets are relative to the folder being entered.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_bind_recursive, move_mount,
    open_tree,
};

use super::failure::{Failure, Step};
use crate::sys;

/// No writes. Values of `MOUNT_ATTR_*`, see mount_setattr(2).
pub(crate) const READ_ONLY: u64 = 1;
/// No set-user-id programs, no device files.
pub(crate) const HARMLESS: u64 = 2 | 4;
/// No programs at all.
pub(crate) const NO_EXEC: u64 = 8;

/// Mounts an instance of a file system that the kernel makes up.
pub(crate) fn fresh(
    kind: &str,
    target: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), Failure> {
    let data = CString::new(data).unwrap_or_default();
    mount(kind, target, kind, flags, Some(data.as_c_str()))
        .step(&format!("mounting {kind} on {target}"))
}

/// Shows a folder of the host, with everything mounted below it.
pub(crate) fn bind_folder(source: &str, target: &str, attributes: u64) -> Result<(), Failure> {
    folder(target, 0o755)?;
    mount_bind_recursive(source, target).step(&format!("binding {source}"))?;
    restrict(target, attributes, true)
}

/// Shows a single file of the host.
pub(crate) fn bind_file(source: &str, target: &str) -> Result<(), Failure> {
    File::create(target).step(&format!("making {target}"))?;
    mount_bind(source, target).step(&format!("binding {source}"))
}

/// Adds restrictions to a mount; those that it has stay.
pub(crate) fn restrict(target: &str, attributes: u64, recursive: bool) -> Result<(), Failure> {
    let path = CString::new(target).unwrap_or_default();
    sys::restrict_mount(CWD, &path, attributes, recursive).step(&format!("restricting {target}"))
}

/// Takes a copy of a mount that is nowhere yet.
pub(crate) fn detach(source: impl AsFd, attributes: u64) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(source, c"", flags)?;
    sys::restrict_mount(tree.as_fd(), c"", attributes, true)?;
    Ok(tree)
}

/// Puts such a copy somewhere.
pub(crate) fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    Ok(move_mount(tree, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Puts such a copy on what a descriptor refers to.
pub(crate) fn attach_on(tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", target, c"", flags)?)
}

/// Makes a folder with exactly this mode, and those above it.
pub(crate) fn folder(path: &str, mode: u32) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.and_then(|()| match mode {
        0o755 => Ok(()),
        mode => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
    })
    .step(&format!("making {path}"))
}
