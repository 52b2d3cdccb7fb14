//! Which namespaces weavers live in, and in which of them one does: decided by its id alone.

use std::num::NonZeroU16;

use weaver::WeaverId;

use crate::settings::Settings;

/// The namespaces of a deployment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shards<'a> {
    base: &'a str,
    number: Option<NonZeroU16>,
}

impl<'a> Shards<'a> {
    pub(crate) fn new(settings: &'a Settings) -> Self {
        Self { base: &settings.namespace, number: settings.shards }
    }

    /// Returns how many there are.
    pub(crate) fn count(self) -> u16 {
        self.number.map_or(1, NonZeroU16::get)
    }

    /// Returns the one of this number, from 0.
    pub(crate) fn name(self, shard: u16) -> String {
        match self.number {
            Some(_) => format!("{}-{shard}", self.base),
            None => self.base.to_owned(),
        }
    }

    pub(crate) fn names(self) -> impl Iterator<Item = String> + use<'a> {
        (0..self.count()).map(move |shard| self.name(shard))
    }

    /// Returns the one in which this weaver lives.
    pub(crate) fn of(self, id: WeaverId) -> String {
        self.name(highest(id, self.count()))
    }

    /// Reads a cursor: the shard where the page begins, and Kubernetes' own cursor within it.
    /// `None` when it is none of ours, or from a time with more shards.
    pub(crate) fn position(self, cursor: Option<&str>) -> Option<(u16, Option<String>)> {
        let Some(cursor) = cursor else { return Some((0, None)) };
        if self.number.is_none() {
            return Some((0, Some(cursor.to_owned())));
        }
        let (shard, within) = cursor.split_once('.')?;
        let shard = shard.parse().ok().filter(|shard| *shard < self.count())?;
        Some((shard, Some(within.to_owned()).filter(|within| !within.is_empty())))
    }

    /// Returns where the page after one of this shard begins; `within` is Kubernetes' own cursor.
    pub(crate) fn next(self, shard: u16, within: Option<String>) -> Option<String> {
        match (self.number, within) {
            (None, within) => within,
            (Some(_), Some(within)) => Some(format!("{shard}.{within}")),
            (Some(number), None) => {
                let next = shard + 1;
                (next < number.get()).then(|| format!("{next}."))
            }
        }
    }
}

/// Rendezvous hashing: the shard whose weight for this id is highest. With one shard more, only the
/// weavers of that one are elsewhere than before.
fn highest(id: WeaverId, count: u16) -> u16 {
    (0..count).max_by_key(|shard| weight(id.uuid().as_u128(), *shard)).unwrap_or_default()
}

/// Must never change: pods are found by it.
fn weight(id: u128, shard: u16) -> u64 {
    let (high, low) = (id >> 64, id & u128::from(u64::MAX));
    let [high, low] = [high, low].map(|half| u64::try_from(half).unwrap_or_default());
    mix(mix(mix(high) ^ low) ^ u64::from(shard))
}

/// The output function of `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>): every bit of the
/// input changes every bit of the output half of the time.
fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn settings(shards: u16) -> Settings {
        Settings { shards: NonZeroU16::new(shards), ..Settings::default() }
    }

    fn id(number: u128) -> WeaverId {
        WeaverId::from_uuid(Uuid::from_u128(number))
    }

    /// Ids as they are made one after the other: only their low bits differ.
    fn ids() -> impl Iterator<Item = WeaverId> {
        (0..3000).map(|nth| id(0x018e_2b3c_4d5e_7f8a_9b0c_0000_0000_0000 + nth))
    }

    #[test]
    fn without_shards_there_is_the_documents_namespace() {
        let settings = settings(0);
        let shards = Shards::new(&settings);
        assert_eq!(shards.names().collect::<Vec<_>>(), ["loom-weavers"]);
        assert_eq!(shards.of(id(1)), "loom-weavers");
        assert_eq!(shards.position(Some("2.abc")), Some((0, Some("2.abc".to_owned()))));
        assert_eq!(shards.next(0, Some("abc".to_owned())).as_deref(), Some("abc"));
        assert_eq!(shards.next(0, None), None);
    }

    #[test]
    fn the_place_of_an_id_never_changes() {
        let places = [0, 1, 2, 3, 4, u128::MAX, 0x018e_2b3c_4d5e_7f8a_9b0c_1d2e_3f4a_5b6c]
            .map(|number| highest(id(number), 5));
        assert_eq!(places, [2, 4, 0, 4, 4, 0, 4]);
    }

    #[test]
    fn shards_fill_evenly() {
        let settings = settings(3);
        let mut many = BTreeMap::<_, u32>::new();
        for id in ids() {
            *many.entry(Shards::new(&settings).of(id)).or_default() += 1;
        }
        assert_eq!(
            many.keys().collect::<Vec<_>>(),
            ["loom-weavers-0", "loom-weavers-1", "loom-weavers-2"]
        );
        assert!(many.values().all(|many| (900..1100).contains(many)), "{many:?}");
    }

    #[test]
    fn one_shard_more_takes_only_its_own() {
        let (before, after) = (settings(3), settings(4));
        let (before, after) = (Shards::new(&before), Shards::new(&after));
        let moved: Vec<_> = ids().filter(|id| before.of(*id) != after.of(*id)).collect();
        assert!((600..900).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|id| after.of(*id) == "loom-weavers-3"));
    }

    #[test]
    fn cursors_go_through_the_shards_in_order() {
        let settings = settings(3);
        let shards = Shards::new(&settings);
        assert_eq!(shards.position(None), Some((0, None)));
        for (at, within, next) in [
            (0, Some("abc"), Some("0.abc")),
            (0, None, Some("1.")),
            (1, None, Some("2.")),
            (2, Some("a.b"), Some("2.a.b")),
            (2, None, None),
        ] {
            let next_one = shards.next(at, within.map(str::to_owned));
            assert_eq!(next_one.as_deref(), next);
            let Some(cursor) = next_one else { continue };
            let position = shards.position(Some(&cursor)).unwrap();
            assert_eq!(position.1.as_deref(), within);
            assert_eq!(position.0, if within.is_some() { at } else { at + 1 });
        }
    }

    #[test]
    fn abuse_cursors_that_are_none_of_ours_are_refused() {
        let settings = settings(3);
        for cursor in ["", "abc", "3.", "-1.a", "65536.a", ".a", "x.a", " 1.a", "1"] {
            assert_eq!(Shards::new(&settings).position(Some(cursor)), None, "{cursor}");
        }
    }

    proptest! {
        #[test]
        fn no_cursor_panics(cursor in ".{0,40}", number in 0..300_u16) {
            let settings = settings(number);
            let shards = Shards::new(&settings);
            if let Some((shard, _)) = shards.position(Some(&cursor)) {
                prop_assert!(shard < shards.count());
            }
        }
    }
}
