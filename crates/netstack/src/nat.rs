//! Which host socket stands for which conversation of the pod without connection, and for how long.

use std::collections::HashMap;
use std::net::SocketAddr;

use smoltcp::time::{Duration, Instant};

/// Silence after which a conversation is forgotten. RFC 4787 asks for at least two minutes of
/// routers; here a forgotten one only costs a new host port.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// Conversations at a time; the one silent for longest makes room.
pub(crate) const MAX_CONVERSATIONS: usize = 1024;

/// The pod's address and the one it talks to: a connection, or a UDP conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) pod: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// Conversations with the time of their last packet.
#[derive(Debug)]
pub(crate) struct Nat<T> {
    entries: HashMap<Pair, (Instant, T)>,
    limit: usize,
}

impl<T> Nat<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), limit }
    }

    /// Returns a conversation and starts its idle time again.
    pub(crate) fn touch(&mut self, pair: &Pair, now: Instant) -> Option<&mut T> {
        let (last, value) = self.entries.get_mut(pair)?;
        *last = now;
        Some(value)
    }

    /// Adds a conversation; returns the one that had to go for it.
    pub(crate) fn insert(&mut self, pair: Pair, value: T, now: Instant) -> Option<(Pair, T)> {
        let full = self.entries.len() >= self.limit && !self.entries.contains_key(&pair);
        let oldest = full.then(|| self.oldest()).flatten();
        let evicted = oldest.and_then(|(_, pair)| self.remove(&pair).map(|value| (pair, value)));
        self.entries.insert(pair, (now, value));
        evicted
    }

    pub(crate) fn remove(&mut self, pair: &Pair) -> Option<T> {
        self.entries.remove(pair).map(|(_, value)| value)
    }

    /// Takes one conversation that has been silent for too long.
    pub(crate) fn pop_idle(&mut self, now: Instant) -> Option<(Pair, T)> {
        let (last, pair) = self.oldest()?;
        if last + IDLE > now {
            return None;
        }
        self.remove(&pair).map(|value| (pair, value))
    }

    /// Returns when the next conversation is silent for too long, if nothing is said until then.
    pub(crate) fn next_idle(&self) -> Option<Instant> {
        self.oldest().map(|(last, _)| last + IDLE)
    }

    fn oldest(&self) -> Option<(Instant, Pair)> {
        self.entries.iter().map(|(pair, (last, _))| (*last, *pair)).min()
    }
}

/// Conversations as the event queue knows them: by the ids of their sockets.
#[derive(Debug)]
pub(crate) struct Conversations<T> {
    nat: Nat<(u64, T)>,
    pairs: HashMap<u64, Pair>,
    /// Not later than the moment the first conversation has been idle for too long.
    sweep_at: Option<Instant>,
}

impl<T> Conversations<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { nat: Nat::new(limit), pairs: HashMap::new(), sweep_at: None }
    }

    pub(crate) fn pair(&self, id: u64) -> Option<Pair> {
        self.pairs.get(&id).copied()
    }

    /// Returns a conversation and starts its idle time again.
    pub(crate) fn touch(&mut self, pair: &Pair, now: Instant) -> Option<&mut T> {
        self.nat.touch(pair, now).map(|(_, value)| value)
    }

    /// Adds a conversation; the one silent for longest makes room.
    pub(crate) fn insert(&mut self, pair: Pair, id: u64, value: T, now: Instant) {
        self.pairs.insert(id, pair);
        if let Some((_, (evicted, _))) = self.nat.insert(pair, (id, value), now) {
            self.pairs.remove(&evicted);
        }
        self.sweep_at = self.sweep_at.or_else(|| self.nat.next_idle());
    }

    pub(crate) fn remove(&mut self, pair: &Pair) {
        if let Some((id, _)) = self.nat.remove(pair) {
            self.pairs.remove(&id);
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        while let Some((_, (id, _))) = self.nat.pop_idle(now) {
            self.pairs.remove(&id);
        }
        self.sweep_at = self.nat.next_idle();
    }

    /// Returns when [`Conversations::sweep`] is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.sweep_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(port: u16) -> Pair {
        Pair { pod: (crate::POD_IP, port).into(), peer: ([192, 0, 2, 1], 9).into() }
    }

    fn at(seconds: i64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn a_conversation_lives_sixty_seconds_after_its_last_packet() {
        let mut nat = Nat::new(8);
        nat.insert(pair(1), "one", at(0));
        nat.insert(pair(2), "two", at(1));
        assert_eq!(nat.next_idle(), Some(at(60)));
        assert_eq!(nat.touch(&pair(1), at(50)), Some(&mut "one"));
        assert_eq!(nat.next_idle(), Some(at(61)));
        assert_eq!(nat.pop_idle(at(60)), None);
        assert_eq!(nat.pop_idle(at(61)), Some((pair(2), "two")));
        assert_eq!(nat.pop_idle(at(109)), None);
        assert_eq!(nat.pop_idle(at(110)), Some((pair(1), "one")));
        assert_eq!(nat.next_idle(), None);
    }

    #[test]
    fn the_most_silent_one_makes_room() {
        let mut nat = Nat::new(2);
        assert_eq!(nat.insert(pair(1), 1, at(0)), None);
        assert_eq!(nat.insert(pair(2), 2, at(1)), None);
        nat.touch(&pair(1), at(2));
        assert_eq!(nat.insert(pair(3), 3, at(3)), Some((pair(2), 2)));
        assert_eq!(nat.insert(pair(3), 4, at(4)), None, "the same pair needs no room");
        assert!(nat.touch(&pair(1), at(5)).is_some());
    }

    #[test]
    fn peers_and_ports_are_told_apart() {
        let mut nat = Nat::new(8);
        let other = Pair { peer: ([192, 0, 2, 2], 9).into(), ..pair(1) };
        nat.insert(pair(1), "first", at(0));
        assert!(nat.touch(&other, at(0)).is_none());
        assert!(nat.touch(&pair(2), at(0)).is_none());
        assert_eq!(nat.remove(&pair(1)), Some("first"));
        assert!(nat.touch(&pair(1), at(0)).is_none());
    }
}
