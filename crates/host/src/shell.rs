//! Which shell is the user's, and how it keeps the image's `PATH`.
//!
//! A login shell reads /etc/profile, and Debian's and Alpine's set `PATH` anew there: what the
//! image had put in front would be lost, and the tools' folder too. Where that is so, the login
//! shell is started only to read its files; then it becomes `loom-host shell`, which puts back
//! what is missing and becomes the interactive shell. All else that was exported stays.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::fs::Access;

use crate::passwd::Entry;

/// What shells like sh read that are login shells.
const PROFILE: &str = "/etc/profile";
/// Becomes the interactive shell, when the profile has been read. Of what it has set only the
/// prompt is not for programs, and so not exported.
const GO_ON: &str = r#"[ -z "${PS1-}" ] || export PS1; exec "$0" shell "$1" "$2""#;

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

impl Shell {
    /// Returns the arguments with which it keeps what `path` has, if it would not by itself.
    pub(crate) fn args(&self, host: Option<&Path>, path: &OsStr) -> Vec<OsString> {
        let like_sh = ["sh", "ash", "dash", "bash", "ksh"];
        let name = self.path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let profile = std::fs::read(PROFILE).unwrap_or_default();
        let Some(host) = host.filter(|_| like_sh.contains(&name)) else { return Vec::new() };
        if !sets_path_anew(&String::from_utf8_lossy(&profile)) {
            return Vec::new();
        }
        // With a command, bash does not take its name for a login; others do, and not all know -l.
        let login = if name == "bash" { Some(OsStr::new("-l")) } else { None };
        let words = [OsStr::new("-c"), OsStr::new(GO_ON), host.as_os_str(), path];
        let words = login.into_iter().chain(words).chain([self.path.as_os_str()]);
        words.map(OsStr::to_owned).collect()
    }
}

/// What `loom-host shell PATH PROGRAM` does: becomes an interactive shell with nothing missing.
pub(crate) fn go_on(path: &OsStr, program: &Path) -> ExitCode {
    let found = std::env::var_os("PATH").unwrap_or_default();
    let error = Command::new(program).env("PATH", merge(&found, path)).exec();
    eprintln!("loom-host: {}: {error}", program.display());
    ExitCode::from(126)
}

/// Says whether a profile forgets the `PATH` that there was.
fn sets_path_anew(profile: &str) -> bool {
    profile.lines().any(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let value = line.strip_prefix("PATH=");
        value.is_some_and(|value| !value.contains("$PATH") && !value.contains("${PATH"))
    })
}

/// Adds to `found` what only `wanted` has, each behind the one that it followed there: the order
/// of neither changes.
fn merge(found: &OsStr, wanted: &OsStr) -> OsString {
    let mut folders: Vec<PathBuf> = std::env::split_paths(found).collect();
    folders.retain(|folder| !folder.as_os_str().is_empty());
    let mut next = 0;
    for folder in std::env::split_paths(wanted).filter(|folder| !folder.as_os_str().is_empty()) {
        match folders.iter().position(|known| *known == folder) {
            Some(at) => next = next.max(at + 1),
            None => {
                folders.insert(next, folder);
                next += 1;
            }
        }
    }
    std::env::join_paths(folders).unwrap_or_else(|_| wanted.to_owned())
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
    fn profiles_that_forget_the_path_are_known() {
        let debian =
            "if [ x ]; then\n  PATH=\"/usr/bin:/bin\"\nelse\n  PATH=/bin\nfi\nexport PATH\n";
        let alpine = "export PATH=\"/usr/local/sbin:/usr/bin\"\n";
        let fedora = "pathmunge () {\n  PATH=$PATH:$1\n PATH=$1:\"${PATH}\"\n}\n";
        assert!(sets_path_anew(debian) && sets_path_anew(alpine));
        assert!(!sets_path_anew(fedora) && !sets_path_anew(": \"${PATH:=/bin}\"\nexport PATH\n"));
    }

    #[test]
    fn what_the_image_had_in_front_is_in_front_again() {
        let merged = |found: &str, wanted: &str| merge(OsStr::new(found), OsStr::new(wanted));
        let image = "/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin:/run/loom/tools";
        assert_eq!(
            merged("/usr/local/bin:/usr/bin:/bin:/usr/games", image),
            "/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin:/run/loom/tools:/usr/games"
        );
        assert_eq!(merged("/home/bin:/usr/bin", "/usr/bin:/x"), "/home/bin:/usr/bin:/x");
        assert_eq!(merged("", "/a::/b"), "/a:/b");
        assert_eq!(merged("/b:/a", "/a:/b"), "/b:/a");
    }

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
