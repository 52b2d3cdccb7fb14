//! Watching: from a list on, resuming where it was, and never trusting silence.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Resource;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};
use weaver::WeaverId;

use crate::error::{self, Error, Result};
use crate::found::{Change, Found, Query};
use crate::weavers::{Cluster, PAGE};
use crate::{pod, select};

/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

impl Cluster {
    /// Reports every weaver asked for and then what changes, without end. Its status, limit and
    /// cursor do not count.
    ///
    /// An error is reported and followed by a pause and another attempt; it is up to the caller
    /// to stop. Nothing is reported twice, and [`Change::All`] stands for everything missed.
    pub fn watch(&self, query: &Query) -> impl Stream<Item = Result<Change>> + Send + use<> {
        let cluster = self.clone();
        let (labels, fields) = (Some(select::labels(query)), None);
        objects(self.clone(), self.pods(), "pods", labels, fields).filter_map(move |raw| {
            let change = raw.map(|raw| cluster.change(raw)).transpose();
            std::future::ready(change)
        })
    }

    /// Reports one weaver whenever it changes; `None`, at last, when it is gone.
    pub fn watch_one(
        &self,
        id: WeaverId,
    ) -> impl Stream<Item = Result<Option<Found>>> + Send + use<> {
        let cluster = self.clone();
        let states = one(self, id).map(move |raw| raw.map(|raw| cluster.latest(raw)));
        through(states, |seen| matches!(seen, Ok(None)))
    }

    fn change(&self, raw: Raw<k8s_openapi::api::core::v1::Pod>) -> Option<Change> {
        match raw {
            Raw::All(pods) => {
                let found = pods.iter().filter_map(|pod| self.take(pod).ok());
                Some(Change::All(found.collect()))
            }
            Raw::Set(pod) => self.take(&pod).ok().map(|found| Change::Set(Box::new(found))),
            Raw::Gone(pod) => pod::read(&pod).ok().map(|found| Change::Gone(found.weaver.id)),
        }
    }

    fn latest(&self, raw: Raw<k8s_openapi::api::core::v1::Pod>) -> Option<Found> {
        match raw {
            Raw::All(pods) => pods.first().and_then(|pod| self.take(pod).ok()),
            Raw::Set(pod) => self.take(&pod).ok(),
            Raw::Gone(_) => None,
        }
    }
}

/// Watches the pod of one weaver.
pub(crate) fn one(
    cluster: &Cluster,
    id: WeaverId,
) -> impl Stream<Item = Result<Raw<k8s_openapi::api::core::v1::Pod>>> + Send + use<> {
    let fields = Some(format!("metadata.name={}", id.pod_name()));
    objects(cluster.clone(), cluster.pods(), "pods", None, fields)
}

/// Returns `stream` up to and with the first item that is the last one, and ends right after it.
pub(crate) fn through<T>(
    stream: impl Stream<Item = T> + Send,
    is_last: impl Fn(&T) -> bool + Send,
) -> impl Stream<Item = T> + Send {
    let state = Some((Box::pin(stream), is_last));
    stream::unfold(state, |state| async {
        let (mut stream, is_last) = state?;
        let item = stream.next().await?;
        let go_on = !is_last(&item);
        Some((item, go_on.then_some((stream, is_last))))
    })
}

/// What a watch reports, before it is read.
#[derive(Debug)]
pub(crate) enum Raw<K> {
    /// Everything there is.
    All(Vec<K>),
    /// New or different.
    Set(K),
    /// Gone.
    Gone(K),
}

/// Watches objects of one kind.
pub(crate) fn objects<K>(
    cluster: Cluster,
    api: Api<K>,
    resource: &'static str,
    labels: Option<String>,
    fields: Option<String>,
) -> impl Stream<Item = Result<Raw<K>>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let watcher = Watcher {
        cluster,
        api,
        resource,
        labels,
        fields,
        version: None,
        open: None,
        pause: Duration::ZERO,
    };
    stream::unfold(watcher, |mut watcher| async move {
        let item = watcher.next().await;
        Some((item, watcher))
    })
}

