//! Volumes that change while their pod runs: secrets, config maps, fields, tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pod_runtime::Pod;
use pod_runtime::spec::{PodSpec, Volume};
use serde_json::Value;
use tokio::sync::watch;

use super::about::text;
use super::aside::blocking;
use super::files::{self, Files};
use super::worker::Worker;
use crate::clock;

/// What a pod's volumes hold, as far as it was told to the runtime.
pub(crate) type Shown = BTreeMap<String, Files>;

/// Returns what a pod's volumes hold when it starts.
pub(super) fn shown(spec: &PodSpec) -> Shown {
    let files = |(name, volume): (&String, &Volume)| match volume {
        Volume::Files(files) => Some((name.clone(), files.clone())),
        Volume::EmptyDir { .. } | Volume::Image(_) => None,
    };
    spec.volumes.iter().filter_map(files).collect()
}

/// A suspended machine does not count its sleep in a timer's clock.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Returns when something may have changed that the volumes show; never without such volumes.
pub(super) async fn news(
    changes: &mut watch::Receiver<u64>,
    renew_at: Option<Timestamp>,
    live: bool,
) {
    if !live {
        std::future::pending::<()>().await;
    }
    loop {
        let left = renew_at.map(|at| clock::seconds_between(clock::now(), at));
        if left == Some(0) {
            return;
        }
        let wait = left.map_or(LONGEST_WAIT, |left| Duration::from_secs(left).min(LONGEST_WAIT));
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => return,
                Err(_) => std::future::pending().await,
            },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Worker {
    /// Whether any of its volumes may change.
    pub(super) fn is_live(&self) -> bool {
        live(&self.pod).next().is_some()
    }

    /// Has the runtime show what the volumes should hold now. What cannot be had any more stays.
    pub(super) async fn refresh(&mut self, pod: &Pod) {
        let fresh: Vec<(String, Files)> = {
            let source = self.source();
            let all = live(&self.pod).filter_map(|given| {
                let files = files::files(&source, given)?.ok()?;
                Some((text(&given["name"]).to_owned(), files))
            });
            all.filter(|(name, files)| self.shown.get(name) != Some(files)).collect()
        };
        for (name, files) in fresh {
            let (pod, volume, content) = (pod.clone(), name.clone(), files.clone());
            match blocking(move || pod.replace_files(&volume, &content)).await {
                Ok(()) => drop(self.shown.insert(name, files)),
                // One that has just ended is not an error: its stream says so.
                Err(pod_runtime::Error::Gone { .. }) => return,
                Err(error) => {
                    tracing::warn!(%error, uid = self.uid, "a volume's files stay as they were");
                }
            }
        }
    }
}

fn live(pod: &Value) -> impl Iterator<Item = &Value> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter(|given| files::is_live(given))
}
