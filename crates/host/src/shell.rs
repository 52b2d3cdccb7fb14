//! Which shell is the user's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::passwd::Entry;

/// A shell and how it is called, so that it is a login shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shell {
    pub(crate) path: PathBuf,
    pub(crate) arg0: OsString,
}

/// Returns `$SHELL`, else passwd's, else bash, else sh, the first that can be run.
pub(crate) fn find(shell: Option<&OsStr>, entry: Option<&Entry>, path: &OsStr) -> Option<Shell> {
    let wanted = shell.map(PathBuf::from);
    let listed = entry.map(|entry| entry.shell.clone()).filter(|shell| is_shell(shell));
    let usual = ["bash", "sh"].map(PathBuf::from);
    let found =
        wanted.into_iter().chain(listed).chain(usual).find_map(|shell| search(&shell, path));
    found.map(|path| Shell { arg0: login_name(&path), path })
}

/// Says whether it is one to work in; images list `nologin` for their users.
fn is_shell(shell: &Path) -> bool {
    !matches!(shell.file_name().and_then(OsStr::to_str), None | Some("nologin" | "false" | "sync"))
}

fn login_name(path: &Path) -> OsString {
    let mut name = OsString::from("-");
    name.push(path.file_name().unwrap_or(OsStr::new("sh")));
    name
}

/// Finds a program as a shell would: a name with a slash is a path, and folders of `PATH` that
/// cannot be looked into are passed over.
pub(crate) fn search(name: &Path, path: &OsStr) -> Option<PathBuf> {
    if is_path(name.as_os_str()) {
        return can_run(name).then(|| name.to_owned());
    }
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| can_run(file))
}

/// Says whether a program is named by its path.
pub(crate) fn is_path(name: &OsStr) -> bool {
    name.as_bytes().contains(&b'/')
}

fn can_run(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_can_be_run() {
        let path = OsStr::new("/nowhere:/usr/bin:/bin");
        let entry = Entry { name: "a".into(), home: "/".into(), shell: "/usr/sbin/nologin".into() };
        let name = |shell: Option<Shell>| shell.map(|shell| shell.arg0);
        assert_eq!(name(find(Some(OsStr::new("/bin/sh")), None, path)), Some("-sh".into()));
        assert_eq!(name(find(Some(OsStr::new("/none")), Some(&entry), path)), Some("-bash".into()));
        assert_eq!(find(None, None, OsStr::new("/nowhere")), None);
    }
}