struct Watcher<K> {
    cluster: Cluster,
    api: Api<K>,
    resource: &'static str,
    labels: Option<String>,
    fields: Option<String>,
    /// Up to where everything has been reported; none before the first list and after a loss.
    version: Option<String>,
    open: Option<Open<K>>,
    pause: Duration,
}

struct Open<K> {
    events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    believed_until: Instant,
}

impl<K> Watcher<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Returns the next thing to report: something new, or an error.
    async fn next(&mut self) -> Result<Raw<K>> {
        loop {
            match self.step().await {
                Ok(Some(raw)) => {
                    self.pause = Duration::ZERO;
                    return Ok(raw);
                }
                Ok(None) => {}
                Err(Error::CursorExpired) => self.forget(),
                Err(error) => {
                    self.open = None;
                    self.slow_down(&error);
                    return Err(error);
                }
            }
        }
    }

    /// Does one thing: lists, opens, or reads one event.
    async fn step(&mut self) -> Result<Option<Raw<K>>> {
        if self.open.is_none() && !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        let Some(version) = self.version.clone() else {
            return self.list().await.map(Some);
        };
        let Some(open) = &mut self.open else {
            self.open = Some(self.start(&version).await?);
            return Ok(None);
        };
        match timeout_at(open.believed_until, open.events.next()).await {
            Ok(Some(event)) => {
                let event = event.map_err(|error| error::read(&self.call("watch"), error))?;
                self.take(event)
            }
            Ok(None) | Err(_) => {
                self.end();
                Ok(None)
            }
        }
    }

    /// The stream has ended, or gone silent. One that ends at once again and again is not asked
    /// for at full speed.
    fn end(&mut self) {
        self.open = None;
        self.pause = (self.pause * 2).clamp(PAUSES.0, PAUSES.1);
    }

    fn slow_down(&mut self, error: &Error) {
        self.end();
        if let Error::TooMany { retry_after } = error {
            self.pause = self.pause.max(*retry_after);
        }
    }

    /// History is lost, or a list took too long between two pages: everything has to be listed
    /// again.
    fn forget(&mut self) {
        self.version = None;
        self.end();
    }

    async fn list(&mut self) -> Result<Raw<K>> {
        let mut all = VecDeque::new();
        let mut params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let call = self.call("list");
            let page = self.cluster.within(call, self.api.list(&params)).await?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => {
                    self.version = Some(page.metadata.resource_version.unwrap_or_default());
                    return Ok(Raw::All(all.into()));
                }
            }
        }
    }

    async fn start(&mut self, version: &str) -> Result<Open<K>> {
        let span = self.cluster.settings().watch_span;
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(u32::try_from(span.as_secs()).unwrap_or(u32::MAX).max(1)),
            bookmarks: true,
            send_initial_events: false,
        };
        let call = self.call("watch");
        let events = self.cluster.within(call, self.api.watch(&params, version)).await?.boxed();
        Ok(Open { events, believed_until: Instant::now() + span + span / 4 })
    }

    fn take(&mut self, event: WatchEvent<K>) -> Result<Option<Raw<K>>> {
        let raw = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Raw::Set(object),
            WatchEvent::Deleted(object) => Raw::Gone(object),
            WatchEvent::Bookmark(bookmark) => {
                self.version = Some(bookmark.metadata.resource_version);
                self.pause = Duration::ZERO;
                return Ok(None);
            }
            WatchEvent::Error(status) => {
                return Err(error::read(&self.call("watch"), kube::Error::Api(status)));
            }
        };
        let (Raw::Set(object) | Raw::Gone(object)) = &raw else { return Ok(Some(raw)) };
        if let Some(version) = &object.meta().resource_version {
            self.version = Some(version.clone());
        }
        Ok(Some(raw))
    }

    fn call(&self, verb: &'static str) -> crate::Call {
        self.cluster.call(verb, self.resource, None)
    }
}
