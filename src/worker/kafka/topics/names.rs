//! The names of the internal topics of a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::{by_trace_topic, journal_topic};

/// The names of the internal topics of a group. Those of shards depend on its sharding, which only the brokers know: clones
/// share what has been found out.
#[derive(Debug, Clone)]
pub struct TopicNames {
    pub(super) group: String,
    sharding: Arc<AtomicU32>,
}

// === impl TopicNames ===

impl TopicNames {
    /// The names of a group in its first sharding, until another one is found.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned(), sharding: Arc::default() }
    }

    /// The names of the same group in another sharding, by its number.
    #[must_use]
    pub fn in_sharding(&self, number: u32) -> Self {
        Self { group: self.group.clone(), sharding: Arc::new(number.into()) }
    }

    /// The sharding of the group has been found out, for this and all clones.
    pub fn enter(&self, number: u32) {
        self.sharding.store(number, Ordering::Relaxed);
    }

    /// The number of the sharding.
    #[must_use]
    pub fn sharding(&self) -> u32 {
        self.sharding.load(Ordering::Relaxed)
    }

    /// The topic whose last record is the sharding of the group; there is none in the first one.
    #[must_use]
    pub fn shardings(&self) -> String {
        format!("{}-series-journal.sharding", self.group)
    }

    /// The name of a topic with a partition for each shard.
    fn by_shard(&self, name: &str) -> String {
        match self.sharding() {
            0 => format!("{}-{name}", self.group),
            number => format!("{}-{name}.{number}", self.group),
        }
    }

    /// The journal of the span tasks of a source topic.
    #[must_use]
    pub fn journal(&self, source: &str) -> String {
        journal_topic(&self.group, source)
    }

    /// The source topic of a journal of span tasks; `None` for every other topic.
    #[must_use]
    pub fn source<'a>(&self, journal: &'a str) -> Option<&'a str> {
        let rest = journal.strip_prefix(&self.group)?.strip_prefix('-')?;
        let source = rest.strip_suffix("-journal").or_else(|| rest.strip_suffix(".journal"));
        source.filter(|source| self.journal(source) == journal)
    }

    /// Whether an internal topic of the group is a journal: of span tasks, or of series tasks.
    #[must_use]
    pub fn is_journal(&self, topic: &str) -> bool {
        topic != self.deltas() && topic != self.plan() && topic != self.shardings()
    }

    /// The topic to which a source topic is repartitioned by trace ID.
    #[must_use]
    pub fn by_trace(&self, source: &str) -> String {
        by_trace_topic(&self.group, source)
    }

    /// The group of the stage that does it.
    #[must_use]
    pub fn repartition_group(&self) -> String {
        format!("{}-repartition", self.group)
    }

    /// The deltas topic.
    #[must_use]
    pub fn deltas(&self) -> String {
        self.by_shard("deltas")
    }

    /// The group that assigns the shards. The assignor balances the partitions of a group by their number alone: in a
    /// single group, one worker could get all the light shards and another all the heavy source partitions.
    #[must_use]
    pub fn shards_group(&self) -> String {
        format!("{}-shards", self.group)
    }

    /// The plan of a replay.
    #[must_use]
    pub fn plan(&self) -> String {
        format!("{}-plan", self.group)
    }

    /// The journal of the series tasks.
    #[must_use]
    pub fn series_journal(&self) -> String {
        self.by_shard("series-journal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_topics_of_shards_have_another_name_in_a_later_sharding_and_clones_learn_of_it() {
        let names = TopicNames::new("mill");
        let of = |names: &TopicNames| [names.journal("spans"), names.deltas(), names.series_journal()];
        assert_eq!(of(&names), ["mill-spans-journal", "mill-deltas", "mill-series-journal"]);
        let (later, clone) = (names.in_sharding(7), names.clone());
        assert_eq!(of(&later), ["mill-spans-journal", "mill-deltas.7", "mill-series-journal.7"]);
        assert_eq!(of(&names)[1], "mill-deltas");
        names.enter(2);
        assert_eq!((of(&clone), clone.sharding()), (of(&names.in_sharding(2)), 2));
        assert!(clone.is_journal("mill-series-journal.2") && !clone.is_journal("mill-deltas.2"));
        assert!(!clone.is_journal("mill-series-journal.sharding"));
    }
}
