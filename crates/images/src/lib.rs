//! OCI images on this machine's disk: fetched, checked, unpacked, and found again.
//!
//! ```text
//! registry --pull--> blobs --unpack--> one folder an image <-- load -- docker save, OCI layout
//! ```
//!
//! Registries on this machine, `localhost` and loopback addresses, are spoken to without TLS; no
//! other is. What it is not: it mounts nothing, runs nothing and knows no pod. Nothing that an image or a
//! registry says makes it write outside its own folder.

mod digest;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod image;
mod load;
mod locks;
mod login;
mod pull;
mod store;
pub mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use error::{Error, Result};
pub use image::{Image, ImageConfig};
pub use login::Login;
pub use store::{InProcess, Unpack};

use error::Doing;
use locks::Locks;
use oci_client::Reference;
use store::Store;
use unpack::Bounds;

/// Where images are kept and come from.
#[derive(Clone)]
pub struct Config {
    /// The folder; it is made, for nobody else to read.
    pub dir: PathBuf,
    /// Hosts that are asked first instead of others: `docker.io` to `mirror.example`.
    pub mirrors: BTreeMap<String, String>,
    /// Who unpacks.
    pub unpack: Arc<dyn Unpack>,
    /// What an image may hold at most.
    pub bounds: Bounds,
    /// How long a registry may be silent.
    pub silence: Duration,
}

impl Config {
    /// Keeps images in `dir`, unpacked by `unpack`; they come from where their names say.
    #[must_use]
    pub fn new(dir: PathBuf, unpack: Arc<dyn Unpack>) -> Self {
        let mirrors = BTreeMap::new();
        let (bounds, silence) = (Bounds::default(), Duration::from_secs(30));
        Self { dir, mirrors, unpack, bounds, silence }
    }
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of layers that are here.
    pub done: u64,
    /// Bytes of all layers.
    pub total: u64,
}

/// Returns the registry that an image of this name is had from, and its port if it has one.
#[must_use]
pub fn registry_of(reference: &str) -> Option<String> {
    Some(parse(reference).ok()?.registry().to_owned())
}

/// The images of this machine.
#[derive(Clone)]
pub struct Images {
    config: Arc<Config>,
    store: Store,
    locks: Locks,
}

impl Images {
    /// Opens the folder, and removes what was half done when somebody was killed.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(config: Config) -> Result<Self> {
        let store = Store::open(&config.dir, config.unpack.clone(), config.bounds)?;
        Ok(Self { config: Arc::new(config), store, locks: Locks::default() })
    }

    /// Returns the image of this name, if it is here.
    #[must_use]
    pub fn find(&self, reference: &str) -> Option<Image> {
        self.store.find(&parse(reference).ok()?.whole())
    }

    /// Returns all images that are here, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Image> {
        self.store.list()
    }

    /// Fetches what a name stands for now; layers that are here are not fetched again. It may be
    /// dropped at any time and goes on where it was when it is called again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pull(
        &self,
        reference: &str,
        logins: &[Login],
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Image> {
        pull::pull(self, &parse(reference)?, logins, &progress).await
    }

    /// Takes the images of a `docker save` archive or of an OCI layout, a folder or an archive.
    /// `name` is for one that has none. It blocks.
    ///
    /// # Errors
    /// When it is neither, or not whole.
    pub fn load(&self, path: &Path, name: Option<&str>) -> Result<Vec<Image>> {
        let name = name.map(parse).transpose()?;
        load::load(&self.store, self.config.bounds, path, name.as_ref())
    }

    /// Removes all images but those whose files are `used`; returns how many bytes their layers
    /// had. It blocks. What is being pulled meanwhile may have to begin again.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn prune(&self, used: &BTreeSet<PathBuf>) -> Result<u64> {
        self.store.prune(used).doing(|| "removing images".to_owned())
    }
}

fn parse(reference: &str) -> Result<Reference> {
    let wrong = |why: String| Error::Name { reference: reference.chars().take(200).collect(), why };
    let parsed = reference.parse::<Reference>().map_err(|error| wrong(error.to_string()))?;
    // `UPPER/app` is taken as a part of Docker Hub, whose names have no such letters.
    match parsed.whole().parse::<Reference>() {
        Ok(whole) if whole == parsed => Ok(parsed),
        _ => Err(wrong("it is not written as names of images are".to_owned())),
    }
}
