//! What is kept between two commands: contexts, the weaver last used, and where all that lies.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Doing, Failure};

/// Under which name this machine is remembered.
pub(crate) const LOCAL: &str = "local";

/// The folders of this user.
#[derive(Debug, Clone)]
pub(crate) struct Dirs {
    /// Contexts and the last id.
    pub(crate) config: PathBuf,
    /// The local cluster: objects, pods, token, log.
    pub(crate) state: PathBuf,
}

impl Dirs {
    /// Reads `LOOM_CONFIG_DIR` and `LOOM_STATE_DIR`, else the usual places.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let config = folder("LOOM_CONFIG_DIR", || in_home("XDG_CONFIG_HOME", ".config"))?;
        let state = folder("LOOM_STATE_DIR", || {
            if rustix::process::geteuid().is_root() {
                return Some(PathBuf::from("/var/lib/loom"));
            }
            in_home("XDG_DATA_HOME", ".local/share")
        })?;
        Ok(Self { config, state })
    }
}

fn folder(variable: &str, usual: impl Fn() -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    let named = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let Some(path) = named.or_else(usual) else {
        return Err(Failure::new("HOME is not set").next(format!("set HOME or {variable}")));
    };
    std::path::absolute(&path).doing(path.display())
}

fn in_home(variable: &str, below: &str) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set(variable).filter(|path| path.is_absolute());
    // Started by a service manager, root has no HOME.
    let root = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/root"));
    let home = || set("HOME").or_else(root).map(|home| home.join(below));
    Some(base.or_else(home)?.join("loom"))
}

/// `config.json`: the servers that are known and which of them is meant without a flag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// The name of the context that is used when nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// The contexts by name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Context {
    /// This machine.
    Local,
    /// A server by its URL; the token lies in a file of its own.
    Server {
        /// Where it is.
        url: String,
        /// File with the token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_file: Option<PathBuf>,
    },
}

impl Config {
    pub(crate) fn read(dirs: &Dirs) -> Result<Self, Failure> {
        read_json(&dirs.config.join("config.json")).map(Option::unwrap_or_default)
    }

    /// Makes `local` current unless something else is; returns whether that changed anything.
    pub(crate) fn adopt_local(dirs: &Dirs) -> Result<bool, Failure> {
        let mut config = Self::read(dirs)?;
        if config.current.is_some() {
            return Ok(false);
        }
        config.current = Some(LOCAL.to_owned());
        config.contexts.insert(LOCAL.to_owned(), Context::Local);
        config.write(dirs)?;
        Ok(true)
    }

    /// Forgets this machine, when its cluster is gone for good.
    pub(crate) fn forget_local(dirs: &Dirs) -> Result<(), Failure> {
        let mut config = Self::read(dirs)?;
        if config.contexts.remove(LOCAL).is_some() {
            config.current.take_if(|current| current == LOCAL);
            config.write(dirs)?;
        }
        Memory::forget(dirs, LOCAL)
    }

    fn write(&self, dirs: &Dirs) -> Result<(), Failure> {
        write_json(&dirs.config.join("config.json"), self)
    }

    /// Returns the current context.
    pub(crate) fn current(&self) -> Result<Option<&Context>, Failure> {
        let Some(name) = &self.current else { return Ok(None) };
        let missing = || {
            Failure::new(format!("the current context {name:?} is not in config.json"))
                .next("pass --server-url or --local")
        };
        self.contexts.get(name).map(Some).ok_or_else(missing)
    }
}

/// `last.json`: per server, the weavers used last and what was said once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Memory(BTreeMap<String, Remembered>);

/// What is remembered of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The weavers used last, the last one first, without those that were deleted from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) used: Vec<String>,
    /// The one used last, if it was deleted from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted: Option<String>,
    /// Warnings that were shown already; `None` before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) said: Option<Vec<String>>,
}

/// How many weavers are remembered.
const MAX_USED: usize = 8;

impl Remembered {
    /// Makes a weaver the one used last.
    pub(crate) fn uses(&mut self, id: &str) {
        self.used.retain(|known| known != id);
        self.used.insert(0, id.to_owned());
        self.used.truncate(MAX_USED);
        self.deleted = None;
    }

    /// Forgets a weaver that is deleted.
    pub(crate) fn deletes(&mut self, id: &str) {
        if self.used.first().is_some_and(|last| last == id) {
            self.deleted = Some(id.to_owned());
        }
        self.used.retain(|known| known != id);
    }
}

impl Memory {
    /// Returns what is remembered of a server; a broken file is as good as none.
    pub(crate) fn of(dirs: &Dirs, server: &str) -> Remembered {
        let memory: Option<Self> = read_json(&dirs.config.join("last.json")).unwrap_or_default();
        memory.and_then(|mut memory| memory.0.remove(server)).unwrap_or_default()
    }

