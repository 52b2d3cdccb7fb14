//! Copies a tree of files where the kernel cannot show one tree in two places.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// From the owner of a file to the owner of its copy; `None` leaves it to the one who copies.
pub(crate) type Owner = fn(u32, u32, (u32, u32)) -> Option<(u32, u32)>;

/// Every file keeps its owner.
pub(crate) const SAME: Owner = |uid, gid, _| Some((uid, gid));
/// All belong to the one who copies.
pub(crate) const OURS: Owner = |_, _, _| None;
/// Ids are moved up by a range's first ones; those beyond belong to the range's nobody.
pub(crate) const SHIFTED: Owner = |uid, gid, (first_uid, first_gid)| {
    let inside = |id: u32| if id < 65536 { id } else { 65534 };
    Some((first_uid + inside(uid), first_gid + inside(gid)))
};

/// Copies a folder and all below it to one that is not there yet. Devices are left out: nobody
/// could use them. The source must not change meanwhile.
pub(crate) fn tree(from: &Path, to: &Path, owner: Owner, first: (u32, u32)) -> io::Result<()> {
    Copy { owner, first, linked: HashMap::new() }.any(from, to)
}

struct Copy {
    owner: Owner,
    first: (u32, u32),
    /// Files with several names, by what they are and where the first copy is.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn any(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(from)?;
        let kind = meta.file_type();
        if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
            return self.own(&meta, to);
        }
        if kind.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(to)?;
            for entry in fs::read_dir(from)? {
                let name = entry?.file_name();
                self.any(&from.join(&name), &to.join(&name))?;
            }
        } else if kind.is_file() {
            if self.is_linked(&meta, to)? {
                return Ok(());
            }
            fs::copy(from, to)?;
        } else {
            return Ok(());
        }
        self.own(&meta, to)?;
        // Last: a new owner takes set-user-id bits away.
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))
    }

    fn is_linked(&mut self, meta: &Metadata, to: &Path) -> io::Result<bool> {
        if meta.nlink() < 2 {
            return Ok(false);
        }
        if let Some(first) = self.linked.get(&(meta.dev(), meta.ino())) {
            fs::hard_link(first, to)?;
            return Ok(true);
        }
        self.linked.insert((meta.dev(), meta.ino()), to.to_owned());
        Ok(false)
    }

    fn own(&self, meta: &Metadata, to: &Path) -> io::Result<()> {
        match (self.owner)(meta.uid(), meta.gid(), self.first) {
            Some((uid, gid)) => lchown(to, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_modes_and_links_are_kept() {
        let dir = std::env::temp_dir().join(format!("loom-copy-{}", std::process::id()));
        let (from, to) = (dir.join("from"), dir.join("to"));
        fs::create_dir_all(from.join("bin")).unwrap();
        fs::write(from.join("bin/one"), "x").unwrap();
        fs::set_permissions(from.join("bin/one"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(from.join("bin/one"), from.join("two")).unwrap();
        symlink("/etc/passwd", from.join("away")).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o711)).unwrap();
        tree(&from, &to, OURS, (0, 0)).unwrap();
        let (one, two) = (fs::metadata(to.join("bin/one")).unwrap(), fs::metadata(to.join("two")));
        assert_eq!((one.ino(), one.mode() & 0o7777), (two.unwrap().ino(), 0o4751));
        assert_eq!(fs::read_link(to.join("away")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o711);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn ids_are_moved_into_the_range() {
        assert_eq!(SHIFTED(0, 42, (1000, 5000)), Some((1000, 5042)));
        assert_eq!(SHIFTED(70_000, u32::MAX, (1000, 5000)), Some((66_534, 70_534)));
    }
}
