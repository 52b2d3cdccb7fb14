//! When which connection wants to be looked at again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use smoltcp::time::Instant;

/// One deadline for each id, in a heap.
///
/// A deadline that moves later is left where it is: the id is looked at once too early and asks
/// again. That is far cheaper than moving an entry with every packet.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    armed: HashMap<u64, Instant>,
}

impl Timers {
    /// Asks that `id` be due at `at` or earlier.
    pub(crate) fn set(&mut self, id: u64, at: Instant) {
        if self.armed.get(&id).is_some_and(|armed| *armed <= at) {
            return;
        }
        self.armed.insert(id, at);
        self.heap.push(Reverse((at, id)));
    }

    /// Forgets `id`; what is left of it in the heap is skipped.
    pub(crate) fn clear(&mut self, id: u64) {
        self.armed.remove(&id);
    }

    /// Returns the time to wake up at.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, id))) = self.heap.peek() {
            if self.armed.get(id) == Some(at) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes one id that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u64> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, id)) = self.heap.pop()?;
        self.armed.remove(&id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn the_earliest_comes_first_and_only_when_due() {
        let mut timers = Timers::default();
        timers.set(1, at(30));
        timers.set(2, at(10));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.pop_due(at(10)), Some(2));
        assert_eq!(timers.pop_due(at(10)), None);
        assert_eq!(timers.pop_due(at(31)), Some(1));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn an_earlier_wish_wins_and_a_later_one_costs_nothing() {
        let mut timers = Timers::default();
        timers.set(1, at(30));
        timers.set(1, at(10));
        for later in 40..1000 {
            timers.set(1, at(later));
        }
        assert_eq!(timers.heap.len(), 2);
        assert_eq!(timers.pop_due(at(1000)), Some(1));
        assert_eq!(timers.pop_due(at(1000)), None);
    }

    #[test]
    fn a_cleared_id_is_never_due() {
        let mut timers = Timers::default();
        timers.set(1, at(10));
        timers.clear(1);
        assert_eq!(timers.next(), None);
        assert_eq!(timers.pop_due(at(99)), None);
    }
}
