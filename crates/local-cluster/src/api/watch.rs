//! Watches: changes as they happen, from a version on. Nothing is queued for a watcher: it reads
//! the store's history at its own pace, and is cut when that no longer reaches back far enough.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;

use super::kinds::Kind;
use super::request::{Query, Shape, Target};
use super::respond::{self, Answer, tagged};
use super::selector::Selector;
use super::status::Refusal;
use super::{Api, table};
use crate::store::{Change, Object};

const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
const LONGEST: u64 = 3600;
const BATCH: usize = 256;

/// One watch in progress.
struct Watch {
    api: Api,
    kind: &'static Kind,
    namespace: String,
    selector: Selector,
    table: Option<table::Include>,
    /// Whether only the metadata of objects is wanted.
    metadata: bool,
    columns_sent: bool,
    bookmarks: Option<Interval>,
    until: Instant,
    version: u64,
    wake: watch::Receiver<u64>,
    shutdown: CancellationToken,
    ready: VecDeque<Value>,
    ended: bool,
}

/// Answers with a stream of changes.
pub(crate) async fn watch(
    api: &Api,
    target: &Target,
    query: &Query,
    shape: Shape,
) -> Result<Answer, Refusal> {
    let selector = query.selector(target)?;
    let initial = query.flag("sendInitialEvents");
    if initial && query.get("resourceVersionMatch") != Some("NotOlderThan") {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(Refusal::list_options("resourceVersionMatch", why));
    }
    let seconds = query.number::<u64>("timeoutSeconds")?.unwrap_or(LONGEST).min(LONGEST);
    let asked = query.version()?;
    if let Some(asked) = asked.filter(|asked| *asked > api.store.version()) {
        return Err(Refusal::too_new(asked, api.store.version()));
    }
    let mut watch = Watch {
        api: api.clone(),
        kind: target.kind,
        namespace: target.namespace.clone(),
        selector,
        table: (shape == Shape::Table).then(|| table::Include::of(query)).transpose()?,
        metadata: shape == Shape::Metadata,
        columns_sent: false,
        bookmarks: query.flag("allowWatchBookmarks").then(bookmark_interval),
        until: deadline(seconds),
        version: asked.unwrap_or(0),
        wake: api.store.subscribe(),
        shutdown: api.shutdown.clone(),
        ready: VecDeque::new(),
        ended: false,
    };
    watch.begin(asked, initial);
    let frames = stream::unfold(watch, |mut watch| async move {
        let bytes = watch.next().await?;
        Some((Ok(Frame::data(bytes)), watch))
    });
    Ok(respond::with_body(StatusCode::OK, "application/json", StreamBody::new(frames).boxed()))
}

fn bookmark_interval() -> Interval {
    tokio::time::interval_at(deadline(BOOKMARK_EVERY.as_secs()), BOOKMARK_EVERY)
}

fn deadline(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

impl Watch {
    /// Queues what exists, if that is wanted.
    fn begin(&mut self, asked: Option<u64>, initial: bool) {
        if asked.is_some() && !initial {
            return;
        }
        let (objects, version) = self.api.store.list(self.kind.resource, &self.namespace);
        self.version = version;
        for object in &objects {
            if self.selector.matches(object) {
                let event = self.event("ADDED", object);
                self.ready.push_back(event);
            }
        }
        if initial && self.bookmarks.is_some() {
            let mark = self.bookmark(true);
            self.ready.push_back(mark);
        }
    }

    /// Returns the next lines, or nothing at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.ready.is_empty() {
                return Some(self.take_ready());
            }
            if self.ended {
                return None;
            }
            self.wake.borrow_and_update();
            self.catch_up();
            if self.ready.is_empty() {
                self.rest().await;
            }
        }
    }

    fn take_ready(&mut self) -> Bytes {
        let mut bytes = Vec::new();
        while let Some(event) = self.ready.pop_front() {
            serde_json::to_writer(&mut bytes, &event).ok();
            bytes.push(b'\n');
            if bytes.len() > 64 << 10 {
                break;
            }
        }
        bytes.into()
    }

    /// Queues the changes since the last look.
    fn catch_up(&mut self) {
        let Ok(changes) = self.api.store.since(self.version, BATCH) else {
            let message = format!("too old resource version: {}", self.version);
            let gone = Refusal::expired(message).body();
            self.ready.push_back(json!({"type": "ERROR", "object": gone}));
            self.ended = true;
            return;
        };
        for change in changes {
            self.version = change.version;
            if let Some(event) = self.event_of(&change) {
                self.ready.push_back(event);
            }
        }
    }

    /// Waits for a change, a bookmark's time, or the end.
    async fn rest(&mut self) {
        let bookmark = async {
            match &mut self.bookmarks {
                Some(interval) => drop(interval.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.wake.changed() => self.ended = changed.is_err(),
            () = bookmark => {
                let mark = self.bookmark(false);
                self.ready.push_back(mark);
            }
            () = tokio::time::sleep_until(self.until) => self.end(),
            () = self.shutdown.cancelled() => self.ended = true,
        }
    }

    fn end(&mut self) {
        if self.bookmarks.is_some() {
            let mark = self.bookmark(false);
            self.ready.push_back(mark);
        }
        self.ended = true;
    }

    /// Says what a change is to this watch: an object that no longer matches is deleted to it.
    fn event_of(&mut self, change: &Change) -> Option<Value> {
        let key = &change.key;
        let elsewhere = !self.namespace.is_empty() && key.namespace != self.namespace;
        if key.resource != self.kind.resource || elsewhere {
            return None;
        }
        let was = change.before.as_ref().is_some_and(|before| self.selector.matches(before));
        let is = !change.deleted && self.selector.matches(&change.object);
        let word = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        // As it was when it matched, but in the version of the change.
        match &change.before {
            Some(before) if word == "DELETED" && !change.deleted => {
                let mut gone = Value::clone(before);
                let version = &change.object["metadata"]["resourceVersion"];
                gone["metadata"]["resourceVersion"] = version.clone();
                Some(self.event(word, &gone.into()))
            }
            _ => Some(self.event(word, &change.object)),
        }
    }

    fn event(&mut self, word: &str, object: &Object) -> Value {
        let object = match self.table {
            None if self.metadata => respond::metadata_only(object),
            None => tagged(self.kind, object),
            Some(include) => {
                let meta = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let rows = std::slice::from_ref(object);
                table::table(self.kind.resource, rows, &meta, include, columns)
            }
        };
        json!({"type": word, "object": object})
    }

    fn bookmark(&mut self, initial_end: bool) -> Value {
        let mut meta =
            json!({"resourceVersion": self.version.to_string(), "creationTimestamp": null});
        if initial_end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = if self.table.is_some() {
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
                   "columnDefinitions": [], "rows": []})
        } else if self.metadata {
            respond::metadata_only(&json!({"metadata": meta}))
        } else {
            let mut object = json!({"kind": self.kind.kind, "apiVersion": self.kind.group_version(),
                                    "metadata": meta});
            // Typed clients insist on a pod's containers.
            if self.kind.kind == "Pod" {
                object["spec"] = json!({"containers": null});
                object["status"] = json!({});
            }
            object
        };
        json!({"type": "BOOKMARK", "object": object})
    }
}
