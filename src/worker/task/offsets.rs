//! How far tasks have come, for the member thread: what is committed to the groups, and what may be deleted.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::worker::kafka::members::Partition;

/// Tasks write it, the member thread reads it.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    /// How far the journal of a partition has accepted records, for the group's lag dashboards.
    positions: Mutex<BTreeMap<Partition, i64>>,
    /// Below which offset a partition of an internal topic is not needed any more.
    trims: Mutex<BTreeMap<Partition, i64>>,
}

// === impl Offsets ===

impl Offsets {
    pub(crate) fn note_position(&self, topic: &str, partition: i32, offset: i64) {
        note(&self.positions, topic, partition, offset);
    }

    pub(crate) fn note_trim(&self, topic: &str, partition: i32, offset: i64) {
        note(&self.trims, topic, partition, offset);
    }

    pub(crate) fn take_positions(&self) -> Vec<(Partition, i64)> {
        take(&self.positions)
    }

    pub(crate) fn take_trims(&self) -> Vec<(Partition, i64)> {
        take(&self.trims)
    }
}

fn note(statuses: &Mutex<BTreeMap<Partition, i64>>, topic: &str, partition: i32, offset: i64) {
    if let Ok(mut statuses) = statuses.lock() {
        statuses.insert(Partition { topic: topic.to_owned(), partition }, offset);
    }
}

fn take(statuses: &Mutex<BTreeMap<Partition, i64>>) -> Vec<(Partition, i64)> {
    statuses.lock().map(|mut b| std::mem::take(&mut *b).into_iter().collect()).unwrap_or_default()
}
