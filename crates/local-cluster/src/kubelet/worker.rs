//! One bound pod from its start to the end of its object.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pod_runtime::Pod;
use pod_runtime::spec::PodStatus;
use serde_json::Value;
use tokio::io::{BufReader, Lines};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::about::{
    field, is_final, is_over, never_ran, remaining_grace, started_containers, text, told_starts,
};
use super::aside::{blocking, lines};
use super::env::Source;
use super::events::{self, Note};
use super::image::Images;
use super::ports::{Ports, Published};
use super::purse::Purse;
use super::refresh::{self, Shown};
use super::refused::Blocked;
use super::{Pods, evict, render, status};
use crate::clock;
use crate::store::{Key, Object, Resource, Store};

/// Follows one pod.
pub(crate) struct Worker {
    pub(super) store: Arc<Store>,
    pub(super) pods: Pods,
    host: String,
    pub(super) key: Key,
    pub(super) uid: String,
    /// The object as last seen.
    pub(crate) pod: Object,
    pub(super) object: watch::Receiver<Option<Object>>,
    /// Its images that are here.
    pub(super) images: Images,
    /// Containers whose start has been told, and of which run.
    pub(crate) told: HashMap<String, u32>,
    /// The number of the last note that has been told; those of a pod taken over are old news.
    pub(crate) noted: Option<u64>,
    /// What leads into it from this machine.
    published: Option<Published>,
    /// What its volumes hold.
    pub(super) shown: Shown,
    pub(super) purse: Purse,
    /// The grace that the runtime was last told.
    stopping: Option<u64>,
}

/// How a beginning went.
enum Begin {
    Running(Pod),
    Over,
    /// A daemon that died has just begun it: there is nobody to be asked yet.
    NotYet,
}

/// How following it ended.
enum Follow {
    Over,
    /// Its shim still answers, or ended before any container ran, as that of a daemon does that
    /// died while it started.
    Again,
}

const RETRY: Duration = Duration::from_secs(1);
const START_RETRY: Duration = Duration::from_secs(5);

impl Worker {
    pub(crate) fn new(
        store: Arc<Store>,
        pods: Pods,
        host: String,
        pod: Object,
        object: watch::Receiver<Option<Object>>,
    ) -> Self {
        let uid = text(&pod["metadata"]["uid"]).to_owned();
        let key = Key::of(Resource::Pods, &pod);
        let told = told_starts(&pod);
        let noted = told.is_empty().then_some(0);
        let images = Images::new();
        let (shown, purse) = (Shown::new(), Purse::new(pods.tokens.clone()));
        let stopping = None;
        Self {
            store,
            pods,
            host,
            key,
            uid,
            pod,
            object,
            images,
            told,
            noted,
            published: None,
            shown,
            purse,
            stopping,
        }
    }

