//! Where images come from that are not of this machine: the one who starts the cluster knows.
//!
//! A registry, a file, a cache: here it is only known what a pod needs of an image.

use std::fmt::Debug;
use std::path::PathBuf;

use futures::future::BoxFuture;

/// Brings images here. All that it returns must stay as it is while pods use it: see
/// [`pod_runtime::Runtime::rootfs_in_use`].
pub trait ImageSource: Debug + Send + Sync {
    /// Returns an image that is here, without asking anybody.
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Option<UnpackedImage>>;

    /// Brings an image here, the newest of its name, and says how far that is. Dropped, it stops.
    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credentials: &'a [Credentials],
        progress: OnProgress<'a>,
    ) -> BoxFuture<'a, Result<UnpackedImage, PullError>>;
}

/// Is told how many bytes of how many are here.
pub type OnProgress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// An image that is here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnpackedImage {
    /// Its whole name, e.g. `docker.io/library/debian:12`.
    pub name: String,
    /// Its name by digest, e.g. `docker.io/library/debian@sha256:…`.
    pub id: String,
    /// Its files, never changed: see [`pod_runtime::spec::Image::Rootfs`].
    pub rootfs: PathBuf,
    /// Bytes that it takes in its registry.
    pub size: u64,
    /// Variables, in order.
    pub env: Vec<(String, String)>,
    /// `USER[:GROUP]`, each a name or a number; empty is root.
    pub user: String,
    /// Where its program starts; empty is the root.
    pub working_dir: String,
    /// Its program, with arguments that are always there.
    pub entrypoint: Vec<String>,
    /// Arguments when none are given; a program where there is no entry point.
    pub cmd: Vec<String>,
}

/// What a pod's secret says to registries, as docker writes it.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A `config.json`.
    DockerConfig(Vec<u8>),
    /// The content of `auths` alone, as old versions wrote it.
    DockerCfg(Vec<u8>),
}

impl Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

/// Why an image was not brought.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// Its name means nothing.
    #[error("{0}")]
    Name(String),
    /// In the words of the registry or of the network; it may be asked again.
    #[error("{0}")]
    Failed(String),
}
