//! Unpacked images: shown once for the pod, each container's changes in a layer above.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::mount::{MountFlags, mount_bind};

use super::failure::{Failure, Step};
use super::message::Setup;
use super::mounts::{self, HARMLESS, READ_ONLY};
use crate::copy;

/// Where they are, in the pod's `fs`.
const FOLDER: &str = "images";

/// Shows the pod's images; the current folder is its `fs`. `given` are mounts made by the shim.
pub(crate) fn show(setup: &Setup, given: &[OwnedFd]) -> Result<(), Failure> {
    for (number, path) in setup.images.iter().enumerate() {
        let target = format!("{FOLDER}/{number}");
        mounts::folder(&target, 0o755)?;
        if let Some(mount) = given.get(number) {
            mounts::attach(mount, Path::new(&target)).step("showing an image")?;
            continue;
        }
        mount_bind(path, &target).step(&format!("binding {}", path.display()))?;
        mounts::restrict(&target, READ_ONLY | HARMLESS, false)?;
    }
    Ok(())
}

/// Returns where an image is shown.
pub(crate) fn find(setup: &Setup, path: &Path) -> Result<String, Failure> {
    let number = setup.images.iter().position(|known| known == path);
    let number = number.ok_or_else(|| Failure::Program("the image is not the pod's".to_owned()))?;
    Ok(format!("{FOLDER}/{number}"))
}

/// Makes `root` a file system with the image's files that takes changes; where the kernel has no
/// overlay for us, a copy.
pub(crate) fn lay_over(
    image: &str,
    root: &str,
    container: &str,
    owners: bool,
) -> Result<(), Failure> {
    let upper = upper(container);
    for folder in [root, &upper] {
        mounts::folder(folder, 0o755)?;
    }
    // The top folder is seen as it is in the upper layer.
    alike(image, &upper, owners).step("making the image's top folder")?;
    if layer(image, root, container).is_ok() {
        return Ok(());
    }
    fs::remove_dir(root).step("making the root")?;
    let owner = if owners { copy::SAME } else { copy::OURS };
    copy::tree(Path::new(image), Path::new(root), owner, (0, 0)).step("copying the image")?;
    mount_bind(root, root).step("binding the root")
}

/// Shows `lower` at `root`, below a layer on disk that takes changes.
pub(super) fn layer(lower: &str, root: &str, container: &str) -> Result<(), Failure> {
    let (upper, work) = (upper(container), format!("work-{container}"));
    for folder in [&upper, &work] {
        mounts::folder(folder, 0o755)?;
    }
    // Unlike others these attributes may be set in a user namespace.
    let data = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr");
    let shown = mounts::fresh("overlay", root, MountFlags::empty(), &data);
    if shown.is_err() {
        // What is there is taken for the layer of a root, see `rootfs::layers`.
        for folder in [&upper, &work] {
            fs::remove_dir(folder).ok();
        }
        return shown;
    }
    // The kernel's own folder there is closed to all: removing it would take a process of the
    // pod's own, and still can.
    fs::set_permissions(format!("{work}/work"), fs::Permissions::from_mode(0o700)).ok();
    Ok(())
}

fn upper(container: &str) -> String {
    format!("upper-{container}")
}

fn alike(image: &str, folder: &str, owners: bool) -> std::io::Result<()> {
    let meta = fs::metadata(image)?;
    if owners {
        chown(folder, Some(meta.uid()), Some(meta.gid()))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(meta.mode() & 0o7777))
}
