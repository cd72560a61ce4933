//! All shards count the delta records of all commits, whatever they have received of them.

use std::collections::BTreeMap;

use super::sending::Shard;
use super::{APPENDS_WITHIN, Attempt, ReshardError};
use crate::core::journal::DeltaChain;
use crate::worker::kafka::reader::Stretch;
use crate::worker::restore::SpanJournal;
use crate::worker::series_task::told;
use crate::worker::task::Held;

/// A journal of a source partition, and what it holds.
pub(super) struct Source {
    pub(super) journal: SpanJournal,
    /// How many commits.
    pub(super) commits: u64,
    /// For which sharding it is reserved.
    pub(super) sharding: u32,
}

impl Attempt<'_> {
    /// The journals of all source partitions.
    pub(super) fn journals(&self) -> Result<Vec<Source>, ReshardError> {
        let mut all = Vec::new();
        for (topic, _) in self.topics.all_sources()? {
            self.add_journals(&topic, &mut all)?;
        }
        Ok(all)
    }

    fn add_journals(&self, topic: &str, all: &mut Vec<Source>) -> Result<(), ReshardError> {
        let partitions = self.topics.partitions(&self.topics.names().journal(topic))?.unwrap_or(0);
        for partition in 0..partitions {
            let journal = SpanJournal { topic: topic.to_owned(), partition };
            let (commits, sharding) = self.offline.holds(&journal)?;
            all.push(Source { journal, commits, sharding });
        }
        Ok(())
    }

    pub(super) fn acquire(&self) -> Result<Vec<Shard>, ReshardError> {
        let acquire = |partition: u32| {
            let mut held = Held::new(&self.offline.means.clients.memory);
            let taken = self.offline.shard(partition.cast_signed(), &mut held)?;
            if taken.ended {
                return Err(ReshardError::Ended);
            }
            Ok(Shard::new(partition, taken))
        };
        (0..self.before.shards).map(acquire).collect()
    }

    /// Returns how many delta records some shard had not received.
    pub(super) fn count(&self, shards: &mut [Shard], sources: &mut Vec<Source>) -> Result<usize, ReshardError> {
        shards.iter_mut().try_for_each(|shard| self.read_on(shard))?;
        self.add_removed(shards, sources)?;
        let mut sent = 0;
        for source in sources.iter() {
            sent += self.send_lacked(shards, source)?;
        }
        if sent > 0 {
            shards.iter_mut().try_for_each(|shard| self.read_on(shard))?;
        }
        let all = sources.iter().map(|s| (s.journal.topic.as_str(), s.journal.partition, s.commits));
        let wanted = DeltaChain::of_commits(all);
        shards.iter().try_for_each(|shard| stands_at(shard, &wanted))?;
        Ok(sent)
    }

    /// Reads what there is of the deltas.
    fn read_on(&self, shard: &mut Shard) -> Result<(), ReshardError> {
        let (deltas, partition) = (self.topics.names().deltas(), shard.partition());
        let (low, to) = self.offline.reader.bounds(&deltas, partition)?;
        let from = shard.position.max(low);
        let mut contradicts = false;
        let stretch = Stretch { topic: &deltas, partition, from, to };
        self.offline.reader.read::<ReshardError>(stretch, &self.offline.means.stop, &mut |offset, record| {
            let applied = told(shard.task.apply(record).map(Some), partition, offset);
            let applied = applied.map_err(|e| ReshardError::Journal(e.to_string()))?;
            contradicts |= applied.is_some_and(|applied| applied.other);
            Ok(())
        })?;
        shard.position = to.max(from);
        if contradicts { Err(ReshardError::Contradicted(partition)) } else { Ok(()) }
    }

    /// Sources that are no longer configured may still have a journal, and commits that not all shards have counted.
    fn add_removed(&self, shards: &[Shard], sources: &mut Vec<Source>) -> Result<(), ReshardError> {
        let mut counted: BTreeMap<(String, i32), u64> = BTreeMap::new();
        for (topic, partition, (commits, _)) in shards.iter().flat_map(|shard| shard.task.counted().0.sources()) {
            let known = counted.entry((topic.to_owned(), partition)).or_default();
            *known = commits.max(*known);
        }
        for ((topic, partition), commits) in counted {
            let is_known = |sources: &[Source]| {
                sources.iter().any(|s| s.journal.topic == topic && s.journal.partition == partition)
            };
            if !is_known(sources) && sources.iter().all(|s| s.journal.topic != topic) {
                self.add_journals(&topic, sources)?;
            }
            if !is_known(sources) {
                // Its journal is gone, so all shards must have counted the same.
                let journal = SpanJournal { topic, partition };
                sources.push(Source { journal, commits, sharding: u32::MAX });
            }
        }
        Ok(())
    }

    /// Sends the delta records of a source that shards lack once more.
    fn send_lacked(&self, shards: &[Shard], source: &Source) -> Result<usize, ReshardError> {
        let SpanJournal { topic, partition } = &source.journal;
        let lacks =
            |shard: &Shard| Some(shard.task.counted().0.next(topic, *partition).0).filter(|n| *n < source.commits);
        let lacked: BTreeMap<u32, u64> =
            shards.iter().filter_map(|shard| Some((shard.number, lacks(shard)?))).collect();
        if lacked.is_empty() || source.is_gone() {
            return Ok(0);
        }
        let (deltas, mut sent) = (self.topics.names().deltas(), 0);
        for (_, delta_records) in self.offline.lacked(&source.journal, &lacked, source.commits)? {
            for (shard, parts) in (0..).zip(delta_records) {
                for part in parts {
                    // What becomes of it is seen when it is read.
                    let appender = &self.offline.means.clients.appender;
                    appender.append_and_wait(&deltas, shard, &part, APPENDS_WITHIN)?;
                    sent += 1;
                }
            }
        }
        Ok(sent)
    }
}

/// Checks that a shard has counted all of these and nothing else.
fn stands_at(shard: &Shard, wanted: &DeltaChain) -> Result<(), ReshardError> {
    if shard.task.stands_at(wanted) {
        return Ok(());
    }
    let counted = shard.task.counted().0;
    let places = wanted.sources().chain(counted.sources()).map(|(topic, partition, _)| (topic, partition));
    let differs = |(topic, partition): &(&str, i32)| wanted.next(topic, *partition) != counted.next(topic, *partition);
    let (topic, partition) = places.into_iter().find(differs).unwrap_or(("", 0));
    let (shard, topic) = (shard.partition(), topic.to_owned());
    let [(counted, _), (commits, _)] = [counted, wanted].map(|chain| chain.next(&topic, partition));
    Err(ReshardError::Lacks { shard, topic, partition, counted, commits })
}

// === impl Source ===

impl Source {
    /// Whether there is no journal any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sharding == u32::MAX
    }
}