    /// Runs until the object is gone, and removes what is left.
    pub(crate) async fn run(mut self) {
        while !is_over(&self.pod) {
            let over = match self.begin().await {
                Begin::Running(pod) => matches!(self.follow(pod).await, Follow::Over),
                Begin::Over => true,
                Begin::NotYet => false,
            };
            if over {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
        self.published = None;
        self.forget_files().await;
        if !self.until_gone().await {
            return;
        }
        let (runtime, uid) = (self.pods.runtime.clone(), self.uid.clone());
        loop {
            match blocking({
                let (runtime, uid) = (runtime.clone(), uid.clone());
                move || runtime.remove(&uid)
            })
            .await
            {
                Ok(()) | Err(pod_runtime::Error::NotFound(_)) => return,
                Err(error) => tracing::warn!(%error, uid, "what is left of a pod stays for now"),
            }
            tokio::time::sleep(START_RETRY).await;
        }
    }

    /// Finds out where the pod stands: never started, running, or gone meanwhile.
    async fn begin(&mut self) -> Begin {
        let (pods, uid) = (self.pods.clone(), self.uid.clone());
        let started = self.has_started();
        match blocking(move || pods.find(&uid)).await {
            Ok(pod) => Begin::Running(pod),
            Err(pod_runtime::Error::Gone { last, .. })
                if !started && last.as_deref().is_none_or(never_ran) =>
            {
                let (runtime, uid) = (self.pods.runtime.clone(), self.uid.clone());
                match blocking(move || runtime.remove(&uid)).await {
                    Err(pod_runtime::Error::Beginning(_)) => Begin::NotYet,
                    // What stays in the way is told by the start.
                    Ok(()) | Err(_) => self.start().await,
                }
            }
            Err(pod_runtime::Error::Beginning(_)) => Begin::NotYet,
            Err(pod_runtime::Error::Gone { last, rebooted }) => {
                self.ended(last.map(|last| *last), rebooted).await;
                Begin::Over
            }
            Err(_) if started => {
                self.ended(None, false).await;
                Begin::Over
            }
            Err(_) => self.start().await,
        }
    }

    /// Tells whether a container has run, as far as the object knows.
    fn has_started(&self) -> bool {
        started_containers(&self.pod).next().is_some()
    }

    /// Starts the pod, as soon as nothing stands in the way.
    async fn start(&mut self) -> Begin {
        self.persist(status::waiting(&self.pod, None, clock::now())).await;
        let mut known: Option<Blocked> = None;
        let mut attempts = 0_u32;
        loop {
            if !self.is_wanted() {
                return Begin::Over;
            }
            if self.past_deadline(clock::now()) {
                let message = "Pod was active on the node longer than the specified deadline";
                self.tell(&Note::pod("Normal", "DeadlineExceeded", message.into()));
                let failed = status::failed(&self.pod, "DeadlineExceeded", message, clock::now());
                self.persist(failed).await;
                return Begin::Over;
            }
            let blocked = match self.try_start().await {
                Ok(pod) => return Begin::Running(pod),
                Err(blocked) => blocked,
            };
            if known.as_ref() != Some(&blocked) || matches!(blocked, Blocked::Pull { .. }) {
                self.tell_blocked(&blocked);
                let waiting = status::waiting(&self.pod, blocked.waiting(), clock::now());
                self.persist(waiting).await;
            }
            self.pause(&blocked, attempts).await;
            known = Some(blocked);
            attempts = attempts.saturating_add(1);
        }
    }

    /// Returns what the pod's spec is resolved against.
    pub(super) fn source(&self) -> Source<'_> {
        Source {
            store: &self.store,
            pod: &self.pod,
            host: &self.host,
            images: &self.images,
            purse: &self.purse,
            now: clock::now(),
        }
    }

    async fn try_start(&mut self) -> Result<Pod, Blocked> {
        self.fetch_images().await?;
        let mut spec = render::pod(&self.source())?;
        self.shown = refresh::shown(&spec);
        let elapsed = self.elapsed(clock::now());
        spec.active_deadline_seconds =
            spec.active_deadline_seconds.map(|all| all.saturating_sub(elapsed).max(1));
        let ports = Ports::bind(&self.pod).await?;
        let runtime = self.pods.runtime.clone();
        let started = blocking(move || runtime.start(&spec)).await;
        self.pods.started.notify_one();
        let pod = started.map_err(|error| Blocked::Runtime { message: error.to_string() })?;
        self.published = Some(ports.lead_into(&pod));
        Ok(pod)
    }

    /// Publishes the ports of a pod that was taken over. One that is in use by now stays so.
    async fn publish(&mut self, pod: &Pod) {
        match Ports::bind(&self.pod).await {
            Ok(ports) => self.published = Some(ports.lead_into(pod)),
            Err(blocked) => self.tell_blocked(&blocked),
        }
    }

    /// Mirrors what the runtime says until the pod has ended.
    async fn follow(&mut self, pod: Pod) -> Follow {
        if self.published.is_none() {
            self.publish(&pod).await;
        }
        let subscribed = pod.clone();
        let stream = blocking(move || subscribed.subscribe()).await;
        let mut last = None;
        if let Ok(Ok(lines)) = stream.map(lines) {
            self.react(&pod).await;
            self.refresh(&pod).await;
            if self.mirror(&pod, lines, &mut last).await.is_break() {
                return Follow::Over;
            }
        }
        let written = match blocking(move || pod.status()).await {
            // Its shim answers: only the stream broke.
            Ok(seen) if !is_final(&seen) => return Follow::Again,
            Ok(seen) => Some(seen),
            Err(pod_runtime::Error::Gone { last, .. }) => last.map(|last| *last),
            Err(error) => {
                tracing::warn!(%error, uid = self.uid, "a pod's shim cannot be asked");
                return Follow::Again;
            }
        };
        let last = written.or(last);
        if self.is_wanted() && last.as_ref().is_none_or(never_ran) && !self.has_started() {
            return Follow::Again;
        }
        self.ended(last, false).await;
        Follow::Over
    }

    /// Mirrors until the stream ends, or breaks off when nobody is left to tell.
    async fn mirror(
        &mut self,
        pod: &Pod,
        mut lines: Lines<BufReader<UnixStream>>,
        last: &mut Option<PodStatus>,
    ) -> ControlFlow<()> {
        let (mut changes, live) = (self.store.subscribe(), self.is_live());
        let mut too_much = pin!(evict::watch(pod.clone(), Value::clone(&self.pod)));
        let mut evicted = false;
        loop {
            tokio::select! {
                message = &mut too_much, if !evicted => {
                    evicted = true;
                    self.evict(pod, message).await;
                }
                () = refresh::news(&mut changes, self.purse.renew_at(), live) => {
                    self.refresh(pod).await;
                }
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else { return ControlFlow::Continue(()) };
                    match serde_json::from_str::<PodStatus>(&line) {
                        Ok(seen) => {
                            self.seen(&seen).await;
                            *last = Some(seen);
                        }
                        Err(error) => tracing::warn!(%error, "a shim speaks in riddles"),
                    }
                }
                changed = self.object.changed() => {
                    if changed.is_err() {
                        return ControlFlow::Break(());
                    }
                    self.look();
                    self.react(pod).await;
                    self.refresh(pod).await;
                }
            }
        }
    }

