//! The calls: make, look, list, extend, delete. One call here is one call there.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use weaver::{Admitted, Ttl, WeaverId};

use crate::clock::ServerClock;
use crate::error::{self, Call, ENDING_NAMESPACE, Error, Result};
use crate::found::{Deletion, Found, Guard, Page, Query, Skipped};
use crate::settings::{Settings, ToolsMount};
use crate::{connect, keys, pod, select};

/// Most pods on one page of a list.
pub(crate) const PAGE: u32 = 500;
/// Most unreadable pods of which it is remembered that they have been reported.
const REMEMBERED: usize = 4096;

/// A connection to the cluster. Clones share it.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    clock: ServerClock,
    settings: Settings,
    /// What `auto` came to, once it is known.
    tools_mount: OnceCell<ToolsMount>,
    /// Unreadable pods by uid, so that each is reported once and not with every page.
    reported: Mutex<HashSet<String>>,
}

impl Cluster {
    /// Reads the configuration and makes the client; connects when first used.
    ///
    /// Without `kubeconfig` it is found as kubectl finds it, else as a pod does.
    ///
    /// # Errors
    /// [`Error::Config`] says what is missing and what to do.
    pub async fn connect(kubeconfig: Option<&Path>, settings: Settings) -> Result<Self> {
        let clock = ServerClock::default();
        let client = connect::client(connect::config(kubeconfig).await?, clock.clone())?;
        let (tools_mount, reported) = (OnceCell::new(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { client, clock, settings, tools_mount, reported }) })
    }

    /// Returns the settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Returns the time on the API server's clock; asks for it only when it is not known.
    ///
    /// # Errors
    /// When it has to ask and gets no answer.
    pub async fn now(&self) -> Result<Timestamp> {
        if let Some(now) = self.inner.clock.now() {
            return Ok(now);
        }
        let asked =
            self.within(self.call("get", "version", None), self.client().apiserver_version());
        let asked = asked.await;
        // Even a refusal tells the time.
        match (self.inner.clock.now(), asked) {
            (Some(now), _) => Ok(now),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(Error::unavailable("its answers carry no date")),
        }
    }

    /// Returns the time on the API server's clock if it is known, without asking.
    #[must_use]
    pub fn last_seen_time(&self) -> Option<Timestamp> {
        self.inner.clock.now()
    }

    /// Checks that the namespace is there to be used. The server does not create it.
    ///
    /// # Errors
    /// [`Error::Namespace`] when it is missing or being deleted.
    pub async fn validate_namespace(&self) -> Result<()> {
        let namespace = &self.settings().namespace;
        let api = Api::<Namespace>::all(self.client().clone());
        let call = self.call("get", "namespaces", Some(namespace.clone()));
        let found = self.within(call, api.get(namespace)).await?;
        let phase = found.status.and_then(|status| status.phase);
        if phase.as_deref() != Some("Terminating") {
            return Ok(());
        }
        Err(Error::Namespace { namespace: namespace.clone(), why: ENDING_NAMESPACE })
    }

    /// Makes the namespace if it is missing. Servers do not: only who owns the whole cluster does.
    ///
    /// # Errors
    /// When the cluster does not answer or forbids it.
    pub async fn ensure_namespace(&self) -> Result<()> {
        let name = self.settings().namespace.clone();
        let api = Api::<Namespace>::all(self.client().clone());
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.clone());
        let call = self.call("create", "namespaces", Some(name));
        match self.within(call, api.create(&PostParams::default(), &namespace)).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the pod of an admitted weaver: one call, after the first also when
    /// [`ToolsMount::Auto`] is set.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when there is a pod of this id.
    pub async fn create(&self, admitted: &Admitted) -> Result<Found> {
        let created_at = self.now().await?;
        let settings = if admitted.spec().keep_entrypoint {
            self.settings().clone()
        } else {
            let tools_mount = self.tools_mount(admitted, created_at).await?;
            Settings { tools_mount, ..self.settings().clone() }
        };
        let pod = pod::render(admitted, created_at, &settings);
        let call = self.call("create", "pods", pod.metadata.name.clone());
        let params = PostParams::default();
        let made = self.within(call, self.pods().create(&params, &pod)).await?;
        Ok(pod::read(&made)?)
    }

    /// Returns the weaver of this id. A pod of its name that is none counts as none.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn get(&self, id: WeaverId) -> Result<Option<Found>> {
        let name = id.pod_name();
        let call = self.call("get", "pods", Some(name.clone()));
        let pod = self.within(call, self.pods().get_opt(&name)).await?;
        Ok(pod.and_then(|pod| self.take(&pod).ok()))
    }

    /// Returns one page of the weavers asked for.
    ///
    /// # Errors
    /// [`Error::CursorExpired`] when the page before was too long ago.
    pub async fn list(&self, query: &Query) -> Result<Page> {
        let params = ListParams {
            label_selector: Some(select::labels(query)),
            limit: Some(query.limit.unwrap_or(PAGE).clamp(1, PAGE)),
            continue_token: query.cursor.clone(),
            ..ListParams::default()
        };
        let call = self.call("list", "pods", None);
        let pods = self.within(call, self.pods().list(&params)).await?;
        let next = pods.metadata.continue_.filter(|next| !next.is_empty());
        let mut page = Page { next, ..Page::default() };
        for pod in &pods.items {
            match self.take(pod) {
                Ok(found) if select::has_status(query, &found) => page.found.push(found),
                Ok(_) => {}
                Err(skipped) => page.skipped.push(skipped),
            }
        }
        Ok(page)
    }

    /// Ends a weaver, if `guard` still holds.
    ///
    /// # Errors
    /// When the cluster does not answer or forbids it.
    pub async fn delete(&self, id: WeaverId, guard: &Guard) -> Result<Deletion> {
        let name = id.pod_name();
        let guarded = guard.uid.is_some() || guard.resource_version.is_some();
        let preconditions = guarded.then(|| Preconditions {
            uid: guard.uid.clone(),
            resource_version: guard.resource_version.clone(),
        });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let call = self.call("delete", "pods", Some(name.clone()));
        match self.within(call, self.pods().delete(&name, &params)).await {
            Ok(_) => Ok(Deletion::Deleted),
            Err(Error::NotFound { .. }) => Ok(Deletion::Gone),
            Err(Error::Changed { .. }) => Ok(Deletion::Changed),
            Err(error) => Err(error),
        }
    }

    /// Gives a weaver another lifetime, counted from its creation. Loses to whoever changed or
    /// deleted it since it was found.
    ///
    /// # Errors
    /// [`Error::Changed`] when somebody was faster, [`Error::NotFound`] when it is gone or going.
    pub async fn extend(&self, found: &Found, ttl: Ttl) -> Result<Found> {
        let name = found.weaver.id.pod_name();
        if found.pod.deleting {
            return Err(Error::NotFound { what: name });
        }
        let mut weaver = found.weaver.clone();
        let asked = found.pod.asked_ttl.unwrap_or(weaver.spec.ttl);
        weaver.spec.ttl = ttl;
        let patch = json!({"metadata": {
            "uid": found.pod.uid,
            "resourceVersion": found.pod.resource_version,
            "annotations": {
                keys::EXPIRES_AT: weaver.expires_at().to_string(),
                keys::SPEC: pod::stored_spec(&weaver.spec, asked),
            },
        }});
        let call = self.call("patch", "pods", Some(name.clone()));
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let changed = self.within(call, self.pods().patch(&name, &params, &patch)).await?;
        Ok(pod::read(&changed)?)
    }

    /// Decides once how the tools get into a pod.
    async fn tools_mount(&self, admitted: &Admitted, now: Timestamp) -> Result<ToolsMount> {
        if self.settings().tools_image.is_none() {
            return Err(Error::NoToolsImage);
        }
        match self.settings().tools_mount {
            ToolsMount::Auto => {
                let decided = self.inner.tools_mount.get_or_try_init(|| self.decide(admitted, now));
                decided.await.copied()
            }
            fixed @ (ToolsMount::Image | ToolsMount::Init) => Ok(fixed),
        }
    }

    /// Asks for the pod without making it: a cluster without image volumes drops the volume's
    /// source or refuses the volume. (A node that mounts them noexec is found out when it starts
    /// the pod; what it says then names the setting.)
    async fn decide(&self, admitted: &Admitted, now: Timestamp) -> Result<ToolsMount> {
        let pod = pod::render(admitted, now, self.settings());
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let call = self.call("create", "pods", pod.metadata.name.clone());
        match self.within(call, self.pods().create(&params, &pod)).await {
            Ok(pod) if has_image_volume(&pod) => Ok(ToolsMount::Image),
            Ok(_) => Ok(ToolsMount::Init),
            Err(Error::Invalid { message }) if message.contains("volumes") => Ok(ToolsMount::Init),
            Err(error) => Err(error),
        }
    }

    /// Reads a pod, or reports once that it cannot be read.
    pub(crate) fn take(&self, pod: &Pod) -> std::result::Result<Found, Skipped> {
        pod::read(pod).map_err(|why| {
            let meta = &pod.metadata;
            let (name, uid) = (meta.name.clone(), meta.uid.clone());
            let skipped =
                Skipped { pod: name.unwrap_or_default(), uid: uid.unwrap_or_default(), why };
            self.report(&skipped);
            skipped
        })
    }

    fn report(&self, skipped: &Skipped) {
        let mut reported = self.inner.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() >= REMEMBERED {
            reported.clear();
        }
        if reported.insert(skipped.uid.clone()) {
            let reason = skipped.why.code();
            metrics::counter!("loom_cluster_unreadable_pods_total", "reason" => reason)
                .increment(1);
            tracing::warn!(pod = skipped.pod, uid = skipped.uid, error = %skipped.why, "Pod left out");
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client().clone(), &self.settings().namespace)
    }

    pub(crate) fn call(
        &self,
        verb: &'static str,
        resource: &'static str,
        name: Option<String>,
    ) -> Call {
        Call { verb, resource, namespace: self.settings().namespace.clone(), name }
    }

    /// Makes a call with the deadline that every call has.
    pub(crate) async fn within<T>(
        &self,
        call: Call,
        work: impl Future<Output = kube::Result<T>>,
    ) -> Result<T> {
        let deadline = self.settings().deadline;
        let (verb, resource) = (call.verb, call.resource);
        let answer = match timeout(deadline, work).await {
            Ok(answer) => answer.map_err(|error| error::read(&call, error)),
            Err(_) => Err(Error::Timeout { call, deadline }),
        };
        let result = answer.as_ref().err().map_or("ok", Error::code);
        metrics::counter!("loom_cluster_calls_total",
            "verb" => verb, "resource" => resource, "result" => result)
        .increment(1);
        answer
    }
}

fn has_image_volume(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.into_iter().any(|volume| volume.name == keys::TOOLS_VOLUME && volume.image.is_some())
}