    /// Changes what is remembered of a server, writing only what is new.
    pub(crate) fn change(
        dirs: &Dirs,
        server: &str,
        change: impl FnOnce(&mut Remembered),
    ) -> Result<(), Failure> {
        let path = dirs.config.join("last.json");
        let mut memory: Self = read_json(&path).unwrap_or_default().unwrap_or_default();
        let entry = memory.0.entry(server.to_owned()).or_default();
        let before = entry.clone();
        change(entry);
        if *entry == before { Ok(()) } else { write_json(&path, &memory) }
    }

    /// Forgets everything about a server.
    pub(crate) fn forget(dirs: &Dirs, server: &str) -> Result<(), Failure> {
        let path = dirs.config.join("last.json");
        let memory: Option<Self> = read_json(&path).unwrap_or_default();
        let Some(mut memory) = memory else { return Ok(()) };
        match memory.0.remove(server) {
            Some(_) => write_json(&path, &memory),
            None => Ok(()),
        }
    }
}

/// Reads a JSON file; `None` when it is not there.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).doing(path.display()),
    };
    let broken = format!("{} cannot be read, repair or remove it", path.display());
    serde_json::from_slice(&bytes).map(Some).doing(broken)
}

/// Replaces a JSON file as a whole, readable by its owner only.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut bytes = serde_json::to_vec_pretty(value).doing(path.display())?;
    bytes.push(b'\n');
    write_private(path, &bytes)
}

/// Replaces a file as a whole: 0600, in a folder made 0700.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        make_private(folder)?;
    }
    let next = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(bytes)?;
        fs::rename(&next, path)
    };
    write().doing(path.display())
}

/// Makes a folder that only its owner may enter.
pub(crate) fn make_private(folder: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).doing(folder.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn dirs(folder: &tempfile::TempDir) -> Dirs {
        Dirs { config: folder.path().join("c"), state: folder.path().join("s") }
    }

    #[test]
    fn local_becomes_current_once() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(&folder);
        assert_eq!(Config::read(&dirs).unwrap(), Config::default());
        assert!(Config::adopt_local(&dirs).unwrap());
        assert!(!Config::adopt_local(&dirs).unwrap());
        assert_eq!(Config::read(&dirs).unwrap().current().unwrap(), Some(&Context::Local));
        Config::forget_local(&dirs).unwrap();
        assert_eq!(Config::read(&dirs).unwrap(), Config::default());
    }

    #[test]
    fn local_does_not_push_a_server_aside() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(&folder);
        let server = Context::Server { url: "https://a".into(), token_file: None };
        let contexts = BTreeMap::from([("a".to_owned(), server.clone())]);
        Config { current: Some("a".into()), contexts }.write(&dirs).unwrap();
        assert!(!Config::adopt_local(&dirs).unwrap());
        assert_eq!(Config::read(&dirs).unwrap().current().unwrap(), Some(&server));
    }

    #[test]
    fn files_are_their_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(&folder);
        Memory::change(&dirs, "local", |entry| entry.uses("W-1")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dirs.config), 0o700);
        assert_eq!(mode(&dirs.config.join("last.json")), 0o600);
        assert_eq!(Memory::of(&dirs, "local").used, ["W-1"]);
        assert_eq!(Memory::of(&dirs, "other"), Remembered::default());
        Memory::forget(&dirs, "local").unwrap();
        assert_eq!(Memory::of(&dirs, "local"), Remembered::default());
    }

    #[test]
    fn the_last_one_used_and_those_before() {
        let mut entry = Remembered::default();
        for id in ["a", "b", "c", "a"] {
            entry.uses(id);
        }
        assert_eq!(entry.used, ["a", "c", "b"]);
        entry.deletes("c");
        assert_eq!((entry.used.join(""), entry.deleted.clone()), ("ab".into(), None));
        entry.deletes("a");
        assert_eq!((entry.used.join(""), entry.deleted.as_deref()), ("b".into(), Some("a")));
        entry.uses("b");
        assert_eq!(entry.deleted, None);
        (0..20).for_each(|id| entry.uses(&id.to_string()));
        assert_eq!((entry.used.len(), entry.used[0].as_str()), (MAX_USED, "19"));
    }

    #[test]
    fn a_broken_config_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = dirs(&folder);
        write_private(&dirs.config.join("config.json"), b"{").unwrap();
        assert!(Config::read(&dirs).unwrap_err().to_string().contains("config.json"));
        write_private(&dirs.config.join("last.json"), b"{").unwrap();
        assert_eq!(Memory::of(&dirs, "local"), Remembered::default());
    }
}
