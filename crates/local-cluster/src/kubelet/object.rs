//! A pod's object as its worker reads and writes it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::about::text;
use super::image;
use super::worker::Worker;
use crate::clock;
use crate::store::{Decision, WriteError};

const RETRY: Duration = Duration::from_secs(1);

impl Worker {
    /// Lets a deletion go through, now that nothing runs, and waits for it. `false` means that
    /// the cluster is being stopped: its pods run on.
    pub(super) async fn until_gone(&mut self) -> bool {
        loop {
            let Some(object) = self.object.borrow_and_update().clone() else { return true };
            if object["metadata"].get("deletionTimestamp").is_some() {
                let confirmed = self.confirm_deletion();
                if matches!(confirmed, Err(WriteError::Storage(_))) {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            if self.object.changed().await.is_err() {
                return false;
            }
        }
    }

    fn confirm_deletion(&self) -> Result<(), WriteError> {
        let confirmed = self.store.update(&self.key, |old| -> Result<Decision, WriteError> {
            if text(&old["metadata"]["uid"]) != self.uid {
                return Ok(Decision::Keep);
            }
            let held = old["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
            if !held {
                return Ok(Decision::Delete);
            }
            let mut new = Value::clone(old);
            new["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            Ok(Decision::Put(new))
        });
        confirmed.map(drop)
    }

    /// Writes a status; while the disk refuses it tries again.
    pub(super) async fn persist(&mut self, mut status: Value) {
        image::name_in(&mut status, &self.pod, &self.images);
        loop {
            let written = self.store.update(&self.key, |old| -> Result<Decision, WriteError> {
                if text(&old["metadata"]["uid"]) != self.uid {
                    return Err(WriteError::Missing);
                }
                if old["status"] == status {
                    return Ok(Decision::Keep);
                }
                let mut new = Value::clone(old);
                new["status"] = status.clone();
                Ok(Decision::Put(new))
            });
            match written {
                Ok(updated) => {
                    self.pod = updated.object;
                    return;
                }
                Err(WriteError::Missing | WriteError::Exists) => return,
                Err(WriteError::Storage(error)) => {
                    tracing::error!(%error, "a pod's status cannot be written");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Takes over the newest state of the object.
    pub(super) fn look(&mut self) {
        if let Some(object) = self.object.borrow_and_update().clone() {
            self.pod = object;
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        let object = self.object.borrow();
        object.as_ref().is_some_and(|pod| pod["metadata"].get("deletionTimestamp").is_none())
    }

    pub(super) fn elapsed(&self, now: Timestamp) -> u64 {
        let since = self.pod["status"]["startTime"].as_str().and_then(clock::parse);
        since.map_or(0, |since| clock::seconds_between(since, now))
    }

    pub(super) fn past_deadline(&self, now: Timestamp) -> bool {
        let deadline = self.pod["spec"]["activeDeadlineSeconds"].as_u64();
        deadline.is_some_and(|deadline| self.elapsed(now) >= deadline)
    }
}
