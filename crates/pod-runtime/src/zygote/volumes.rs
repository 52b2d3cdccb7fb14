//! Volumes: made once for the pod, seen by each container that mounts them.
//!
//! Containers own what is inside. A path below a volume is therefore resolved by the kernel under
//! RESOLVE_BENEATH, and a place to mount on as [`super::beneath`] does, after the container's root
//! has become the root: a symlink leads nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{MountFlags, mount_bind};

use super::beneath::{self, Root};
use super::failure::{Failure, Step};
use super::message::Setup;
use super::{files, images, mounts};
use crate::TOOLS_BINARY;
use crate::spec::{ContainerSpec, FileContent, Image, Mount, Volume};

/// Where volumes are, in the pod's `fs`.
pub(super) const FOLDER: &str = "volumes";
/// Where the tools are, in the pod's `fs`.
pub(crate) const TOOLS: &str = "tools";

/// A volume for one container, mounted nowhere yet.
pub(crate) struct Detached {
    pub(crate) tree: OwnedFd,
    /// Where it belongs.
    pub(crate) path: String,
}

/// Makes all volumes of the pod; the current folder is its `fs`.
pub(crate) fn prepare(setup: &Setup) -> Result<(), Failure> {
    mounts::folder(FOLDER, 0o755)?;
    for (name, volume) in &setup.volumes {
        let path = format!("{FOLDER}/{name}");
        match volume {
            Volume::EmptyDir { memory: false, .. } => mounts::folder(&path, 0o777)?,
            Volume::EmptyDir { memory: true, size_limit } => memory(&path, *size_limit)?,
            Volume::Image(Image::Tools | Image::Rootfs { .. }) => {}
            Volume::Image(Image::Host) => mounts::bind_folder(
                "/usr",
                &format!("{path}/usr"),
                mounts::READ_ONLY | mounts::HARMLESS,
            )?,
            Volume::Files(given) => given_files(&path, given)?,
        }
    }
    Ok(())
}

/// Makes a folder with nothing but the running binary, which cannot be written.
pub(crate) fn tools(binary: &OwnedFd) -> Result<(), Failure> {
    mounts::folder(TOOLS, 0o755)?;
    let target = format!("{TOOLS}/{TOOLS_BINARY}");
    fs::File::create(&target).step("making the tools' folder")?;
    let source = format!("/proc/self/fd/{}", binary.as_raw_fd());
    mount_bind(source, &target).step("binding the runtime's own binary")?;
    mounts::restrict(&target, mounts::READ_ONLY | mounts::HARMLESS, false)
}

fn memory(path: &str, size_limit: Option<u64>) -> Result<(), Failure> {
    mounts::folder(path, 0o755)?;
    let size = size_limit.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mounts::fresh("tmpfs", path, flags, &format!("mode=1777{size}"))
}

fn given_files(folder: &str, given: &BTreeMap<String, FileContent>) -> Result<(), Failure> {
    mounts::folder(folder, 0o755)?;
    // They may be secrets: in memory, as Kubernetes keeps them.
    mounts::fresh("tmpfs", folder, MountFlags::NOSUID | MountFlags::NODEV, "mode=755")?;
    files::write(folder, given)
}

/// Replaces the files of a volume; the current folder is the pod's `fs`.
pub(crate) fn update(
    setup: &Setup,
    name: &str,
    given: &BTreeMap<String, FileContent>,
) -> Result<(), Failure> {
    match setup.volumes.get(name) {
        Some(Volume::Files(_)) => files::write(&format!("{FOLDER}/{name}"), given),
        _ => Err(Failure::Program(format!("volume {name:?} has no files to be replaced"))),
    }
}

/// Copies the mounts that a container wants; the current folder is the pod's `fs`.
pub(crate) fn detach(setup: &Setup, container: &ContainerSpec) -> Result<Vec<Detached>, Failure> {
    let detached = |mount: &Mount| {
        let path = mount.path.clone();
        if !path.starts_with('/') || path.contains('\0') {
            return Err(Failure::Program(format!("mountPath {path:?} must be absolute")));
        }
        Ok(Detached { tree: tree(setup, mount)?, path })
    };
    container.mounts.iter().map(detached).collect()
}

