//! The partitions of the source topics, as the member thread sees them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock};

use crate::worker::kafka::members::Partition;

/// Every partition of every source topic, sorted.
pub(crate) type SourceList = Arc<Vec<(String, i32)>>;

/// What is known of the source topics.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    all: RwLock<SourceList>,
    /// By source topic, the first partition that was added after the group started.
    grown: OnceLock<BTreeMap<String, i32>>,
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

    /// Before the first task is opened.
    pub(crate) fn set_grown(&self, grown: BTreeMap<String, i32>) {
        if self.grown.set(grown).is_err() {
            tracing::error!("the source topics were recorded twice");
        }
    }

    /// Whether a partition was added while the group was running. It is read from its beginning, wherever the others
    /// started.
    pub(crate) fn has_grown(&self, topic: &str, partition: i32) -> bool {
        self.grown.get().and_then(|grown| grown.get(topic)).is_some_and(|&first| partition >= first)
    }
}
