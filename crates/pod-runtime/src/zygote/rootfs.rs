//! A container's root: built beside its volumes from the host's mounts or an image's files, then
//! made the root.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount_bind, unmount};

use super::beneath::Root;
use super::container::Context;
use super::failure::{Failure, Step};
use super::mounts::{self, HARMLESS, READ_ONLY};
use super::{devices, etc, images, volumes};
use crate::TOOLS_BINARY;
use crate::spec::Image;

/// The root that was laid out before its container was known.
pub(crate) const AHEAD: &str = "root";
/// What a container's own root is called, with its name.
const OWN: &str = "root-";
/// What the host has beside its /usr.
const BESIDE_USR: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Builds the root and enters it; the current folder is the pod's `fs`.
pub(crate) fn enter(context: &Context<'_>, laid_out: bool) -> Result<(), Failure> {
    match &context.container.image {
        Image::Rootfs { path } => unpacked(context, path)?,
        image @ (Image::Host | Image::Tools) => made_up(context, image, laid_out)?,
    }
    pivot()?;
    devices::mask_proc()
}

/// Returns where a container's own files are: its root or the layer above an image.
pub(crate) fn layers(container: &str, only: bool) -> Vec<String> {
    let mut layers = vec![format!("{OWN}{container}"), format!("upper-{container}")];
    if only {
        let above = format!("upper-{AHEAD}");
        // Of what was laid out in memory only the layer above is on disk.
        layers.push(if Path::new(&above).exists() { above } else { AHEAD.to_owned() });
    }
    layers
}

/// Removes what a container has left in its root; the current folder is the pod's `fs`. What
/// cannot be removed makes the next root fail, with the reason.
pub(crate) fn forget(container: &str) {
    for folder in [format!("{OWN}{container}"), format!("upper-{container}")] {
        fs::remove_dir_all(folder).ok();
    }
    // It belongs to the kernel, and is empty once the overlay is gone.
    fs::remove_dir_all(format!("work-{container}")).ok();
}

/// A root with nothing in it but what we put there; changes are on disk.
fn made_up(context: &Context<'_>, image: &Image, laid_out: bool) -> Result<(), Failure> {
    let root = match laid_out {
        true => AHEAD.to_owned(),
        false => format!("{OWN}{}", context.container.name),
    };
    let (uid, gid) = context.ids();
    if !laid_out {
        lay_out(&root, image, (uid, gid))?;
    }
    // pivot_root wants a mount of its own.
    mount_bind(&root, &root).step("binding the root")?;
    std::env::set_current_dir(&root).step("entering the root")?;
    mounts::restrict(".", HARMLESS, false)?;
    devices::proc()?;
    if *image == Image::Host {
        host()?
    } else {
        tools()?
    }
    etc::fill(context.setup, image, uid, gid)?;
    devices::dev(context.setup.ids.is_range())?;
    devices::sys()
}

/// A root with the files of an image, of which nothing is trusted.
fn unpacked(context: &Context<'_>, path: &Path) -> Result<(), Failure> {
    let name = &context.container.name;
    let (image, root) = (images::find(context.setup, path)?, format!("{OWN}{name}"));
    let owners = context.setup.ids.is_range();
    images::lay_over(&image, &root, name, owners)?;
    std::env::set_current_dir(&root).step("entering the root")?;
    mounts::restrict(".", HARMLESS, false)?;
    let here = Root::open(".").step("opening the root")?;
    for name in ["proc", "dev", "sys"] {
        here.own_folder(name).step(&format!("making /{name}"))?;
    }
    devices::proc()?;
    devices::dev(owners)?;
    devices::sys()
}

