//! What a pod has written to disk, counted from inside, where every file can be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

use super::message::Setup;
use super::{rootfs, volumes};
use crate::spec::{Usage, Volume};

/// Counts; the current folder is the pod's `fs`.
pub(crate) fn measure(setup: &Setup, containers: &[String]) -> Usage {
    let mut volumes = BTreeMap::new();
    for (name, volume) in &setup.volumes {
        if let Volume::EmptyDir { memory: false, .. } = volume {
            volumes.insert(name.clone(), tree(&format!("{}/{name}", volumes::FOLDER)));
        }
    }
    let layers = |name: &String| {
        let sum = rootfs::layers(name, containers.len() == 1).iter().map(|path| tree(path)).sum();
        (name.clone(), sum)
    };
    Usage { volumes, containers: containers.iter().map(layers).collect() }
}

/// A folder that is being looked at.
struct Level {
    folder: OwnedFd,
    below: Vec<CString>,
}

/// Sums the blocks of all files in a folder, each once, as far as they are on its file system.
/// What vanishes meanwhile counts nothing. Names are resolved one at a time: no path is too long.
fn tree(path: &str) -> u64 {
    let Some(root) = open(None, path) else { return 0 };
    let device = rustix::fs::fstat(&root).map_or(0, |stat| stat.st_dev);
    let mut sum = Sum { device, bytes: 0, seen: BTreeSet::new() };
    let mut levels = vec![sum.enter(root)];
    while let Some(level) = levels.last_mut() {
        match level.below.pop() {
            Some(name) => {
                let folder = open(Some(&level.folder), name.as_c_str());
                levels.extend(folder.map(|folder| sum.enter(folder)));
            }
            None => drop(levels.pop()),
        }
    }
    sum.bytes
}

struct Sum {
    device: u64,
    bytes: u64,
    /// Files with several names that were counted.
    seen: BTreeSet<u64>,
}

impl Sum {
    /// Counts what is in a folder and returns what is to be looked at below.
    fn enter(&mut self, folder: OwnedFd) -> Level {
        let mut below = Vec::new();
        for entry in Dir::read_from(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if stat.st_dev != self.device || stat.st_nlink > 1 && !self.is_new(&stat) {
                continue;
            }
            self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                below.push(name.to_owned());
            }
        }
        Level { folder, below }
    }

    fn is_new(&mut self, stat: &rustix::fs::Stat) -> bool {
        FileType::from_raw_mode(stat.st_mode).is_dir() || self.seen.insert(stat.st_ino)
    }
}

fn open<P: rustix::path::Arg>(above: Option<&OwnedFd>, path: P) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match above {
        Some(above) => openat(above, path, flags, Mode::empty()).ok(),
        None => openat(CWD, path, flags, Mode::empty()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_count_once_and_links_lead_nowhere() {
        let dir = std::env::temp_dir().join(format!("loom-usage-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.join("a/b/file"), dir.join("again")).unwrap();
        std::os::unix::fs::symlink("/usr", dir.join("usr")).unwrap();
        let bytes = tree(dir.to_str().unwrap());
        fs::remove_dir_all(dir).unwrap();
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
        assert_eq!(tree("/no/such"), 0);
    }
}
