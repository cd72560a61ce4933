//! The delta chain: which delta records a shard adds up. Each source partition's delta records count once and in order,
//! whichever worker sent them: delta records that a new owner resends are duplicates, and those of a zombie have the
//! same bytes.

use std::collections::BTreeMap;

use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

/// The verdict on one delta record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainVerdict {
    /// It is the next one: add it up.
    Accepted {
        /// It was the last part of its delta record.
        complete: bool,
    },
    /// It was added up before: skip it.
    Duplicate,
    /// An earlier record is missing: skip it, its sender will send both again.
    Ahead,
}

/// Per source partition, the next delta record that counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeltaChain {
    topics: BTreeMap<String, BTreeMap<i32, Position>>,
}

/// The number of a commit and the part of its delta record.
type Position = (u64, u32);

// === impl DeltaChain ===

impl DeltaChain {
    /// No source has sent anything yet; every chain starts with part 0 of commit 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The chain that has counted all commits below these numbers: source topic, partition, number.
    #[must_use]
    pub fn of_commits<'a>(all: impl IntoIterator<Item = (&'a str, i32, u64)>) -> Self {
        let mut chain = Self::default();
        for (topic, partition, commits) in all.into_iter().filter(|(.., commits)| *commits > 0) {
            chain.topics.entry(topic.to_owned()).or_default().insert(partition, (commits, 0));
        }
        chain
    }

    /// Judges part `part` of the `parts` of the delta record of commit `commit_number` of a source partition, and
    /// advances the chain if it counts.
    pub fn accept(&mut self, topic: &str, partition: i32, commit_number: u64, part: u32, parts: u32) -> ChainVerdict {
        let next = self.next(topic, partition);
        #[cfg(feature = "sabotage")]
        let next = if super::sabotage::is_off(super::sabotage::Rule::Chain) { (commit_number, part) } else { next };
        if (commit_number, part) < next {
            return ChainVerdict::Duplicate;
        }
        if (commit_number, part) > next || part >= parts {
            return ChainVerdict::Ahead;
        }
        let complete = part + 1 == parts;
        let after = if complete { (commit_number + 1, 0) } else { (commit_number, part + 1) };
        // Not by entry: this copies the name of a topic once, and not with every delta record.
        match self.topics.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, after),
            None => self.topics.entry(topic.to_owned()).or_default().insert(partition, after),
        };
        ChainVerdict::Accepted { complete }
    }

    /// The commit number and the part that count next for a source partition.
    #[must_use]
    pub fn next(&self, topic: &str, partition: i32) -> (u64, u32) {
        self.topics.get(topic).and_then(|partitions| partitions.get(&partition)).copied().unwrap_or_default()
    }

    /// Whether part `part` of the delta record of commit `commit_number` of a source partition lies before what counts next.
    #[must_use]
    pub fn counts(&self, topic: &str, partition: i32, commit_number: u64, part: u32) -> bool {
        (commit_number, part) < self.next(topic, partition)
    }

    /// The sources of which `other` counts more, each with the commit whose delta record is the first that this one lacks.
    #[must_use]
    pub fn lacks(&self, other: &Self) -> Vec<(String, i32, u64)> {
        let behind = other.sources().filter(|(topic, partition, next)| self.next(topic, *partition) < *next);
        behind.map(|(topic, partition, _)| (topic.to_owned(), partition, self.next(topic, partition).0)).collect()
    }

    /// Every source partition that has sent anything, with what counts next, sorted.
    pub fn sources(&self) -> impl Iterator<Item = (&str, i32, (u64, u32))> {
        self.topics
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |(&p, &next)| (topic.as_str(), p, next)))
    }

    /// Appends the chain in a compact form, for a step-close record: a topic is named once.
    pub(super) fn encode_short(&self, out: &mut Vec<u8>) {
        put_u64(out, self.topics.len() as u64);
        for (topic, partitions) in &self.topics {
            put_bytes(out, topic.as_bytes());
            put_u64(out, partitions.len() as u64);
            for (partition, (commit_number, part)) in partitions {
                put_u64(out, partition.unsigned_abs().into());
                put_u64(out, *commit_number);
                put_u64(out, (*part).into());
            }
        }
    }

    /// Reads what [`DeltaChain::encode_short`] wrote.
    pub(super) fn decode_short(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut chain = Self::default();
        for _ in 0..r.u64()? {
            let topic = r.str()?.to_owned();
            let partitions = chain.topics.entry(topic).or_default();
            for _ in 0..r.u64()? {
                partitions.insert(r.uint()?, (r.u64()?, r.uint()?));
            }
        }
        Ok(chain)
    }

    /// Appends the chain's bytes, for a snapshot.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.sources().count() as u64);
        for (topic, partition, (commit_number, part)) in self.sources() {
            put_bytes(out, topic.as_bytes());
            put_i64(out, partition.into());
            put_u64(out, commit_number);
            put_u64(out, part.into());
        }
    }

    /// Reads a chain.
    ///
    /// # Errors
    /// When the bytes are not what [`DeltaChain::encode`] writes.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut chain = Self::default();
        for _ in 0..r.u64()? {
            let topic = r.str()?;
            let partition = i32::try_from(r.i64()?).map_err(|_| Malformed("partition out of range"))?;
            let next = (r.u64()?, r.uint()?);
            chain.topics.entry(topic.to_owned()).or_default().insert(partition, next);
        }
        Ok(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delta_record_counts_once_and_in_order() {
        let mut chain = DeltaChain::new();
        assert_eq!(chain.accept("spans", 0, 1, 0, 1), ChainVerdict::Ahead);
        assert_eq!(chain.accept("spans", 0, 0, 0, 1), ChainVerdict::Accepted { complete: true });
        assert_eq!(chain.accept("spans", 0, 0, 0, 1), ChainVerdict::Duplicate);
        assert_eq!(chain.accept("spans", 0, 1, 0, 1), ChainVerdict::Accepted { complete: true });
        assert_eq!(chain.accept("spans", 1, 1, 0, 1), ChainVerdict::Ahead);
        assert_eq!(chain.accept("other", 0, 0, 0, 1), ChainVerdict::Accepted { complete: true });
    }

    #[test]
    fn the_parts_of_a_delta_record_may_come_from_two_senders() {
        let mut chain = DeltaChain::new();
        assert_eq!(chain.accept("spans", 0, 0, 0, 3), ChainVerdict::Accepted { complete: false });
        assert_eq!(chain.accept("spans", 0, 0, 2, 3), ChainVerdict::Ahead);
        assert_eq!(chain.accept("spans", 0, 0, 0, 3), ChainVerdict::Duplicate);
        assert_eq!(chain.accept("spans", 0, 0, 1, 3), ChainVerdict::Accepted { complete: false });
        assert_eq!(chain.accept("spans", 0, 0, 2, 3), ChainVerdict::Accepted { complete: true });
        assert_eq!(chain.next("spans", 0), (1, 0));
    }

    #[test]
    fn a_chain_says_what_it_lacks_of_another() {
        let (mut ahead, mut chain) = (DeltaChain::new(), DeltaChain::new());
        for (commit_number, part) in [(0, 0), (0, 1), (1, 0)] {
            ahead.accept("spans", 0, commit_number, part, 2);
        }
        ahead.accept("spans", 1, 0, 0, 1);
        chain.accept("spans", 0, 0, 0, 2);
        chain.accept("other", 0, 0, 0, 1);
        assert_eq!(chain.lacks(&ahead), [("spans".to_owned(), 0, 0), ("spans".to_owned(), 1, 0)]);
        assert_eq!(ahead.lacks(&ahead), []);
        assert!(ahead.counts("spans", 0, 1, 0) && !ahead.counts("spans", 0, 1, 1));
        let mut out = Vec::new();
        ahead.encode_short(&mut out);
        assert_eq!(DeltaChain::decode_short(&mut Reader::new(&out)), Ok(ahead));
    }

    #[test]
    fn a_part_beyond_its_parts_never_counts() {
        assert_eq!(DeltaChain::new().accept("spans", 0, 0, 0, 0), ChainVerdict::Ahead);
    }

    #[test]
    fn a_chain_survives_the_round_trip_sorted() {
        let mut chain = DeltaChain::new();
        for (topic, partition) in [("b", 2), ("b", 10), ("a", 7)] {
            chain.accept(topic, partition, 0, 0, 2);
        }
        let mut out = Vec::new();
        chain.encode(&mut out);
        let back = DeltaChain::decode(&mut Reader::new(&out)).expect("just encoded");
        assert_eq!(back, chain);
        let sources: Vec<_> = back.sources().collect();
        assert_eq!(sources, [("a", 7, (0, 1)), ("b", 2, (0, 1)), ("b", 10, (0, 1))]);
        out.pop();
        assert!(DeltaChain::decode(&mut Reader::new(&out)).is_err());
    }
}