    /// Passes a deletion on to the runtime.
    async fn react(&mut self, pod: &Pod) {
        let object = self.object.borrow().clone();
        let grace = match &object {
            None => Some(0),
            Some(object) => remaining_grace(object, clock::now()),
        };
        let asked = match &object {
            None => Some(0),
            Some(object) => object["metadata"]["deletionGracePeriodSeconds"].as_u64(),
        };
        let Some(grace) = grace.filter(|_| self.stopping != asked) else { return };
        if self.stopping.is_none() {
            for name in started_containers(&self.pod) {
                let message = format!("Stopping container {name}");
                self.tell(&Note::container("Normal", "Killing", message, field(name)));
            }
        }
        self.stopping = asked;
        let pod = pod.clone();
        // A pod that has just ended is not an error: its stream says so.
        blocking(move || pod.stop(Duration::from_secs(grace))).await.ok();
    }

    async fn seen(&mut self, seen: &PodStatus) {
        self.persist(status::running(&self.pod, seen, &self.host, clock::now())).await;
        for container in seen.init_containers.iter().chain(&seen.containers) {
            self.tell_started(container);
        }
        self.tell_notes(&seen.notes);
    }

    /// Writes the last status there will be.
    async fn ended(&mut self, last: Option<PodStatus>, rebooted: bool) {
        let now = clock::now();
        if let Some(last) = &last {
            self.seen(last).await;
            if let Some((reason, message)) = &last.reason
                && reason == "DeadlineExceeded"
            {
                self.tell(&Note::pod("Normal", "DeadlineExceeded", message.clone()));
            }
        }
        if last.as_ref().is_some_and(is_final) || self.object.borrow().is_none() {
            return;
        }
        let (reason, message) = match rebooted {
            true => ("NodeRebooted", "The machine was started anew while the pod ran"),
            false => ("ContainerStatusUnknown", "The pod's processes are gone"),
        };
        self.persist(status::vanished(&self.pod, reason, message, now)).await;
    }

    pub(crate) fn tell(&self, note: &Note) {
        events::record(&self.store, &self.pod, note);
    }
}
