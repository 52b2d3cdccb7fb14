//! How a weaver comes up, step by step: its pod and its events, told once and in order.

use futures::stream::{self, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use weaver::{Phase, WeaverId, Why};

use crate::error::{Error, Result};
use crate::found::Found;
use crate::pod::phase;
use crate::watch::{self, Raw};
use crate::weavers::Cluster;
use crate::why::Hope;
use crate::{keys, why};

/// One step. Each but [`Progress::Waiting`] and [`Progress::Fetched`] is told at most once, and never one behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It has a node.
    Scheduled {
        /// Its name.
        node: String,
    },
    /// Its image is being fetched.
    Pulling,
    /// So much of its image is on the node; told whenever there is more, where a cluster says so.
    Fetched {
        /// Bytes that are there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Its image is on the node.
    Pulled,
    /// Its program has been started.
    Started,
    /// Something keeps it waiting; it may go on by itself.
    Waiting(Why),
    /// Something keeps it waiting that will not change, such as an image that is not there. The
    /// last step.
    Stuck(Why),
    /// Its host answers. The last step.
    Ready(Box<Found>),
    /// It has ended, well or not. The last step.
    Ended(Box<Found>),
    /// There is no such weaver, or no longer. The last step.
    Gone,
}

impl Progress {
    fn rank(&self) -> u8 {
        match self {
            Self::Waiting(_) => 0,
            Self::Scheduled { .. } => 1,
            Self::Pulling | Self::Fetched { .. } => 2,
            Self::Pulled => 3,
            Self::Started => 4,
            Self::Ready(_) | Self::Ended(_) | Self::Stuck(_) | Self::Gone => LAST,
        }
    }
}

const LAST: u8 = 5;

impl Cluster {
    /// Reports how a weaver comes up, until it is ready, has ended or is gone.
    ///
    /// An error is reported and followed by another attempt; it is up to the caller to stop.
    /// Without the right to see events only the pod's own word counts.
    pub fn progress(&self, id: WeaverId) -> impl Stream<Item = Result<Progress>> + Send + use<> {
        let pods = watch::one(self, id).map(|raw| raw.map(|raw| Seen::Pod(Box::new(raw)))).boxed();
        let seen = stream::select(pods, events(self, id).boxed());
        let cluster = self.clone();
        let mut tracker = Tracker::default();
        let steps = seen.map(move |seen| match seen {
            Ok(Seen::Pod(raw)) => wrap(tracker.pod(&cluster, *raw)),
            Ok(Seen::Event(event)) => wrap(tracker.event(&event)),
            Err(error) => vec![Err(error)],
        });
        watch::through(steps.flat_map(stream::iter), |step| {
            step.as_ref().is_ok_and(|step| step.rank() == LAST)
        })
    }
}

enum Seen {
    Pod(Box<Raw<Pod>>),
    Event(Box<Event>),
}

/// Events are a comfort: what goes wrong with them is not told.
fn events(cluster: &Cluster, id: WeaverId) -> impl Stream<Item = Result<Seen>> + Send + use<> {
    let api = Api::<Event>::namespaced(cluster.client().clone(), &cluster.settings().namespace);
    let fields = format!("involvedObject.kind=Pod,involvedObject.name={}", id.pod_name());
    let raw = watch::objects(cluster.clone(), api, "events", None, Some(fields));
    let allowed = raw.take_while(|raw| {
        let forbidden = matches!(raw, Err(Error::Forbidden { .. }));
        std::future::ready(!forbidden)
    });
    allowed.flat_map(|raw| {
        let events = match raw {
            Ok(Raw::All(events)) => events,
            Ok(Raw::Set(event)) => vec![event],
            Ok(Raw::Gone(_)) => Vec::new(),
            Err(error) => {
                tracing::debug!(%error, "Events cannot be watched");
                Vec::new()
            }
        };
        stream::iter(events.into_iter().map(|event| Ok(Seen::Event(Box::new(event)))))
    })
}

fn wrap(steps: Vec<Progress>) -> Vec<Result<Progress>> {
    steps.into_iter().map(Ok).collect()
}

/// Remembers how far it has come.
#[derive(Default)]
struct Tracker {
    rank: u8,
    uid: Option<String>,
    waiting: Option<Why>,
    hope: Hope,
}

impl Tracker {
    fn pod(&mut self, cluster: &Cluster, raw: Raw<Pod>) -> Vec<Progress> {
        let pod = match raw {
            Raw::All(pods) => pods.into_iter().next(),
            Raw::Set(pod) => Some(pod),
            Raw::Gone(_) => None,
        };
        match pod.and_then(|pod| Some((cluster.take(&pod).ok()?, pod))) {
            Some((found, pod)) => self.seen(found, &pod),
            None => self.advance(Progress::Gone),
        }
    }

    fn seen(&mut self, found: Found, pod: &Pod) -> Vec<Progress> {
        self.uid = Some(found.pod.uid.clone());
        let mut steps = Vec::new();
        if let Some(node) = found.pod.node.clone() {
            steps.extend(self.advance(Progress::Scheduled { node }));
        }
        let state = phase::container(pod).and_then(|status| status.state.as_ref());
        if state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) {
            steps.extend(self.advance(Progress::Started));
        }
        steps.extend(match found.weaver.phase {
            Phase::Running => self.advance(Progress::Ready(Box::new(found))),
            Phase::Succeeded | Phase::Failed => self.advance(Progress::Ended(Box::new(found))),
            Phase::Pending | Phase::Unknown => self.wait(pod, found.weaver.why),
        });
        steps
    }

    fn event(&mut self, event: &Event) -> Vec<Progress> {
        let about = &event.involved_object;
        let path = format!("spec.containers{{{}}}", keys::CONTAINER);
        let ours = about.uid == self.uid && about.field_path.as_deref() == Some(path.as_str());
        match event.reason.as_deref() {
            Some("Pulling") if ours => self.advance(Progress::Pulling),
            Some("Pulled") if ours => self.advance(Progress::Pulled),
            Some("PullProgress") if ours => self.fetched(event),
            Some(_) | None => Vec::new(),
        }
    }

    fn fetched(&mut self, event: &Event) -> Vec<Progress> {
        let annotations = event.metadata.annotations.as_ref();
        let said = annotations.and_then(|said| said.get(keys::PULLED_BYTES)?.split_once('/'));
        let bytes = said.and_then(|(done, total)| Some((done.parse().ok()?, total.parse().ok()?)));
        match bytes {
            Some((done, total)) if self.rank <= (Progress::Pulling).rank() => {
                self.rank = (Progress::Pulling).rank();
                vec![Progress::Fetched { done, total }]
            }
            _ => Vec::new(),
        }
    }

    fn advance(&mut self, step: Progress) -> Vec<Progress> {
        if step.rank() <= self.rank {
            return Vec::new();
        }
        self.rank = step.rank();
        self.waiting = None;
        vec![step]
    }

    /// Tells a trouble when it is new.
    fn wait(&mut self, pod: &Pod, trouble: Option<Why>) -> Vec<Progress> {
        let trouble = trouble.filter(why::is_trouble);
        if let Some(why) = trouble.as_ref().filter(|why| self.hope.is_lost(pod, why)) {
            return self.advance(Progress::Stuck(why.clone()));
        }
        if trouble == self.waiting {
            return Vec::new();
        }
        self.waiting.clone_from(&trouble);
        trouble.map(Progress::Waiting).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weaver::Weaver;

    use super::*;
    use crate::settings::Settings;

    fn pod(node: Option<&str>, status: serde_json::Value) -> Pod {
        let sample = Weaver::sample();
        let admitted = weaver::Policy::default().admit(sample.id, sample.spec).unwrap();
        let mut pod = crate::pod::render(&admitted, sample.created_at, &Settings::default());
        pod.metadata.uid = Some("uid".to_owned());
        pod.spec.as_mut().unwrap().node_name = node.map(str::to_owned);
        pod.status = Some(serde_json::from_value(status).unwrap());
        pod
    }

    fn container(state: serde_json::Value, started: bool) -> serde_json::Value {
        json!({"containerStatuses": [{"name": "weaver", "image": "", "imageID": "",
            "ready": started, "started": started, "restartCount": 0, "state": state}]})
    }

    fn event(uid: &str, container: &str, reason: &str) -> Event {
        let path = format!("spec.containers{{{container}}}");
        serde_json::from_value(json!({"metadata": {}, "reason": reason,
            "involvedObject": {"kind": "Pod", "uid": uid, "fieldPath": path}}))
        .unwrap()
    }

    fn seen(tracker: &mut Tracker, pod: &Pod) -> Vec<u8> {
        let found = crate::pod::read(pod).unwrap();
        tracker.seen(found, pod).iter().map(Progress::rank).collect()
    }

    #[test]
    fn each_step_is_told_once_and_in_order() {
        let mut tracker = Tracker::default();
        assert_eq!(seen(&mut tracker, &pod(None, json!({}))), [0; 0]);
        assert_eq!(seen(&mut tracker, &pod(Some("n"), json!({}))), [1]);
        for (uid, container, reason, told) in [
            ("other", "weaver", "Pulling", 0),
            ("uid", "loom-tools", "Pulling", 0),
            ("uid", "weaver", "Pulling", 1),
            ("uid", "weaver", "Pulling", 0),
            ("uid", "weaver", "Pulled", 1),
            ("uid", "weaver", "Pulling", 0),
        ] {
            let steps = tracker.event(&event(uid, container, reason));
            assert_eq!(steps.len(), told, "{uid} {container} {reason}");
        }
        let running = json!({"running": {}});
        let starting = pod(Some("n"), container(running.clone(), false));
        assert_eq!(seen(&mut tracker, &starting), [4]);
        let ready = pod(Some("n"), container(running, true));
        assert_eq!(seen(&mut tracker, &ready), [5]);
        assert_eq!(seen(&mut tracker, &ready), [0; 0]);
    }

    #[test]
    fn how_much_of_an_image_is_there_is_told_until_all_is() {
        let mut tracker = Tracker::default();
        seen(&mut tracker, &pod(Some("n"), json!({})));
        let told = |tracker: &mut Tracker, bytes: &str| {
            let mut event = event("uid", "weaver", "PullProgress");
            let annotation = (keys::PULLED_BYTES.to_owned(), bytes.to_owned());
            event.metadata.annotations = Some([annotation].into());
            tracker.event(&event)
        };
        for done in [1, 2] {
            let fetched = Progress::Fetched { done, total: 3 };
            assert_eq!(told(&mut tracker, &format!("{done}/3")), [fetched]);
        }
        assert_eq!(tracker.event(&event("uid", "weaver", "Pulling")), []);
        for broken in ["", "1", "1/x", "-1/3"] {
            assert_eq!(told(&mut tracker, broken), [], "{broken}");
        }
        assert_eq!(tracker.event(&event("uid", "weaver", "Pulled")), [Progress::Pulled]);
        assert_eq!(told(&mut tracker, "3/3"), []);
    }

    #[test]
    fn a_trouble_is_told_when_it_is_new() {
        let mut tracker = Tracker::default();
        let trouble = container(json!({"waiting": {"reason": "ErrImagePull"}}), false);
        let stuck = pod(Some("n"), trouble);
        assert_eq!(seen(&mut tracker, &stuck), [1, 0]);
        assert_eq!(seen(&mut tracker, &stuck), [0; 0]);
        assert_eq!(seen(&mut tracker, &pod(Some("n"), json!({}))), [0; 0]);
        assert_eq!(seen(&mut tracker, &stuck), [0]);
    }

    #[test]
    fn what_will_never_start_is_told_last() {
        let mut tracker = Tracker::default();
        let trouble = container(json!({"waiting": {"reason": "ErrImageNeverPull"}}), false);
        let stuck = pod(Some("n"), trouble);
        assert_eq!(seen(&mut tracker, &stuck), [1, 5]);
        assert_eq!(seen(&mut tracker, &stuck), [0; 0]);
    }

    #[test]
    fn what_ends_at_once_is_told_whole() {
        let mut tracker = Tracker::default();
        let ended = container(json!({"terminated": {"exitCode": 3}}), false);
        assert_eq!(seen(&mut tracker, &pod(Some("n"), ended)), [1, 4, 5]);
    }
}
