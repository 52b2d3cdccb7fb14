//! The folder that layers are applied to. Every name is resolved beneath it by the kernel.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use super::{Bounds, Ownership};
use crate::error::{Doing, Error, Result};

/// How many folders deep an image may be: who removes it has one open for each.
const DEEPEST: usize = 200;
/// The longest name of a file with all its folders, as Linux has it.
const LONGEST: usize = 4096;
/// How many bytes are written between two looks at the disk.
const LOOK_EVERY: u64 = 64 << 20;

type Entry<'a, R> = tar::Entry<'a, R>;

/// A folder and what may still be put into it.
pub(super) struct Tree {
    root: OwnedFd,
    /// Where what is replaced is moved: on the same disk, outside the image.
    trash: tempfile::TempDir,
    thrown: u64,
    ownership: Ownership,
    left: Bounds,
    unlooked: u64,
    /// What this layer has brought, which its own whiteouts leave alone.
    brought: HashSet<PathBuf>,
    /// Folders of this layer and their times, which writing into them changes.
    times: Vec<(PathBuf, Timespec)>,
}

/// A name in a folder.
struct Place {
    folder: OwnedFd,
    name: OsString,
}

impl Tree {
    pub(super) fn open(into: &Path, ownership: Ownership, left: Bounds) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opening = || format!("opening {}", into.display());
        let root = rustix::fs::open(into, flags, Mode::empty()).doing(opening)?;
        let beside = into.parent().unwrap_or(Path::new("/"));
        let trash = tempfile::Builder::new().prefix(".trash-").tempdir_in(beside).doing(opening)?;
        let (brought, times) = (HashSet::new(), Vec::new());
        Ok(Self { root, trash, thrown: 0, ownership, left, unlooked: 0, brought, times })
    }

    pub(super) fn begin_layer(&mut self) {
        self.brought.clear();
    }

    /// Gives folders the times they should have.
    pub(super) fn end_layer(&mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.times) {
            let Ok(folder) = self.resolve(&path) else { continue };
            let at = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
            // Who may not does without.
            rustix::fs::utimensat(CWD, at, &times(time), AtFlags::empty()).ok();
        }
        Ok(())
    }

    /// Gives the folder itself an owner, and removes what was replaced.
    pub(super) fn finish(self) -> Result<()> {
        if self.ownership == Ownership::Real {
            let (root, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
            rustix::fs::chownat(&self.root, "", root, group, AtFlags::EMPTY_PATH)
                .doing(|| "giving an owner to the image".to_owned())?;
        }
        self.trash.close().doing(|| "removing what a later layer has replaced".to_owned())
    }

    /// Applies one entry.
    pub(super) fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<()> {
        let Some(left) = self.left.entries.checked_sub(1) else {
            return Err(Error::TooLarge("it holds too many files".to_owned()));
        };
        self.left.entries = left;
        let kind = entry.header().entry_type();
        if kind == tar::EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = inside(&entry.path_bytes())?;
        // Some archives describe the root itself.
        let Some(name) = path.file_name() else { return Ok(()) };
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.whiteout(&path, OsStr::from_bytes(hidden));
        }
        let place = self.place(&path)?;
        match kind {
            tar::EntryType::Directory => self.add_folder(&place)?,
            tar::EntryType::Symlink => self.add_symlink(&place, entry)?,
            tar::EntryType::Link => self.add_link(&place, entry)?,
            tar::EntryType::Fifo => self.add_fifo(&place)?,
            // Devices of an image are never shown to anybody.
            tar::EntryType::Char | tar::EntryType::Block => return Ok(()),
            _ => self.add_file(&place, entry)?,
        }
        if kind != tar::EntryType::Link {
            self.adorn(&place, entry, &path)?;
        }
        self.bring(path);
        Ok(())
    }

    /// Remembers what this layer has brought, and the folders above it.
    fn bring(&mut self, mut path: PathBuf) {
        while !path.as_os_str().is_empty() && self.brought.insert(path.clone()) {
            path.pop();
        }
    }

    /// Resolves a folder beneath the root: links in it lead to places beneath the root.
    fn resolve(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something was renamed at the same time, says the kernel.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// Resolves where something is put; folders on the way are made.
    fn place(&self, path: &Path) -> Result<Place> {
        let name = path.file_name().unwrap_or_default().to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        let writing = || format!("writing {}", path.display());
        let folder = match self.resolve(parent) {
            Err(Errno::NOENT) => self.make_all(parent).doing(writing)?,
            other => other.doing(writing)?,
        };
        self.check_depth(&folder)?;
        Ok(Place { folder, name })
    }

    fn make_all(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let mut above = self.resolve(Path::new(""))?;
        let mut so_far = PathBuf::new();
        for part in path.components() {
            so_far.push(part);
            above = match self.resolve(&so_far) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&above, part.as_os_str(), Mode::from(0o755))?;
                    self.resolve(&so_far)?
                }
                other => other?,
            };
        }
        Ok(above)
    }

    /// Links may lead deeper than any name in the archive says.
    fn check_depth(&self, folder: &OwnedFd) -> Result<()> {
        let real = |fd: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
            std::fs::read_link(link).map(|path| path.components().count())
        };
        match (real(folder), real(&self.root)) {
            (Ok(depth), Ok(root)) if depth <= root + DEEPEST => Ok(()),
            _ => Err(Error::TooLarge(format!("its folders are more than {DEEPEST} deep"))),
        }
    }

    /// Moves away what stands where something else is to be.
    fn clear(&mut self, place: &Place) -> Result<()> {
        match rustix::fs::unlinkat(&place.folder, &place.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error).doing(|| place.doing("replacing")),
        }
        self.thrown += 1;
        let to = self.trash.path().join(self.thrown.to_string());
        rustix::fs::renameat(&place.folder, &place.name, CWD, &to)
            .doing(|| place.doing("replacing"))
    }

    fn add_folder(&mut self, place: &Place) -> Result<()> {
        let stat = rustix::fs::statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()) {
            return Ok(());
        }
        self.clear(place)?;
        rustix::fs::mkdirat(&place.folder, &place.name, Mode::from(0o755))
            .doing(|| place.doing("making"))
    }

    fn add_symlink<R: Read>(&mut self, place: &Place, entry: &Entry<'_, R>) -> Result<()> {
        let to = link_of(entry)?;
        self.clear(place)?;
        rustix::fs::symlinkat(&to, &place.folder, &place.name).doing(|| place.doing("linking"))
    }

    /// A second name of a file that is here already.
    fn add_link<R: Read>(&mut self, place: &Place, entry: &Entry<'_, R>) -> Result<()> {
        let to = inside(link_of(entry)?.as_bytes())?;
        let linking = || format!("linking {} to {}", place.name.display(), to.display());
        let folder = self.resolve(to.parent().unwrap_or(Path::new(""))).doing(linking)?;
        let name = to.file_name().unwrap_or_default();
        let same = |a: &OwnedFd, b: &OwnedFd| {
            let id = |fd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
            id(a) == id(b)
        };
        if name == place.name && same(&folder, &place.folder) {
            return Ok(());
        }
        self.clear(place)?;
        rustix::fs::linkat(&folder, name, &place.folder, &place.name, AtFlags::empty())
            .doing(linking)
    }

    fn add_fifo(&mut self, place: &Place) -> Result<()> {
        self.clear(place)?;
        let mode = Mode::from(0o600);
        rustix::fs::mknodat(&place.folder, &place.name, FileType::Fifo, mode, 0)
            .doing(|| place.doing("making"))
    }

    fn add_file<R: Read>(&mut self, place: &Place, entry: &mut Entry<'_, R>) -> Result<()> {
        self.clear(place)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(
            &place.folder,
            &place.name,
            flags | OFlags::CLOEXEC,
            Mode::from(0o600),
        )
        .doing(|| place.doing("writing"))?;
        let mut file = File::from(file);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = entry.read(&mut buffer).map_err(super::damaged)?;
            if count == 0 {
                return Ok(());
            }
            self.take(count as u64)?;
            file.write_all(&buffer[..count]).doing(|| place.doing("writing"))?;
        }
    }

    /// Counts bytes, and looks now and then whether others still have room.
    fn take(&mut self, count: u64) -> Result<()> {
        let Some(left) = self.left.bytes.checked_sub(count) else {
            return Err(Error::TooLarge("its files hold too many bytes".to_owned()));
        };
        self.left.bytes = left;
        self.unlooked += count;
        if self.unlooked < LOOK_EVERY {
            return Ok(());
        }
        self.unlooked = 0;
        let disk =
            rustix::fs::fstatvfs(self.root.as_fd()).doing(|| "looking at the disk".into())?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < self.left.reserve {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(full).doing(|| "unpacking, with some room left for others".to_owned());
        }
        Ok(())
    }

    /// Gives what was made its owner, its mode and its time, in this order: the first changes the
    /// second.
    fn adorn<R: Read>(&mut self, place: &Place, entry: &Entry<'_, R>, path: &Path) -> Result<()> {
        let header = entry.header();
        let kind = header.entry_type();
        let number = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
        if self.ownership == Ownership::Real {
            let owner = number(header.uid()).filter(|id| *id != u32::MAX).map(Uid::from_raw);
            let group = number(header.gid()).filter(|id| *id != u32::MAX).map(Gid::from_raw);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&place.folder, &place.name, owner, group, flags)
                .doing(|| place.doing("giving an owner to"))?;
        }
        if kind != tar::EntryType::Symlink {
            let mode = self.mode(header.mode().unwrap_or(0o644), kind);
            rustix::fs::chmodat(&place.folder, &place.name, mode, AtFlags::empty())
                .doing(|| place.doing("giving a mode to"))?;
        }
        let seconds = header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        if kind == tar::EntryType::Directory {
            self.times.push((path.to_owned(), time));
            return Ok(());
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        // A time that the disk cannot hold is no reason to refuse a file.
        rustix::fs::utimensat(&place.folder, &place.name, &times(time), flags).ok();
        Ok(())
    }

    fn mode(&self, told: u32, kind: tar::EntryType) -> Mode {
        let least = match (self.ownership, kind) {
            (Ownership::Real, _) => 0,
            (Ownership::Flat, tar::EntryType::Directory) => 0o700,
            (Ownership::Flat, _) => 0o600,
        };
        Mode::from_raw_mode(told & 0o7777 | least)
    }

    /// Hides something of a lower layer, or all of a folder.
    /// <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>
    fn whiteout(&mut self, path: &Path, hidden: &OsStr) -> Result<()> {
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        let Ok(folder) = self.resolve(&parent) else { return Ok(()) };
        self.check_depth(&folder)?;
        if hidden.as_bytes() == b".wh..opq" {
            return self.empty(&parent, &folder);
        }
        if hidden.as_bytes().starts_with(b".wh.") {
            // Of another storage driver, and of no meaning.
            return Ok(());
        }
        if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
            return Err(Error::Unsupported(format!("hides {}", path.display())));
        }
        if self.brought.contains(&parent.join(hidden)) {
            return Ok(());
        }
        self.clear(&Place { folder, name: hidden.to_owned() })
    }

    fn empty(&mut self, parent: &Path, folder: &OwnedFd) -> Result<()> {
        let reading = || format!("emptying {}", parent.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(folder, ".", flags, Mode::empty()).doing(reading)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&readable).doing(reading)? {
            let name = entry.doing(reading)?.file_name().to_bytes().to_vec();
            let name = OsString::from(OsStr::from_bytes(&name));
            if name != "." && name != ".." && !self.brought.contains(&parent.join(&name)) {
                names.push(name);
            }
        }
        for name in names {
            let folder = rustix::io::dup(folder).doing(reading)?;
            self.clear(&Place { folder, name })?;
        }
        Ok(())
    }
}

impl Place {
    fn doing(&self, what: &str) -> String {
        format!("{what} {}", self.name.display())
    }
}

fn times(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}

/// Where the entry leads.
fn link_of<R: Read>(entry: &Entry<'_, R>) -> Result<OsString> {
    match entry.link_name_bytes() {
        Some(to) if to.len() < LONGEST => Ok(OsStr::from_bytes(&to).to_owned()),
        _ => Err(Error::Unsupported("has a link that leads nowhere".to_owned())),
    }
}

/// Returns a name of the archive as a path beneath the root.
fn inside(name: &[u8]) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                let name = String::from_utf8_lossy(name).chars().take(100).collect::<String>();
                return Err(Error::Unsupported(format!("reaches out of the image: {name:?}")));
            }
        }
    }
    if name.len() >= LONGEST || name.contains(&0) {
        return Err(Error::Unsupported("has a name that no file can have".to_owned()));
    }
    Ok(path)
}
