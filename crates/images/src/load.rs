//! Images from files: `docker save` archives and OCI layouts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_client::Reference;
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::{Doing, Error, Result};
use crate::image::{Image, ImageConfig, architecture};
use crate::parse;
use crate::store::{Record, Store};
use crate::unpack::{self, Bounds, Ownership};

/// The longest of the documents that describe an archive.
const MOST_JSON: u64 = 8 << 20;
/// How deep lists of images may hold lists of images.
const DEEPEST: usize = 3;
/// Where `docker save` and others write the whole name.
const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub(crate) fn load(
    store: &Store,
    bounds: Bounds,
    path: &Path,
    name: Option<&Reference>,
) -> Result<Vec<Image>> {
    let opening = || format!("opening {}", path.display());
    if path.metadata().doing(opening)?.is_dir() {
        return Loading { store, folder: open(path)?, name }.all();
    }
    let aside = tempfile::Builder::new().prefix(".load-").tempdir_in(store.dir()).doing(opening)?;
    let inside = aside.path().join("archive");
    std::fs::create_dir(&inside).doing(opening)?;
    unpack::flatten(&[path.to_owned()], &inside, Ownership::Flat, bounds).map_err(|error| {
        match error {
            Error::Unsupported(why) => Error::Unsupported(format!("{}: {why}", path.display())),
            other => other,
        }
    })?;
    let images = Loading { store, folder: open(&inside)?, name }.all();
    aside.close().doing(|| "removing what was unpacked".to_owned())?;
    images
}

fn open(folder: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).doing(|| format!("opening {}", folder.display()))
}

/// A folder that holds images.
struct Loading<'a> {
    store: &'a Store,
    folder: OwnedFd,
    name: Option<&'a Reference>,
}

/// An entry of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<OciDescriptor>,
}

