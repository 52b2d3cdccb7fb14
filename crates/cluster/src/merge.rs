//! Several watches as one: what each shard reports, as if there were no shards.

use std::collections::{HashMap, HashSet, VecDeque};

use futures::stream::{self, BoxStream, Stream, StreamExt};
use weaver::WeaverId;

use crate::error::Result;
use crate::found::{Change, Found};

type Changes = BoxStream<'static, Result<Change>>;

/// Merges the watches of all shards. One alone stays as it is.
pub(crate) fn merge(shards: Vec<Changes>) -> BoxStream<'static, Result<Change>> {
    if shards.len() == 1 {
        return stream::iter(shards).flatten().boxed();
    }
    let merger = Merger { missing: (0..shards.len()).collect(), ..Merger::default() };
    let tag = |(shard, changes): (usize, Changes)| changes.map(move |change| (shard, change));
    let all = stream::select_all(shards.into_iter().enumerate().map(tag));
    told(all, merger).boxed()
}

fn told(
    all: impl Stream<Item = (usize, Result<Change>)> + Send + Unpin,
    merger: Merger,
) -> impl Stream<Item = Result<Change>> + Send {
    stream::unfold((all, merger), |(mut all, mut merger)| async {
        loop {
            if let Some(change) = merger.ready.pop_front() {
                return Some((change, (all, merger)));
            }
            let (shard, change) = all.next().await?;
            merger.take(shard, change);
        }
    })
}

/// Knows which weavers are in which shard, so that what one shard has lost sight of is told apart
/// from what the others have.
#[derive(Default)]
struct Merger {
    /// Shards that have not yet said what they hold. Until none is missing only errors are told.
    missing: HashSet<usize>,
    /// What the others hold, by then.
    first: HashMap<WeaverId, Found>,
    known: HashMap<WeaverId, usize>,
    ready: VecDeque<Result<Change>>,
}

impl Merger {
    fn take(&mut self, shard: usize, change: Result<Change>) {
        match change {
            Err(error) => self.ready.push_back(Err(error)),
            Ok(Change::All(found)) => self.all(shard, found),
            Ok(Change::Set(found)) => self.set(shard, *found),
            Ok(Change::Gone(id)) => self.gone(shard, id),
        }
    }

    fn all(&mut self, shard: usize, found: Vec<Found>) {
        let here: HashSet<_> = found.iter().map(|found| found.weaver.id).collect();
        let lost =
            |(id, at): (&WeaverId, &usize)| (*at == shard && !here.contains(id)).then_some(*id);
        let lost: Vec<_> = self.known.iter().filter_map(lost).collect();
        lost.into_iter().for_each(|id| self.gone(shard, id));
        found.into_iter().for_each(|found| self.set(shard, found));
        if self.missing.remove(&shard) && self.missing.is_empty() {
            let all = std::mem::take(&mut self.first).into_values().collect();
            self.ready.push_back(Ok(Change::All(all)));
        }
    }

    fn set(&mut self, shard: usize, found: Found) {
        self.known.insert(found.weaver.id, shard);
        if self.missing.is_empty() {
            self.ready.push_back(Ok(Change::Set(Box::new(found))));
        } else {
            self.first.insert(found.weaver.id, found);
        }
    }

    fn gone(&mut self, shard: usize, id: WeaverId) {
        if self.known.get(&id) != Some(&shard) {
            return;
        }
        self.known.remove(&id);
        if self.missing.is_empty() {
            self.ready.push_back(Ok(Change::Gone(id)));
        } else {
            self.first.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use weaver::Weaver;

    use super::*;
    use crate::error::Error;
    use crate::found::PodFacts;

    fn id(number: u128) -> WeaverId {
        WeaverId::from_uuid(Uuid::from_u128(number))
    }

    fn found(number: u128) -> Found {
        let weaver = Weaver { id: id(number), ..Weaver::sample() };
        Found { weaver, pod: PodFacts::default() }
    }

    fn all(numbers: &[u128]) -> Result<Change> {
        Ok(Change::All(numbers.iter().map(|number| found(*number)).collect()))
    }

    fn set(number: u128) -> Result<Change> {
        Ok(Change::Set(Box::new(found(number))))
    }

    fn gone(number: u128) -> Result<Change> {
        Ok(Change::Gone(id(number)))
    }

    /// Says in short what is told when shards report this in this order.
    fn told(number: usize, reports: Vec<(usize, Result<Change>)>) -> Vec<String> {
        let mut merger = Merger { missing: (0..number).collect(), ..Merger::default() };
        reports.into_iter().for_each(|(shard, change)| merger.take(shard, change));
        let short = |id: WeaverId| id.uuid().as_u128().to_string();
        let words = merger.ready.into_iter().map(|change| match change {
            Err(error) => error.code().to_owned(),
            Ok(Change::Set(found)) => format!("set {}", short(found.weaver.id)),
            Ok(Change::Gone(id)) => format!("gone {}", short(id)),
            Ok(Change::All(found)) => {
                let mut ids: Vec<_> = found.iter().map(|found| short(found.weaver.id)).collect();
                ids.sort();
                format!("all {}", ids.join(","))
            }
        });
        words.collect()
    }

    #[test]
    fn everything_is_told_once_all_shards_have_told_theirs() {
        assert_eq!(told(3, vec![(0, all(&[1])), (2, all(&[3])), (0, set(4))]), [""; 0]);
        let reports =
            vec![(0, all(&[1, 2])), (0, set(4)), (0, gone(1)), (2, all(&[])), (1, all(&[3]))];
        assert_eq!(told(3, reports), ["all 2,3,4"]);
        let again = vec![(0, all(&[1, 2])), (0, all(&[2, 5])), (1, all(&[3]))];
        assert_eq!(
            told(2, again),
            ["all 2,3,5"],
            "a shard that lost history before the others came"
        );
    }

    #[test]
    fn a_shard_that_lost_history_says_nothing_of_the_others() {
        let begun = || vec![(0, all(&[1, 2])), (1, all(&[3]))];
        let mut reports = begun();
        reports.extend([(0, all(&[2, 4])), (1, gone(3)), (1, set(5))]);
        let told_all = told(2, reports);
        assert_eq!(told_all, ["all 1,2,3", "gone 1", "set 2", "set 4", "gone 3", "set 5"]);
    }

    #[test]
    fn errors_are_told_at_once() {
        let down = || Err(Error::unavailable("gone"));
        assert_eq!(told(2, vec![(0, all(&[1])), (1, down())]), ["cluster_unavailable"]);
    }

    #[tokio::test]
    async fn one_namespace_is_told_as_it_is() {
        let one = stream::iter([all(&[1]), all(&[2])]).boxed();
        let changes: Vec<_> = merge(vec![one]).map(Result::unwrap).collect().await;
        assert_eq!(changes.len(), 2);
        assert!(changes.iter().all(|change| matches!(change, Change::All(_))));
        let two = [[all(&[1]), set(3)], [all(&[2]), set(4)]];
        let two = two.map(|reports| stream::iter(reports).boxed());
        let changes: Vec<_> = merge(two.into()).map(Result::unwrap).collect().await;
        assert!(matches!(&changes[0], Change::All(_)));
    }
}