fn tree(setup: &Setup, mount: &Mount) -> Result<OwnedFd, Failure> {
    let name = &mount.volume;
    let Some(volume) = setup.volumes.get(name) else {
        return Err(Failure::Program(format!("volume {name:?} does not exist")));
    };
    let (path, fixed) = match volume {
        Volume::Image(Image::Tools) => (TOOLS.to_owned(), mounts::READ_ONLY),
        Volume::Image(Image::Rootfs { path }) => (images::find(setup, path)?, mounts::READ_ONLY),
        Volume::Image(Image::Host) | Volume::Files(_) => {
            (format!("{FOLDER}/{name}"), mounts::READ_ONLY)
        }
        Volume::EmptyDir { .. } => (format!("{FOLDER}/{name}"), 0),
    };
    let attributes = if mount.read_only { mounts::READ_ONLY } else { fixed };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let whole = openat(CWD, &path, flags, Mode::empty()).step(&format!("opening volume {name}"))?;
    let source = match &mount.sub_path {
        None => whole,
        Some(sub) => below(&whole, sub, fixed == 0)?,
    };
    mounts::detach(source, attributes | mounts::HARMLESS).step(&format!("mounting volume {name}"))
}

/// Opens a path inside a volume, made if missing and possible, wherever symlinks may point.
fn below(volume: &OwnedFd, sub: &str, create: bool) -> Result<OwnedFd, Failure> {
    if !is_below(sub) {
        return Err(Failure::Program(format!("subPath {sub:?} must stay inside its volume")));
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat2(volume, path, flags, Mode::empty(), resolve)
    };
    let mut path = std::path::PathBuf::new();
    for part in Path::new(sub) {
        let above = if path.as_os_str().is_empty() { Path::new(".") } else { path.as_path() };
        let above = open(above).step(&format!("opening subPath {sub}"))?;
        path.push(part);
        if create && open(&path).err() == Some(rustix::io::Errno::NOENT) {
            // As open as the volume itself. Not chmod: the container may have put a symlink there.
            let umask = rustix::process::umask(Mode::empty());
            let made = rustix::fs::mkdirat(&above, Path::new(part), Mode::from_raw_mode(0o777));
            rustix::process::umask(umask);
            made.step(&format!("making subPath {sub}"))?;
        }
    }
    open(&path).step(&format!("opening subPath {sub}"))
}

fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty()
        && !path.contains('\0')
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Puts the volumes where they belong; the root is the container's own by now.
pub(crate) fn attach(volumes: &[Detached]) -> Result<(), Failure> {
    // What is nearer to the root first: a volume may be mounted inside another.
    let mut sorted: Vec<_> = volumes.iter().collect();
    sorted.sort_by_key(|volume| Path::new(&volume.path).components().count());
    let root = Root::open("/").step("opening the root")?;
    sorted.into_iter().try_for_each(|volume| attach_one(&root, volume))
}

fn attach_one(root: &Root, Detached { tree, path }: &Detached) -> Result<(), Failure> {
    let stat = rustix::fs::fstat(tree).step("looking at a volume")?;
    let is_folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    let target = if is_folder { root.folder(path, None) } else { root.file(path) };
    let target = target.step(&format!("making {path}"))?;
    if beneath::is_proc(&target).step(&format!("looking at {path}"))? {
        return Err(Failure::Program(format!("{path:?} is inside /proc and cannot be mounted on")));
    }
    mounts::attach_on(tree, &target).step(&format!("mounting on {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_inside_are_taken() {
        assert!(is_below("a/b") && is_below("a"));
        for bad in ["", "/a", "..", "a/../b", "a\0b"] {
            assert!(!is_below(bad), "{bad:?}");
        }
    }
}
