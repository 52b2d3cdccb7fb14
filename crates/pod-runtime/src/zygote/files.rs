//! Given files of a volume, replaced all at once, as Kubernetes' AtomicWriter does it.
//!
//! ```text
//! name -> ..data/name      ..data -> ..2026_01_02_03_04_05.123456789/
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use super::failure::{Failure, Step};
use super::mounts;
use crate::clock;
use crate::spec::FileContent;

/// Leads to the folder that holds the present files.
const DATA: &str = "..data";
const FRESH: &str = "..data_tmp";

/// Makes the files of a folder the given ones. Whoever reads one by way of the folder sees the old
/// or the new ones; what is the same stays.
pub(crate) fn write(folder: &str, files: &BTreeMap<String, FileContent>) -> Result<(), Failure> {
    if let Some(name) = files.keys().find(|name| !is_below(name)) {
        return Err(Failure::Program(format!("{name:?} would leave its volume")));
    }
    let folder = Path::new(folder);
    let old = fs::read_link(folder.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| is_same(&folder.join(old), files)) {
        return Ok(());
    }
    let now = clock::now();
    let name = format!("..{}.{:09}", now.strftime("%Y_%m_%d_%H_%M_%S"), now.subsec_nanosecond());
    fill(&folder.join(&name), files)?;
    let replace = || -> io::Result<()> {
        fs::remove_file(folder.join(FRESH)).or_else(missing_is_fine)?;
        symlink(&name, folder.join(FRESH))?;
        fs::rename(folder.join(FRESH), folder.join(DATA))?;
        lead_to(folder, files)?;
        old.map_or(Ok(()), |old| fs::remove_dir_all(folder.join(old)))
    };
    replace().step("replacing a volume's files")
}

fn fill(folder: &Path, files: &BTreeMap<String, FileContent>) -> Result<(), Failure> {
    mounts::folder(&folder.to_string_lossy(), 0o755)?;
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(above) = path.parent() {
            mounts::folder(&above.to_string_lossy(), 0o755)?;
        }
        fs::write(&path, &content.data)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(content.mode)))
            .step(&format!("writing {name}"))?;
    }
    Ok(())
}

/// Makes the names that users see, and removes those of files that are no more.
fn lead_to(folder: &Path, files: &BTreeMap<String, FileContent>) -> io::Result<()> {
    let first = |name: &String| Path::new(name).iter().next().map(ToOwned::to_owned);
    let names: BTreeSet<_> = files.keys().filter_map(first).collect();
    for name in &names {
        if fs::symlink_metadata(folder.join(name)).is_err() {
            symlink(Path::new(DATA).join(name), folder.join(name))?;
        }
    }
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b"..") && !names.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Whether a folder holds just these files.
fn is_same(folder: &Path, files: &BTreeMap<String, FileContent>) -> bool {
    let same = |(name, content): (&String, &FileContent)| {
        let path = folder.join(name);
        let mode = fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o7777);
        mode.is_ok_and(|mode| mode == content.mode)
            && fs::read(&path).is_ok_and(|data| data == content.data)
    };
    count(folder) == files.len() && files.iter().all(same)
}

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let each = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count(&entry.path()),
        _ => 1,
    };
    entries.map(each).sum()
}

fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty()
        && !path.contains('\0')
        && !path.starts_with("..")
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(given: &[(&str, &str)]) -> BTreeMap<String, FileContent> {
        let file = |text: &str| FileContent { data: text.as_bytes().to_vec(), mode: 0o600 };
        given.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect()
    }

    #[test]
    fn files_are_replaced_at_once_and_only_when_they_change() {
        let dir = std::env::temp_dir().join(format!("loom-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let folder = dir.to_str().unwrap();
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        let data = || fs::read_link(dir.join(DATA)).unwrap();
        write(folder, &files(&[("a", "1"), ("sub/b", "2"), ("sub/c", "3")])).unwrap();
        assert_eq!([read("a"), read("sub/b")], ["1", "2"].map(|text| Some(text.to_owned())));
        let first = data();
        write(folder, &files(&[("a", "1"), ("sub/b", "2"), ("sub/c", "3")])).unwrap();
        assert_eq!(data(), first);
        write(folder, &files(&[("sub/b", "2"), ("d", "4")])).unwrap();
        assert_eq!([read("a"), read("sub/c")], [None, None]);
        assert_eq!(read("d").as_deref(), Some("4"));
        assert!(data() != first && !dir.join(first).exists());
        let mut names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn files_stay_in_their_volume() {
        for bad in ["", "/a", "../a", "a/../b", "..data", "a\0"] {
            assert!(write("/nowhere", &files(&[(bad, "x")])).is_err(), "{bad:?}");
        }
    }
}
