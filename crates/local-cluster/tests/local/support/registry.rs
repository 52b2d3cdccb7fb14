//! A folder that stands for registries: what tests put there the daemon can pull.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;
use local_cluster::{Credentials, ImageSource, OnProgress, PullError, UnpackedImage};
use serde_json::{Value, json};

/// Where its images are from.
const HOST: &str = "registry.test";

/// The folder, as tests and as the daemon see it.
#[derive(Debug, Clone)]
pub(crate) struct Registry(PathBuf);

impl Registry {
    pub(crate) fn of(state_dir: &Path) -> Self {
        let folder = state_dir.join("registry");
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Puts an image there, of small files; returns its reference.
    pub(crate) fn push(&self, name: &str, config: &Value, files: &[(&str, &str)]) -> String {
        let image = self.0.join(name);
        for (path, content) in files {
            let path = image.join("rootfs").join(path);
            let above = path.parent().unwrap();
            fs::create_dir_all(above).unwrap();
            fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
            fs::write(path, content).unwrap();
        }
        symlink("../../../../etc", image.join("rootfs/away")).unwrap();
        fs::write(image.join("config"), config.to_string()).unwrap();
        format!("{HOST}/{name}")
    }

    /// Lets nobody in but this user.
    pub(crate) fn lock(&self, user: &str, password: &str) {
        let login = json!({"username": user, "password": password});
        fs::write(self.0.join("login"), login.to_string()).unwrap();
    }

    /// Makes it answer nothing, or again.
    pub(crate) fn set_broken(&self, broken: bool) {
        let marker = self.0.join("broken");
        if broken { fs::write(marker, "") } else { fs::remove_file(marker) }.unwrap();
    }

    /// Returns how often it was asked.
    pub(crate) fn asked(&self) -> usize {
        fs::read_dir(&self.0).unwrap().flatten().filter(is_question).count()
    }

    fn answer(
        &self,
        reference: &str,
        credentials: &[Credentials],
    ) -> Result<UnpackedImage, PullError> {
        fs::write(self.0.join(format!("asked-{}", uuid::Uuid::new_v4())), reference).unwrap();
        let failed = |why: &str| Err(PullError::Failed(format!("{reference}: {why}")));
        if reference.starts_with("127.0.0.1:1/") {
            return failed("connection refused");
        }
        if self.0.join("broken").exists() {
            return failed("503 Service Unavailable");
        }
        if fs::read(self.0.join("login")).is_ok_and(|login| !is_among(&login, credentials)) {
            return failed("401 Unauthorized");
        }
        let Some(name) = reference.strip_prefix(HOST) else { return failed("not found") };
        match fs::write(self.0.join(&name[1..]).join("here"), "") {
            Ok(()) => self.here(reference).ok_or(PullError::Name("odd".into())),
            Err(_) => failed("not found"),
        }
    }

    fn here(&self, reference: &str) -> Option<UnpackedImage> {
        let folder = self.0.join(reference.strip_prefix(HOST)?.strip_prefix('/')?);
        let config: Value = serde_json::from_slice(&fs::read(folder.join("config")).ok()?).unwrap();
        if !folder.join("here").exists() {
            return None;
        }
        let words = |name: &str| -> Vec<String> {
            let words = config[name].as_array().into_iter().flatten();
            words.map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let pair = |text: String| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        let repository = reference.rsplit_once(':').map_or(reference, |(name, _)| name);
        Some(UnpackedImage {
            name: reference.to_owned(),
            id: format!("{repository}@sha256:{}", "0".repeat(64)),
            rootfs: folder.join("rootfs"),
            size: 1234,
            env: words("Env").into_iter().filter_map(pair).collect(),
            user: text("User"),
            working_dir: text("WorkingDir"),
            entrypoint: words("Entrypoint"),
            cmd: words("Cmd"),
        })
    }
}

fn is_question(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with("asked-")
}

/// Whether a secret of either kind holds the login.
fn is_among(login: &[u8], credentials: &[Credentials]) -> bool {
    let login: Value = serde_json::from_slice(login).unwrap();
    credentials.iter().any(|given| {
        let auths = match given {
            Credentials::DockerConfig(config) => {
                serde_json::from_slice::<Value>(config).unwrap()["auths"].clone()
            }
            Credentials::DockerCfg(auths) => serde_json::from_slice(auths).unwrap(),
        };
        auths[HOST] == login
    })
}

impl ImageSource for Registry {
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Option<UnpackedImage>> {
        async { self.here(reference) }.boxed()
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credentials: &'a [Credentials],
        progress: OnProgress<'a>,
    ) -> BoxFuture<'a, Result<UnpackedImage, PullError>> {
        match reference.ends_with("/slow:1") {
            true => {
                progress(34 << 20, 120 << 20);
                std::future::pending().boxed()
            }
            false => async { self.answer(reference, credentials) }.boxed(),
        }
    }
}