impl Loading<'_> {
    fn all(&self) -> Result<Vec<Image>> {
        if let Some(json) = self.read("manifest.json".as_ref())? {
            let saved: Vec<Saved> = parsed("manifest.json", &json)?;
            return self.flat(saved.iter().map(|saved| self.saved(saved)));
        }
        let Some(json) = self.read("index.json".as_ref())? else {
            let why = "is neither a `docker save` archive nor an OCI layout: it holds no \
                       manifest.json and no index.json";
            return Err(Error::Unsupported(why.to_owned()));
        };
        let index: Index = parsed("index.json", &json)?;
        self.flat(index.manifests.iter().map(|descriptor| self.described(descriptor)))
    }

    fn flat(&self, images: impl Iterator<Item = Result<Vec<Image>>>) -> Result<Vec<Image>> {
        let images: Vec<_> = images.collect::<Result<Vec<_>>>()?.concat();
        match images.is_empty() {
            true => Err(Error::Unsupported("it holds no image".to_owned())),
            false => Ok(images),
        }
    }

    /// Takes an image that `docker save` describes. It has no manifest, so its configuration is
    /// what it is known by, as docker does.
    fn saved(&self, saved: &Saved) -> Result<Vec<Image>> {
        let (config, _) = self.take(&saved.config)?;
        let layers: Vec<_> =
            saved.layers.iter().map(|layer| self.take(layer)).collect::<Result<_>>()?;
        let names = saved.repo_tags.iter().flatten().map(|name| parse(name));
        self.keep(&config, &config, layers, names.collect::<Result<_>>()?)
    }

    fn described(&self, descriptor: &OciDescriptor) -> Result<Vec<Image>> {
        let (digest, manifest) = self.manifest(descriptor, 0)?;
        let annotations = descriptor.annotations.iter().flatten();
        let named = |key: &str| {
            let mut found = annotations.clone().filter(|(name, _)| *name == key);
            found.next().map(|(_, value)| value.as_str())
        };
        // Of an OCI layout the second is often no more than a tag.
        let whole = named(NAME).or(named(REF_NAME).filter(|name| name.contains(['/', ':'])));
        let names = whole.map(parse).transpose()?.into_iter().collect();
        let (config, _) = self.take_called(&manifest.config.digest)?;
        let layers = manifest.layers.iter().map(|layer| self.take_called(&layer.digest));
        self.keep(&digest, &config, layers.collect::<Result<_>>()?, names)
    }

    /// Reads a manifest; of a list of them, that for this machine.
    fn manifest(&self, at: &OciDescriptor, depth: usize) -> Result<(Digest, OciImageManifest)> {
        let digest: Digest = at.digest.parse().map_err(Error::Unsupported)?;
        let missing = || Error::Unsupported(format!("it lacks {digest}"));
        let json = self.read(&place(&digest))?.ok_or_else(missing)?;
        if Digest::of(&Sha256::digest(&json)) != digest {
            return Err(lies(&digest));
        }
        match parsed("its manifest", &json)? {
            OciManifest::Image(manifest) => Ok((digest, manifest)),
            OciManifest::ImageIndex(index) if depth < DEEPEST => {
                let ours = index.manifests.iter().find(|entry| {
                    entry.platform.as_ref().is_some_and(|platform| {
                        platform.os.to_string() == "linux"
                            && platform.architecture.to_string() == architecture()
                    })
                });
                let ours = ours.ok_or_else(|| Error::NoPlatform(digest.to_string()))?;
                let at = OciDescriptor { digest: ours.digest.clone(), ..OciDescriptor::default() };
                self.manifest(&at, depth + 1)
            }
            OciManifest::ImageIndex(_) => {
                Err(Error::Unsupported("its lists hold lists without end".to_owned()))
            }
        }
    }

    fn keep(
        &self,
        digest: &Digest,
        config: &Digest,
        layers: Vec<(Digest, u64)>,
        mut names: Vec<Reference>,
    ) -> Result<Vec<Image>> {
        if let Some(name) = self.name {
            names = vec![name.clone()];
        }
        if names.is_empty() {
            let why = "it does not say how it is called: say it behind the file";
            return Err(Error::Unsupported(why.to_owned()));
        }
        let reading = || "reading its configuration".to_owned();
        let json = std::fs::read(self.store.blob(config)).doing(reading)?;
        let config = ImageConfig::read(&json)
            .map_err(|error| Error::Unsupported(format!("its configuration: {error}")))?
            .ok_or_else(|| Error::NoPlatform(names[0].whole()))?;
        let size = layers.iter().map(|(_, size)| size).sum();
        let layers = layers.into_iter().map(|(digest, _)| digest).collect();
        self.store.keep(digest, &Record { config, layers, size })?;
        names.iter().map(|name| self.store.call(&name.whole(), digest)).collect()
    }

    /// Takes a blob that must be what it is called.
    fn take_called(&self, digest: &str) -> Result<(Digest, u64)> {
        let digest: Digest = digest.parse().map_err(Error::Unsupported)?;
        let taken = self.take(&place(&digest))?;
        if taken.0 != digest {
            std::fs::remove_file(self.store.blob(&taken.0)).ok();
            return Err(lies(&digest));
        }
        Ok(taken)
    }

    /// Copies a file to where blobs are; returns what it is called there and its bytes.
    fn take(&self, path: &Path) -> Result<(Digest, u64)> {
        let taking = || format!("reading {} of the archive", path.display());
        let mut from = self.open(path).doing(taking)?;
        let mut to = tempfile::NamedTempFile::new_in(self.store.dir()).doing(taking)?;
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = from.read(&mut buffer).doing(taking)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            to.write_all(&buffer[..count]).doing(taking)?;
            size += count as u64;
        }
        let digest = Digest::of(&hash.finalize());
        to.persist(self.store.blob(&digest)).map_err(|error| error.error).doing(taking)?;
        Ok((digest, size))
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let reading = || format!("reading {} of the archive", path.display());
        let file = match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.doing(reading)?,
        };
        let mut bytes = Vec::new();
        file.take(MOST_JSON + 1).read_to_end(&mut bytes).doing(reading)?;
        match bytes.len() as u64 > MOST_JSON {
            true => Err(Error::TooLarge(format!("{} is", path.display()))),
            false => Ok(Some(bytes)),
        }
    }

    /// Opens a plain file of the archive; links lead to places of the archive.
    fn open(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file =
            File::from(rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), resolve)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn place(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}

fn parsed<T: for<'de> Deserialize<'de>>(what: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::Unsupported(format!("{what}: {error}")))
}

fn lies(digest: &Digest) -> Error {
    let why = "its bytes have another digest".to_owned();
    Error::Lies { what: digest.to_string(), why }
}
