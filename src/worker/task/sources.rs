//! The partitions of the source topics, as the member thread sees them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::worker::kafka::members::Partition;

/// Every partition of every source topic, sorted.
pub(crate) type SourceList = Arc<Vec<(String, i32)>>;

/// What is known of the source topics.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    all: RwLock<SourceList>,
    /// By source topic, the first partition that was added after the group started.
    grown: RwLock<BTreeMap<String, i32>>,
}

// === impl Sources ===

impl Sources {
    /// All of them.
    pub(crate) fn all(&self) -> SourceList {
        self.all.read().map(|s| Arc::clone(&s)).unwrap_or_default()
    }

    /// Whether a source partition has been seen.
    pub(crate) fn knows(&self, p: &Partition) -> bool {
        let wanted = (p.topic.as_str(), p.partition);
        self.all().binary_search_by(|(topic, partition)| (topic.as_str(), *partition).cmp(&wanted)).is_ok()
    }

    /// The source topics have changed.
    pub(crate) fn set(&self, sources: Vec<(String, i32)>) {
        if let Ok(mut slot) = self.all.write() {
            *slot = Arc::new(sources);
        }
    }

    /// From these partitions on, source topics have come after the group. To be added before a task of them is opened; what was
    /// added before stays.
    pub(crate) fn add_grown(&self, grown: impl IntoIterator<Item = (String, i32)>) {
        let mut known = self.grown.write().unwrap_or_else(PoisonError::into_inner);
        for (topic, first) in grown {
            known.entry(topic).or_insert(first);
        }
    }

    /// Whether a partition was added while the group was running. It is read from its beginning, wherever the others
    /// started.
    pub(crate) fn has_grown(&self, topic: &str, partition: i32) -> bool {
        let grown = self.grown.read().unwrap_or_else(PoisonError::into_inner);
        grown.get(topic).is_some_and(|&first| partition >= first)
    }
}
