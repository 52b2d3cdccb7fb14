//! Places below a container's root, where the files of an image may say anything.
//!
//! The kernel resolves every path as if the root were the only one there is (RESOLVE_IN_ROOT), and
//! follows no link of /proc. Nothing runs in the container yet, so what was found stays.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, openat, openat2};
use rustix::io::Errno;

/// How often a look-up is repeated that something else on the machine has disturbed.
const TRIES: u32 = 1000;
/// See statfs(2).
const PROC: u64 = 0x9fa0;

/// A container's root.
pub(crate) struct Root(OwnedFd);

impl Root {
    /// Opens a folder as a root.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Returns a folder, made with those above it when missing; `owner` is whose it is then.
    pub(crate) fn folder(&self, path: &str, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
        let path = clean(path);
        let mut place = PathBuf::new();
        let mut made = false;
        for part in &path {
            let above = place.clone();
            place.push(part);
            match self.find(&place, OFlags::DIRECTORY) {
                Ok(_) => made = false,
                Err(Errno::NOENT) => {
                    self.make(&above, part)?;
                    made = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let folder = self.find(&place, OFlags::DIRECTORY)?;
        if let (true, Some((uid, gid))) = (made, owner) {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(&folder, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
        Ok(folder)
    }

    /// Returns a file, made when missing.
    pub(crate) fn file(&self, path: &str) -> io::Result<OwnedFd> {
        let place = clean(path);
        if let Ok(found) = self.find(&place, OFlags::empty()) {
            return Ok(found);
        }
        let (Some(above), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let above = self.folder(&above.to_string_lossy(), None)?;
        remove_link(&above, name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        drop(openat(&above, name, flags, Mode::from_raw_mode(0o644))?);
        Ok(self.find(&place, OFlags::empty())?)
    }

    /// Makes sure that there is a folder of this very name, for one of the kernel's file systems.
    pub(crate) fn own_folder(&self, name: &str) -> io::Result<()> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => Ok(()),
            Ok(_) => Err(io::Error::other("the image has something else than a folder there")),
            Err(Errno::NOENT) => {
                Ok(rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o755))?)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn make(&self, above: &Path, name: &OsStr) -> io::Result<()> {
        let above = self.find(above, OFlags::DIRECTORY)?;
        remove_link(&above, name)?;
        Ok(rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755))?)
    }

    fn find(&self, place: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut result = Err(Errno::AGAIN);
        for _ in 0..TRIES {
            result = openat2(&self.0, place, flags, Mode::empty(), resolve);
            if !matches!(result, Err(Errno::AGAIN)) {
                break;
            }
        }
        result
    }
}

/// Whether something would be mounted over the kernel's word on processes.
pub(crate) fn is_proc(place: impl AsFd) -> io::Result<bool> {
    Ok(u64::try_from(rustix::fs::fstatfs(place)?.f_type) == Ok(PROC))
}

/// A link that leads nowhere makes way: it is the container's own.
fn remove_link(above: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_symlink() => {
            Ok(rustix::fs::unlinkat(above, name, AtFlags::empty())?)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Takes `.`, `..` and slashes out of a path; the result is relative to the root.
fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Fixture(PathBuf, Root);

    impl Fixture {
        fn new(name: &str) -> Self {
            let id = std::process::id();
            let dir = std::env::temp_dir().join(format!("loom-beneath-{name}-{id}"));
            fs::create_dir_all(dir.join("root")).unwrap();
            let root = Root::open(dir.join("root").to_str().unwrap()).unwrap();
            Self(dir, root)
        }

        fn link(&self, to: &str, name: &str) {
            symlink(to, self.0.join("root").join(name)).unwrap();
        }

        fn outside(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn links_lead_nowhere_else() {
        let Fixture(dir, root) = &Fixture::new("links");
        let fixture = Fixture::new("links-too");
        let away = dir.to_str().unwrap();
        for (to, name) in [("../../..", "up"), (away, "away"), ("/proc/self/root", "magic")] {
            symlink(to, dir.join("root").join(name)).unwrap();
        }
        root.folder("/up/a", None).unwrap();
        root.folder("/away/b", None).unwrap();
        root.file("/up/c").unwrap();
        assert!(dir.join("root/a").is_dir() && dir.join("root/c").is_file());
        assert_eq!(fixture.outside() + fs::read_dir(dir).unwrap().count(), 2);
        assert!(root.folder("/../../d/../e", None).is_ok() && dir.join("root/e").is_dir());
        fixture.link("loop", "loop");
        assert!(fixture.1.folder("/loop/x", None).is_err());
    }

    #[test]
    fn links_that_lead_nowhere_make_way() {
        let fixture = Fixture::new("broken");
        fixture.link("../run/none", "file");
        fixture.link("/none", "folder");
        fixture.1.file("file").unwrap();
        fixture.1.folder("folder/x", None).unwrap();
        assert!(fixture.0.join("root/file").is_file() && fixture.0.join("root/folder/x").is_dir());
    }

    #[test]
    fn the_kernels_folders_are_folders() {
        let fixture = Fixture::new("kernel");
        fixture.link("/etc", "proc");
        fixture.1.own_folder("sys").unwrap();
        fixture.1.own_folder("sys").unwrap();
        assert!(fixture.1.own_folder("proc").is_err());
    }
}
