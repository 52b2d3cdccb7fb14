//! Brings a pod's images here before it starts, as the kubelet does.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::about::{container_field, text};
use super::events::{self, Note};
use super::image::{self, Found, Wanted};
use super::refused::{self, Blocked};
use super::status;
use super::worker::Worker;
use crate::api::base64_bytes;
use crate::clock;
use crate::images::{Credentials, ImageSource, PullError, UnpackedImage};
use crate::store::{Key, Resource};

/// The kubelet's first and longest wait between two tries.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long the failure itself is shown before the waiting is.
const SHOWN: Duration = Duration::from_secs(1);

/// How often is told how far a pull is.
const PROGRESS: Duration = Duration::from_secs(1);
/// The reason of events about that, which Kubernetes has not.
const PULL_PROGRESS: &str = "PullProgress";
/// Their annotation: bytes here and bytes in all, as `N/M`.
const PULLED_BYTES: &str = "loom.dev/pulled-bytes";

impl Worker {
    /// Brings what is not here; what was brought for this pod already is not asked for again.
    pub(super) async fn fetch_images(&mut self) -> Result<(), Blocked> {
        for wanted in image::wanted(&self.pod) {
            if !self.images.contains_key(&wanted.reference) {
                let found = self.fetch(&wanted).await?;
                self.images.insert(wanted.reference, found);
            }
        }
        Ok(())
    }

    async fn fetch(&mut self, wanted: &Wanted) -> Result<Found, Blocked> {
        let Wanted { reference, policy, container } = wanted;
        if let Some(found) = Found::of_this_machine(reference) {
            return Ok(found);
        }
        let source = self.pods.images.clone().filter(|_| !refused::is_own(reference));
        let source = refused::check(wanted, source)?;
        let present = match policy.as_str() {
            "Always" => None,
            _ => source.find(reference).await,
        };
        if let Some(image) = present {
            let message = format!("Container image {reference:?} already present on machine");
            self.tell_of(container, "Normal", "Pulled", message);
            return Ok(Found::Unpacked(Arc::new(image)));
        }
        if policy == "Never" {
            return Err(refused::never(wanted));
        }
        self.pull(wanted, source.as_ref()).await.map(|image| Found::Unpacked(Arc::new(image)))
    }

    async fn pull(
        &self,
        wanted: &Wanted,
        source: &dyn ImageSource,
    ) -> Result<UnpackedImage, Blocked> {
        let Wanted { reference, container, .. } = wanted;
        self.tell_of(container, "Normal", "Pulling", format!("Pulling image {reference:?}"));
        let credentials = self.credentials();
        let began = Instant::now();
        let (told, seen) = watch::channel((0, 0));
        let progress = |done, total| {
            told.send_replace((done, total));
        };
        let pulled = tokio::select! {
            pulled = source.pull(reference, &credentials, &progress) => pulled,
            () = self.until_over() => return Err(Blocked::Over),
            never = self.show_progress(container, reference, seen) => match never {},
        };
        let image = pulled.map_err(|trouble| blocked(wanted, trouble))?;
        let took = took(began.elapsed());
        let message = format!(
            "Successfully pulled image {reference:?} in {took} ({took} including waiting). Image \
             size: {} bytes.",
            image.size
        );
        self.tell_of(container, "Normal", "Pulled", message);
        Ok(image)
    }

    /// Keeps one event that says how far a long pull is; short ones have none.
    async fn show_progress(
        &self,
        container: &str,
        reference: &str,
        mut seen: watch::Receiver<(u64, u64)>,
    ) -> Infallible {
        let mut shown = (0, 0);
        loop {
            tokio::time::sleep(PROGRESS).await;
            let (done, total) = *seen.borrow_and_update();
            if (done, total) == shown {
                continue;
            }
            shown = (done, total);
            let [some, all] = [done, total].map(|bytes| bytes >> 20);
            let message = format!("{some} of {all} MiB of image {reference:?} are here");
            let place = container_field(&self.pod, container);
            let note = Note::container("Normal", PULL_PROGRESS, message, place);
            events::keep(&self.store, &self.pod, &note, (PULLED_BYTES, format!("{done}/{total}")));
        }
    }

