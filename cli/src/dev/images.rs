//! The local cluster's images: kept in its state folder, fetched from registries or loaded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use images::unpack::Ownership;
use images::{Image, Images, InProcess, Login, Unpack};
use local_cluster::{Credentials, ImageSource, OnProgress, PullError, UnpackedImage};

use super::keychain;
use super::owners::AsSubordinate;
use crate::config::Dirs;
use crate::failure::{Doing, Failure};

/// Hosts that are asked instead of others: `docker.io=mirror.example,…`.
const MIRRORS: &str = "LOOM_REGISTRY_MIRROR";

/// Opens the images of this user.
pub(crate) fn open(dirs: &Dirs) -> Result<Images, Failure> {
    let mut config = images::Config::new(folder(dirs), unpack());
    config.mirrors = mirrors(&std::env::var(MIRRORS).unwrap_or_default())?;
    Images::open(config).doing("cannot open the images")
}

/// Removes all images, also what is left of them; nobody may be using any.
pub(crate) fn remove_all(dirs: &Dirs) -> Result<(), Failure> {
    unpack().remove(&folder(dirs)).doing("cannot remove the images")
}

fn folder(dirs: &Dirs) -> PathBuf {
    dirs.state.join("images")
}

fn unpack() -> Arc<dyn Unpack> {
    // Only root can give files to others.
    if rustix::process::geteuid().is_root() {
        return Arc::new(InProcess(Ownership::Real));
    }
    Arc::new(AsSubordinate::default())
}

fn mirrors(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |word: &str| {
        let (from, to) = word.split_once('=').ok_or_else(|| {
            Failure::usage(format!("{MIRRORS}: {word:?} is not like docker.io=mirror.example"))
        })?;
        Ok((from.trim().to_owned(), to.trim().to_owned()))
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(pair).collect()
}

/// Where the local cluster's kubelet has images from.
pub(super) struct Source {
    images: Images,
    /// What docker knows of registries, read again for each image.
    docker: Option<PathBuf>,
}

impl Source {
    pub(super) fn open(dirs: &Dirs) -> Result<Self, Failure> {
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
        let docker = folder.or_else(home).map(|folder| folder.join("config.json"));
        Ok(Self { images: open(dirs)?, docker })
    }

    /// What a pod's secrets say comes before what docker knows, and helpers are asked at last.
    async fn logins(&self, reference: &str, credentials: &[Credentials]) -> Vec<Login> {
        let given = credentials.iter().flat_map(|given| match given {
            Credentials::DockerConfig(json) => Login::of_docker_config(json),
            Credentials::DockerCfg(json) => Login::of_docker_cfg(json),
        });
        let mut logins: Vec<_> = given.collect();
        let own = self.docker.as_ref().and_then(|path| std::fs::read(path).ok());
        if let (Some(config), Some(host)) = (own, images::registry_of(reference)) {
            logins.extend(Login::of_docker_config(&config));
            logins.extend(keychain::ask(config, host).await);
        }
        logins
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("docker", &self.docker).finish_non_exhaustive()
    }
}

impl ImageSource for Source {
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Option<UnpackedImage>> {
        async { self.images.find(reference).map(unpacked) }.boxed()
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credentials: &'a [Credentials],
        progress: OnProgress<'a>,
    ) -> BoxFuture<'a, Result<UnpackedImage, PullError>> {
        async move {
            let logins = self.logins(reference, credentials).await;
            let report = |so_far: images::Progress| progress(so_far.done, so_far.total);
            let pulled = self.images.pull(reference, &logins, report).await;
            pulled.map(unpacked).map_err(|error| match error {
                images::Error::Name { why, .. } => PullError::Name(why),
                other => PullError::Failed(other.to_string()),
            })
        }
        .boxed()
    }
}

fn unpacked(image: Image) -> UnpackedImage {
    let Image { name, id, rootfs, size, config, .. } = image;
    let images::ImageConfig { env, user, workdir: working_dir, entrypoint, cmd } = config;
    UnpackedImage { name, id, rootfs, size, env, user, working_dir, entrypoint, cmd }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_pairs() {
        let read = mirrors("docker.io=mirror.example:5000, ghcr.io=m2,").unwrap();
        assert_eq!(read["docker.io"], "mirror.example:5000");
        assert_eq!(read["ghcr.io"], "m2");
        assert!(mirrors("").unwrap().is_empty() && mirrors("docker.io").is_err());
    }
}
