//! The names of the internal topics of a group.

use crate::config::{by_trace_topic, journal_topic};

/// The names of the internal topics of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNames {
    pub(super) group: String,
}

// === impl TopicNames ===

impl TopicNames {
    /// The names of a group.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned() }
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
        topic != self.deltas() && topic != self.plan()
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
        format!("{}-deltas", self.group)
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
        format!("{}-series-journal", self.group)
    }
}