    /// Returns when there is nothing left to pull for.
    async fn until_over(&self) {
        let mut object = self.object.clone();
        let left = tokio::time::sleep(self.left());
        tokio::pin!(left);
        while self.is_wanted() {
            tokio::select! {
                changed = object.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
                () = &mut left => return,
            }
        }
    }

    /// Returns what the pod's secrets say to registries. One that is missing is told and no
    /// obstacle: the image may be for everybody.
    fn credentials(&self) -> Vec<Credentials> {
        let names = self.pod["spec"]["imagePullSecrets"].as_array().into_iter().flatten();
        let namespace = text(&self.pod["metadata"]["namespace"]);
        let mut credentials = Vec::new();
        for name in names.map(|secret| text(&secret["name"])) {
            match self.store.get(&Key::new(Resource::Secrets, namespace, name)) {
                Some(secret) => credentials.extend(read(&secret)),
                None => self.tell(&Note::pod(
                    "Warning",
                    "FailedToRetrieveImagePullSecret",
                    format!(
                        "Unable to retrieve some image pull secrets ({name}); attempting to pull \
                         the image may not succeed."
                    ),
                )),
            }
        }
        credentials
    }

    /// Shows that the next try comes later, and returns how long to wait for it.
    pub(super) async fn back_off(&mut self, blocked: &Blocked, tries: u32) -> Option<Duration> {
        let Blocked::Pull { container, image, message } = blocked else { return None };
        self.rest(SHOWN).await;
        if !self.is_wanted() {
            return None;
        }
        let words = format!("Back-off pulling image {image:?}");
        let waiting = format!("{words}: ErrImagePull: {message}");
        self.tell_of(container, "Normal", "BackOff", words);
        self.tell_of(container, "Warning", "Failed", "Error: ImagePullBackOff".to_owned());
        let waiting = Some((container.as_str(), "ImagePullBackOff", waiting.as_str()));
        self.persist(status::waiting(&self.pod, waiting, clock::now())).await;
        Some(wait(tries))
    }

    /// Tells something of one container.
    pub(super) fn tell_of(
        &self,
        container: &str,
        kind: &'static str,
        reason: &'static str,
        message: String,
    ) {
        let place = container_field(&self.pod, container);
        self.tell(&Note::container(kind, reason, message, place));
    }
}

fn wait(tries: u32) -> Duration {
    (FIRST_WAIT * (1 << tries.min(5))).min(LONGEST_WAIT)
}

fn blocked(wanted: &Wanted, trouble: PullError) -> Blocked {
    match trouble {
        PullError::Name(why) => refused::bad_name(wanted, &why),
        PullError::Failed(message) => Blocked::Pull {
            container: wanted.container.clone(),
            image: wanted.reference.clone(),
            message,
        },
    }
}

/// Reads a secret of one of the two types that Kubernetes has for it.
fn read(secret: &Value) -> Option<Credentials> {
    let content = |key: &str| {
        let data = secret["data"][key].as_str().map(base64_bytes);
        data.or_else(|| Some(secret["stringData"][key].as_str()?.as_bytes().to_vec()))
    };
    match text(&secret["type"]) {
        "kubernetes.io/dockerconfigjson" => {
            content(".dockerconfigjson").map(Credentials::DockerConfig)
        }
        "kubernetes.io/dockercfg" => content(".dockercfg").map(Credentials::DockerCfg),
        _ => None,
    }
}

/// A time as Go writes it.
fn took(time: Duration) -> String {
    let all = time.as_millis();
    let (minutes, rest) = (all / 60_000, all % 60_000);
    let seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (minutes, rest) {
        (0, rest) if rest < 1000 => format!("{rest}ms"),
        (0, _) => format!("{seconds}s"),
        (minutes, _) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_minutes() {
        let waits = [0, 1, 2, 4, 5, 40].map(|tries| wait(tries).as_secs());
        assert_eq!(waits, [10, 20, 40, 160, 300, 300]);
    }

    #[test]
    fn times_are_written_as_the_kubelet_does() {
        let texts = [0, 524, 1000, 1230, 61_005].map(|all| took(Duration::from_millis(all)));
        assert_eq!(texts, ["0ms", "524ms", "1s", "1.23s", "1m1.005s"]);
    }
}
