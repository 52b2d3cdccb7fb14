//! How many connections there may be, and who gives way when there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The door of a server. When all places are taken, the oldest connection that has not yet sent a
/// whole request gives way; so a crowd of silent ones cannot keep others out.
#[derive(Debug)]
pub(crate) struct Door {
    places: Arc<Semaphore>,
    half_open: Arc<HalfOpen>,
    next: u64,
}

#[derive(Debug, Default)]
struct HalfOpen(Mutex<BTreeMap<u64, CancellationToken>>);

/// A connection's place; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    half_open: Arc<HalfOpen>,
    evicted: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Door {
    pub(crate) fn new(places: usize) -> Self {
        let places = places.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), half_open: Arc::default(), next: 0 }
    }

    /// Waits for a place; when there is none, the oldest half-open connection is told to go.
    pub(crate) async fn enter(&mut self) -> Place {
        if self.places.available_permits() == 0 && self.half_open.evict_oldest() {
            metrics::counter!("loom_connections_evicted_total").increment(1);
        }
        let permit = Arc::clone(&self.places).acquire_owned().await;
        let permit = permit.expect("nobody closes this semaphore");
        self.next += 1;
        let evicted = CancellationToken::new();
        self.half_open.all().insert(self.next, evicted.clone());
        metrics::gauge!("loom_connections").increment(1);
        metrics::counter!("loom_connections_total").increment(1);
        let half_open = Arc::clone(&self.half_open);
        Place { number: self.next, half_open, evicted, _permit: permit }
    }
}

impl Place {
    /// Says that a whole request has come: from now on the place is not taken away.
    pub(crate) fn settle(&self) {
        self.half_open.all().remove(&self.number);
    }

    /// Tells whether no whole request has come yet.
    pub(crate) fn is_half_open(&self) -> bool {
        self.half_open.all().contains_key(&self.number)
    }

    /// Returns what is cancelled when the place is taken away.
    pub(crate) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.settle();
        metrics::gauge!("loom_connections").decrement(1);
    }
}

impl HalfOpen {
    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn evict_oldest(&self) -> bool {
        let oldest = self.all().pop_first();
        oldest.inspect(|(_, evicted)| evicted.cancel()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_half_open_connection_gives_way() {
        let mut door = Door::new(2);
        let (first, second) = (door.enter().await, door.enter().await);
        let told = first.evicted().clone();
        let leaves = async {
            told.cancelled().await;
            drop(first);
        };
        let (third, ()) = tokio::join!(door.enter(), leaves);
        assert!(!second.evicted().is_cancelled());
        drop(third);
    }

    #[tokio::test]
    async fn a_settled_connection_keeps_its_place() {
        let mut door = Door::new(1);
        let settled = door.enter().await;
        settled.settle();
        {
            let waiting = door.enter();
            tokio::pin!(waiting);
            assert!(futures_poll(&mut waiting).is_pending());
            assert!(!settled.evicted().is_cancelled());
            drop(settled);
            waiting.await;
        }
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(future).poll(&mut context)
    }
}
