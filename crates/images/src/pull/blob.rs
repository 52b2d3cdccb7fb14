//! One blob: it goes on where it was cut off, and is what it is called.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use oci_client::client::BlobResponse;
use oci_client::manifest::OciDescriptor;
use sha2::{Digest as _, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{Session, trouble};
use crate::digest::Digest;
use crate::error::{Doing, Error, Result};

/// How often a download may break off without anything having come.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// What a manifest says of a blob.
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    descriptor: OciDescriptor,
}

/// A blob on its way: the file, and the hash of what it holds.
struct Part {
    file: File,
    hash: Sha256,
    have: u64,
}

impl Blob {
    pub(super) fn new(descriptor: &OciDescriptor) -> Result<Self> {
        let digest = descriptor.digest.parse().map_err(Error::Unsupported)?;
        let size = u64::try_from(descriptor.size)
            .map_err(|_| Error::Unsupported("a blob has less than no bytes".to_owned()))?;
        let mut descriptor = descriptor.clone();
        // Other places that a manifest names are never asked.
        descriptor.urls = None;
        Ok(Self { digest, size, descriptor })
    }

    /// Brings it here, unless it is; `report` is told how many bytes more, or less, there are.
    pub(super) async fn bring(
        &self,
        session: &Session<'_>,
        report: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<()> {
        let whole = session.images.store.blob(&self.digest);
        // Of two who want the same the second finds it here.
        let _held = session.images.locks.hold(&self.digest.hex()).await;
        if whole.exists() {
            report(self.size.cast_signed());
            return Ok(());
        }
        let path = whole.with_extension("part");
        let mut part = Part::open(&path, self.size).await?;
        report(part.have.cast_signed());
        let mut in_vain = 0;
        while part.have < self.size {
            let before = part.have;
            let Err(error) = self.go_on(session, &mut part, report).await else { continue };
            in_vain = if part.have > before { 0 } else { in_vain + 1 };
            if !matches!(error, Error::Unreachable { .. }) || in_vain == TRIES {
                return Err(error);
            }
            tokio::time::sleep(PAUSE * (1 << in_vain)).await;
        }
        self.check(part, &path).await?;
        tokio::fs::rename(&path, &whole).await.doing(|| "keeping a layer".to_owned())
    }

    /// Takes what comes until it ends or breaks off.
    async fn go_on(
        &self,
        session: &Session<'_>,
        part: &mut Part,
        report: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<()> {
        let mut stream = self.open(session, part, report).await?;
        let registry = session.reference.registry();
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(|error| trouble::cut(registry, &error))?;
            if part.have + bytes.len() as u64 > self.size {
                return Err(self.lies("more bytes come than it is said to have"));
            }
            part.add(&bytes).await?;
            report(bytes.len() as i64);
        }
        match part.have == self.size {
            true => Ok(()),
            false => Err(trouble::cut(registry, &"the download broke off")),
        }
    }

    async fn open(
        &self,
        session: &Session<'_>,
        part: &mut Part,
        report: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<BoxStream<'static, std::io::Result<bytes::Bytes>>> {
        let (client, reference) = (&session.client, &session.reference);
        let failed = |error| trouble::read(reference, error);
        if part.have > 0 {
            let asked =
                client.pull_blob_stream_partial(reference, &self.descriptor, part.have, None);
            match asked.await.map_err(failed)? {
                BlobResponse::Partial(rest) => return Ok(rest.stream),
                BlobResponse::Full(all) => {
                    report(-part.have.cast_signed());
                    part.begin_again().await?;
                    return Ok(all.stream);
                }
            }
        }
        let all = client.pull_blob_stream(reference, &self.descriptor).await.map_err(failed)?;
        Ok(all.stream)
    }

    async fn check(&self, mut part: Part, path: &Path) -> Result<()> {
        // Its name says what it holds, also after a loss of power.
        let keeping = || "keeping a layer".to_owned();
        part.file.flush().await.doing(keeping)?;
        part.file.sync_data().await.doing(keeping)?;
        if Digest::of(&part.hash.finalize()) == self.digest {
            return Ok(());
        }
        tokio::fs::remove_file(path).await.doing(|| "removing a wrong layer".to_owned())?;
        Err(self.lies("its bytes have another digest"))
    }

    fn lies(&self, why: &str) -> Error {
        Error::Lies { what: self.digest.to_string(), why: why.to_owned() }
    }
}

impl Part {
    /// Opens what has come so far.
    async fn open(path: &Path, size: u64) -> Result<Self> {
        let opening = || "opening a layer".to_owned();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).await.doing(opening)?;
        let mut part = Self { file, hash: Sha256::new(), have: 0 };
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = part.file.read(&mut buffer).await.doing(opening)?;
            if count == 0 {
                break;
            }
            part.hash.update(&buffer[..count]);
            part.have += count as u64;
        }
        if part.have > size {
            part.begin_again().await?;
        }
        Ok(part)
    }

    async fn begin_again(&mut self) -> Result<()> {
        let again = || "beginning a layer again".to_owned();
        self.file.set_len(0).await.doing(again)?;
        self.file.seek(SeekFrom::Start(0)).await.doing(again)?;
        (self.hash, self.have) = (Sha256::new(), 0);
        Ok(())
    }

    async fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).await.doing(|| "writing a layer".to_owned())?;
        self.hash.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }
}
