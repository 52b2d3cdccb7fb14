//! From a registry to the store.

mod blob;
mod trouble;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use crate::digest::Digest;
use crate::error::{Doing, Error, Result};
use crate::image::{Image, ImageConfig};
use crate::login::Login;
use crate::store::Record;
use crate::unpack::Bounds;
use crate::{Images, Progress};
pub(crate) use blob::Blob;

const CONNECT: Duration = Duration::from_secs(10);
/// How many layers come at once.
const AT_ONCE: usize = 4;
/// The longest configuration.
const MOST_CONFIG: u64 = 8 << 20;
/// The most layers; Docker makes 127 at most.
pub(crate) const MOST_LAYERS: usize = 1000;

/// A registry as somebody may use it.
pub(crate) struct Session<'a> {
    images: &'a Images,
    client: Client,
    /// What is asked for, where it is asked for.
    reference: Reference,
}

pub(crate) async fn pull(
    images: &Images,
    reference: &Reference,
    logins: &[Login],
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Image> {
    let mut last = None;
    for place in places(images, reference) {
        match begin(images, place, logins).await {
            Ok((session, manifest, digest)) => {
                return session.fetch(&reference.whole(), &manifest, &digest, progress).await;
            }
            // What a mirror does not have or does not do is had from the registry itself.
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::NotFound(reference.whole())))
}

/// Returns where an image is looked for, in order.
fn places(images: &Images, reference: &Reference) -> Vec<Reference> {
    let mirror = images.config.mirrors.get(reference.registry()).map(|host| {
        let (host, repository) = (host.clone(), reference.repository().to_owned());
        match reference.digest() {
            Some(digest) => Reference::with_digest(host, repository, digest.to_owned()),
            None => {
                let tag = reference.tag().unwrap_or("latest").to_owned();
                Reference::with_tag(host, repository, tag)
            }
        }
    });
    mirror.into_iter().chain([reference.clone()]).collect()
}

/// Asks for the manifest as everybody who may be somebody there, at last as nobody.
async fn begin<'a>(
    images: &'a Images,
    reference: Reference,
    logins: &[Login],
) -> Result<(Session<'a>, OciImageManifest, String)> {
    let host = reference.registry();
    let known = logins.iter().filter(|login| login.is_for(host)).map(Login::auth);
    let mut refused = Error::Unauthorized(reference.whole());
    for auth in known.chain([RegistryAuth::Anonymous]) {
        let client = client(images, host);
        match client.pull_image_manifest(&reference, &auth).await {
            Ok((manifest, digest)) => {
                return Ok((Session { images, client, reference }, manifest, digest));
            }
            Err(error) => match trouble::read(&reference, error) {
                error @ Error::Unauthorized(_) => refused = error,
                other => return Err(other),
            },
        }
    }
    Err(refused)
}

fn client(images: &Images, host: &str) -> Client {
    let protocol = match is_loopback(host) {
        true => ClientProtocol::Http,
        false => ClientProtocol::Https,
    };
    Client::new(ClientConfig {
        protocol,
        read_timeout: Some(images.config.silence),
        connect_timeout: Some(CONNECT),
        user_agent: concat!("loom/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

/// Tells whether a host is this machine, so that nobody can listen to what is said to it.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl Session<'_> {
    async fn fetch(
        &self,
        name: &str,
        manifest: &OciImageManifest,
        digest: &str,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image> {
        let digest: Digest = digest.parse().map_err(Error::Unsupported)?;
        let store = &self.images.store;
        if !store.has(&digest) {
            let record = self.bring(manifest, progress).await?;
            let held = self.images.locks.hold(&format!("image {digest}")).await;
            let (store, digest) = (store.clone(), digest.clone());
            let kept = tokio::task::spawn_blocking(move || {
                let _held = held;
                store.keep(&digest, &record)
            });
            kept.await.map_err(std::io::Error::from).doing(|| "unpacking".to_owned())??;
        }
        store.call(name, &digest)
    }

    /// Brings the configuration and all layers.
    async fn bring(
        &self,
        manifest: &OciImageManifest,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Record> {
        let config = self.config(&manifest.config).await?;
        let layers = layers(manifest, self.images.config.bounds)?;
        let total = layers.iter().map(|layer| layer.size).sum();
        let done = Arc::new(AtomicU64::new(0));
        let report = |more: i64| {
            let before = done.fetch_add(more.cast_unsigned(), Ordering::Relaxed);
            progress(Progress { done: before.wrapping_add_signed(more).min(total), total });
        };
        report(0);
        let all: Vec<_> = layers.iter().map(|layer| layer.bring(self, &report)).collect();
        futures::stream::iter(all).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let layers = layers.into_iter().map(|layer| layer.digest).collect();
        Ok(Record { config, layers, size: total })
    }

    async fn config(&self, descriptor: &OciDescriptor) -> Result<ImageConfig> {
        let blob = Blob::new(descriptor)?;
        if blob.size > MOST_CONFIG {
            return Err(Error::TooLarge(format!("its configuration has {} bytes", blob.size)));
        }
        blob.bring(self, &|_| {}).await?;
        let path = self.images.store.blob(&blob.digest);
        let json = std::fs::read(&path).doing(|| "reading an image's configuration".to_owned())?;
        match ImageConfig::read(&json) {
            Ok(Some(config)) => Ok(config),
            Ok(None) => Err(Error::NoPlatform(self.reference.whole())),
            Err(error) => Err(Error::Unsupported(format!("its configuration: {error}"))),
        }
    }
}

/// Returns a manifest's layers, unless they are too many or too much.
pub(crate) fn layers(manifest: &OciImageManifest, bounds: Bounds) -> Result<Vec<Blob>> {
    if manifest.layers.len() > MOST_LAYERS {
        let count = manifest.layers.len();
        return Err(Error::TooLarge(format!("it has {count} layers, {MOST_LAYERS} at most")));
    }
    let mut left = bounds.bytes;
    let mut layers = Vec::with_capacity(manifest.layers.len());
    for descriptor in &manifest.layers {
        let kind = &descriptor.media_type;
        if !kind.contains("tar") || kind.contains("encrypted") {
            return Err(Error::Unsupported(format!("a layer is of type {kind:?}")));
        }
        let blob = Blob::new(descriptor)?;
        left = left
            .checked_sub(blob.size)
            .ok_or_else(|| Error::TooLarge("its layers have too many bytes".to_owned()))?;
        layers.push(blob);
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "localhost.example", "10.0.0.1:5000", "127.0.0.1.example:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
