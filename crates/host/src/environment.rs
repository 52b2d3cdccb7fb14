//! What the program finds around it: variables and folders.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Access;

use crate::passwd::Entry;

/// Where work is done, unless `LOOM_HOST_WORKSPACE` says otherwise.
const WORKSPACE: &str = "/workspace";
/// Where programs are when nobody says so.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's variables, completed.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) path: OsString,
    pub(crate) home: PathBuf,
    pub(crate) entry: Option<Entry>,
}

impl Environment {
    pub(crate) fn new(entry: Option<Entry>) -> Self {
        let listed = entry.as_ref().map(|entry| entry.home.clone());
        let homes = env::var_os("HOME").map(PathBuf::from).into_iter().chain(listed);
        let home = homes.into_iter().find(|home| is_writable(home));
        let tools = env::current_exe().ok().and_then(|file| Some(file.parent()?.to_owned()));
        let path = env::var_os("PATH").filter(|path| !path.is_empty());
        Self {
            path: with_tools(path.as_deref().unwrap_or(OsStr::new(PATH)), tools.as_deref()),
            home: home.unwrap_or_else(|| PathBuf::from("/")),
            entry,
        }
    }

    /// Gives the container's variables to a program, and what is missing of the usual ones.
    pub(crate) fn give(&self, command: &mut Command) {
        command.env("PATH", &self.path).env("HOME", &self.home);
        command.env_remove(crate::SOCKET_ENV).env_remove("LOOM_HOST_WORKSPACE");
        let name = self.entry.as_ref().map_or("user", |entry| entry.name.as_str());
        for (key, value) in [("TERM", "xterm-256color"), ("USER", name), ("LOGNAME", name)] {
            if env::var_os(key).is_none() {
                command.env(key, value);
            }
        }
    }

    /// Returns the folder where work is done, made if need be; else HOME, else `/`.
    pub(crate) fn workspace(&self) -> PathBuf {
        let folder = env::var_os("LOOM_HOST_WORKSPACE").unwrap_or_else(|| WORKSPACE.into());
        usable(Path::new(&folder)).unwrap_or_else(|| self.fallback())
    }

    /// Returns where a program starts when its folder cannot be.
    pub(crate) fn fallback(&self) -> PathBuf {
        usable(&self.home).unwrap_or_else(|| PathBuf::from("/"))
    }
}

/// Returns the folder if a program can start there; makes it if it is not there.
pub(crate) fn usable(folder: &Path) -> Option<PathBuf> {
    let _ = std::fs::create_dir_all(folder);
    let enter = folder.is_dir() && rustix::fs::access(folder, Access::EXEC_OK).is_ok();
    enter.then(|| folder.to_owned())
}

fn is_writable(folder: &Path) -> bool {
    folder.is_dir() && rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

fn with_tools(path: &OsStr, tools: Option<&Path>) -> OsString {
    let Some(tools) = tools else { return path.to_owned() };
    let mut folders: Vec<PathBuf> = env::split_paths(path).collect();
    if !folders.iter().any(|folder| folder == tools) {
        folders.push(tools.to_owned());
    }
    // A folder with a colon in its name cannot be in PATH.
    env::join_paths(folders).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_come_last_and_once() {
        let tools = Some(Path::new("/run/loom/tools"));
        assert_eq!(with_tools(OsStr::new("/bin:/x"), tools), "/bin:/x:/run/loom/tools");
        let twice = with_tools(OsStr::new("/run/loom/tools:/bin"), tools);
        assert_eq!(twice, "/run/loom/tools:/bin");
        assert_eq!(with_tools(OsStr::new("/bin"), Some(Path::new("/a:b"))), "/bin");
    }
}
