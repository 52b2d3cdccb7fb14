//! Waits for what stands in a pod's way to be gone.

use std::time::Duration;

use super::refused::Blocked;
use super::worker::Worker;
use crate::clock;

const START_RETRY: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_secs(300);

impl Worker {
    /// Waits for what may remove the obstacle.
    pub(super) async fn pause(&mut self, blocked: &Blocked, attempts: u32) {
        let longest = match blocked {
            Blocked::Over => return,
            Blocked::Pull { .. } => match self.back_off(blocked, attempts).await {
                Some(wait) => wait,
                None => return,
            },
            // Somebody may load it, or make room.
            Blocked::Image { reason: "ErrImageNeverPull", .. } | Blocked::Port { .. } => SOON,
            Blocked::Image { .. } | Blocked::Config { .. } | Blocked::Volume { .. } => LOOK_AGAIN,
            Blocked::Runtime { .. } => START_RETRY * (1 << attempts.min(6)),
        };
        let on_objects = matches!(blocked, Blocked::Config { .. } | Blocked::Volume { .. });
        let mut changes = self.store.subscribe();
        tokio::select! {
            () = self.rest(longest) => {}
            _ = changes.changed(), if on_objects => {}
        }
    }

    /// Sleeps as long as the pod is wanted.
    pub(super) async fn rest(&mut self, longest: Duration) {
        let sleep = tokio::time::sleep(longest.min(self.left()));
        tokio::pin!(sleep);
        // The object also changes by what is written here: only its end matters.
        while self.is_wanted() {
            tokio::select! {
                _ = self.object.changed() => self.look(),
                () = &mut sleep => return,
            }
        }
    }

    /// Returns how long the pod may still be active.
    pub(super) fn left(&self) -> Duration {
        let deadline = self.pod["spec"]["activeDeadlineSeconds"].as_u64();
        let left = deadline.map_or(u64::MAX, |all| {
            all.saturating_sub(self.elapsed(clock::now())).saturating_add(1)
        });
        // A sleep cannot be as long as there are seconds.
        Duration::from_secs(left.min(86_400 * 365))
    }
}
