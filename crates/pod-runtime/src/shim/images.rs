//! Unpacked images for a pod with a range of its own: mounts that show the range's ids.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::ids::IdMap;
use crate::zygote::mounts::{HARMLESS, READ_ONLY};
use crate::{copy, fdpass, sys};

/// Where images are copied to that cannot be shown, in the pod's `fs`.
const COPIES: &str = "copies";
/// Since when an overlay may lie on a mount that shows other ids: Linux 5.19.
const OVERLAYS_MAPPED: (u32, u32) = (5, 19);

/// Returns a mount, nowhere yet, for each of the folders; the current one is the pod's `fs`.
/// Without a range there is nothing to show, and the pod's first process finds them itself.
pub(super) fn open(paths: &[PathBuf], ids: IdMap, zygote: i32) -> io::Result<Vec<OwnedFd>> {
    let IdMap::Range { uid, gid } = ids else { return Ok(Vec::new()) };
    if paths.len() > fdpass::MAX_FDS {
        return Err(io::Error::other(format!("more than {} images in a pod", fdpass::MAX_FDS)));
    }
    let mount = |(number, path): (usize, &PathBuf)| -> io::Result<OwnedFd> {
        if let Ok(mapped) = mapped(path, zygote) {
            return Ok(mapped);
        }
        std::fs::create_dir_all(COPIES)?;
        let place = Path::new(COPIES).join(number.to_string());
        copy::tree(path, &place, copy::SHIFTED, (uid, gid))?;
        detached(&place)
    };
    paths.iter().enumerate().map(mount).collect()
}

fn mapped(path: &Path, zygote: i32) -> io::Result<OwnedFd> {
    if kernel() < OVERLAYS_MAPPED {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let users = std::fs::File::open(format!("/proc/{zygote}/ns/user"))?;
    let mount = detached(path)?;
    sys::map_mount(mount.as_fd(), users.as_fd())?;
    Ok(mount)
}

fn detached(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, path, flags)?;
    sys::restrict_mount(mount.as_fd(), c"", READ_ONLY | HARMLESS, false)?;
    Ok(mount)
}

fn kernel() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy())
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("5.15.0-91-generic"), (5, 15));
        assert_eq!(version("6.18.44-fc-v595"), (6, 18));
        assert!(version("5.19-rc1") >= OVERLAYS_MAPPED && version("5.4.0") < OVERLAYS_MAPPED);
        assert_eq!(version("odd"), (0, 0));
    }
}