/// Makes the folders and links of a root: in memory, with a layer on disk above for changes, and
/// all on disk where the kernel has no overlay for us. The current folder is the pod's `fs`.
///
/// A disk is slow at this: ext4 takes no inode that was freed within the last minute, and searches
/// past all of them for each one it gives away.
pub(crate) fn lay_out(root: &str, image: &Image, ids: (u32, u32)) -> Result<(), Failure> {
    if image.rootfs_path().is_some() {
        return Ok(());
    }
    mounts::folder(root, 0o755)?;
    mounts::fresh("tmpfs", root, MountFlags::NOSUID | MountFlags::NODEV, "mode=755,size=1m")?;
    fill(root, image, ids)?;
    let name = root.strip_prefix(OWN).unwrap_or(root);
    if images::layer(root, root, name).is_ok() {
        return Ok(());
    }
    unmount(root, UnmountFlags::DETACH).step("leaving the root in memory")?;
    fill(root, image, ids)
}

fn fill(root: &str, image: &Image, (uid, gid): (u32, u32)) -> Result<(), Failure> {
    std::env::set_current_dir(root).step("entering the root")?;
    for name in ["proc", "etc", "dev", "sys"] {
        mounts::folder(name, 0o755)?;
    }
    if *image == Image::Host {
        mounts::folder("usr", 0o755)?;
        links()?;
    }
    writable(uid, gid)?;
    std::env::set_current_dir("..").step("leaving the root")
}

/// Links beside /usr, as the host has them.
fn links() -> Result<(), Failure> {
    for name in BESIDE_USR {
        if let Ok(to) = fs::read_link(format!("/{name}")) {
            symlink(to, name).step(&format!("linking /{name}"))?;
        }
    }
    Ok(())
}

/// The host's /usr, and folders beside it as the host has them.
fn host() -> Result<(), Failure> {
    mounts::bind_folder("/usr", "usr", READ_ONLY | HARMLESS)?;
    for name in BESIDE_USR {
        let source = format!("/{name}");
        if fs::symlink_metadata(&source).is_ok_and(|meta| meta.is_dir()) {
            mounts::bind_folder(&source, name, READ_ONLY | HARMLESS)?;
        }
    }
    Ok(())
}

/// The binary and nothing else.
fn tools() -> Result<(), Failure> {
    let source = format!("../{}/{TOOLS_BINARY}", volumes::TOOLS);
    mounts::bind_file(&source, TOOLS_BINARY)?;
    mounts::restrict(TOOLS_BINARY, READ_ONLY | HARMLESS, false)
}

/// Folders that the user may write to.
fn writable(uid: u32, gid: u32) -> Result<(), Failure> {
    for (name, mode) in [
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
        ("run", 0o755),
        ("var/cache", 0o755),
        ("var/lib", 0o755),
        ("var/log", 0o755),
        ("root", 0o700),
        ("home", 0o755),
        ("mnt", 0o755),
        ("opt", 0o755),
    ] {
        mounts::folder(name, mode)?;
    }
    symlink("/run", "var/run").step("linking /var/run")?;
    let home = etc::HOME.trim_start_matches('/');
    mounts::folder(home, 0o755)?;
    etc::skeleton(home).step("filling the home")?;
    mounts::folder("workspace", 0o755)?;
    let inside = fs::read_dir(home).step("reading the home")?.flatten().map(|entry| entry.path());
    for path in inside.chain([home.into(), "workspace".into()]) {
        chown(&path, Some(uid), Some(gid)).step("giving the home to its user")?;
    }
    Ok(())
}

/// Makes the current folder the root and lets go of the old one.
fn pivot() -> Result<(), Failure> {
    nix::unistd::pivot_root(".", ".").step("changing the root")?;
    // Both are mounted on the same place now, the old one on top.
    unmount(".", UnmountFlags::DETACH).step("leaving the old root")?;
    std::env::set_current_dir("/").step("entering the new root")
}

/// Makes the folder in which the program starts, and enters it.
pub(crate) fn enter_workdir(context: &Context<'_>) -> Result<(), Failure> {
    let path = Path::new(&context.container.workdir);
    if !path.is_absolute() {
        return Err(Failure::Program(format!("working directory {path:?} must be absolute")));
    }
    let root = Root::open("/").step("opening the root")?;
    let made = root.folder(&context.container.workdir, Some(context.ids()));
    made.step("making the working directory").map(drop)
}
