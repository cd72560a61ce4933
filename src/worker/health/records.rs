//! Whether records can be read and name their tenant, by topic: a topic of another format is refused as a whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::core::model::{Counter, Ledger};
use crate::worker::telemetry::{TaskId, TaskKind, TaskState, TaskStatus};

/// So many records are enough for a judgment; fewer if no more came within [`WAIT`].
const ENOUGH: u64 = 20;
const WAIT: Duration = Duration::from_secs(30);
/// From so many records of ten on, nearly all are unreadable.
const NEARLY_ALL: u64 = 9;

/// The recent records.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The ledger of each task at the last check.
    known: BTreeMap<TaskId, Ledger>,
    topics: BTreeMap<String, Block>,
}

/// Records that are judged together, and the judgment on those before.
#[derive(Debug)]
struct Block {
    begun: Instant,
    read: u64,
    undecodable: u64,
    without_tenant: u64,
    trouble: Option<String>,
}

// === impl Records ===

impl Records {
    /// Takes the state of the task registry; returns the problems, by topic.
    pub(super) fn judge(&mut self, statuses: &[(TaskId, TaskStatus)], present: Instant) -> BTreeMap<String, String> {
        self.known.retain(|id, _| statuses.iter().any(|(other, _)| other == id));
        // This worker does not judge topics that it does not own any more.
        self.topics.retain(|topic, _| statuses.iter().any(|(id, _)| id.kind == TaskKind::Span && id.topic == *topic));
        let span =
            statuses.iter().filter(|(id, s)| id.kind == TaskKind::Span && s.shown && s.state == TaskState::Running);
        for (id, s) in span {
            // Records that were counted before this worker had the partition are no evidence of the present.
            let before = self.known.insert(id.clone(), s.ledger.clone()).or_else(|| s.begun.clone());
            let new =
                |counter| s.ledger.get(counter).saturating_sub(before.as_ref().map_or(0, |before| before.get(counter)));
            let block = self.topics.entry(id.topic.clone()).or_insert_with(|| Block::new(present));
            block.read += new(Counter::RecordsRead);
            block.undecodable += new(Counter::RecordsUndecodable);
            block.without_tenant += new(Counter::RecordsWithoutTenant);
        }
        self.topics.iter_mut().for_each(|(topic, block)| block.judge(topic, present));
        let troubles = self.topics.iter().filter_map(|(topic, block)| Some((topic.clone(), block.trouble.clone()?)));
        troubles.collect()
    }
}

// === impl Block ===

impl Block {
    fn new(present: Instant) -> Self {
        Self { begun: present, read: 0, undecodable: 0, without_tenant: 0, trouble: None }
    }

    fn judge(&mut self, topic: &str, present: Instant) {
        if self.read == 0 {
            self.begun = present;
        }
        if self.read == 0 || self.read < ENOUGH && present.saturating_duration_since(self.begun) < WAIT {
            return;
        }
        let refused = self.undecodable + self.without_tenant;
        let nearly_all = refused.saturating_mul(10) >= self.read.saturating_mul(NEARLY_ALL);
        let trouble = nearly_all.then(|| {
            format!(
                "of the last {} records of {topic}, {} cannot be decoded and {} name no tenant; check that the \
                 producer writes the format of kafka.encoding, and the key or header of tenant.source. The log has a \
                 sample",
                self.read, self.undecodable, self.without_tenant
            )
        });
        *self = Self { trouble, ..Self::new(present) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(counts: &[(i32, u64, u64)]) -> Vec<(TaskId, TaskStatus)> {
        let task = |(partition, read, refused): &(i32, u64, u64)| {
            let mut s = TaskStatus { state: TaskState::Running, shown: true, ..TaskStatus::default() };
            s.ledger.add(Counter::RecordsRead, *read);
            s.ledger.add(Counter::RecordsUndecodable, *refused);
            (TaskId { kind: TaskKind::Span, topic: "spans".to_owned(), partition: *partition }, s)
        };
        counts.iter().map(task).collect()
    }

    #[test]
    fn a_topic_is_in_trouble_while_nearly_all_of_its_latest_records_are_refused() {
        let (start, mut records) = (Instant::now(), Records::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(records.judge(&statuses(&[(0, 100, 3), (1, 0, 0)]), start).is_empty());
        // One partition of two is bad: half of all.
        assert!(records.judge(&statuses(&[(0, 200, 3), (1, 100, 100)]), at(1)).is_empty());
        let troubles = records.judge(&statuses(&[(0, 200, 3), (1, 300, 300)]), at(2));
        assert!(troubles["spans"].contains("of the last 200 records of spans, 200 cannot be decoded"), "{troubles:?}");
        // It stays while nothing comes.
        assert_eq!(records.judge(&statuses(&[(0, 200, 3), (1, 300, 300)]), at(500)), troubles);
        assert!(records.judge(&[], at(501)).is_empty(), "another worker has the topic");
        // It comes back with what is journaled of it, and good records follow.
        let mut again = statuses(&[(1, 330, 301)]);
        again[0].1.begun = Some(statuses(&[(1, 300, 300)])[0].1.ledger.clone());
        assert!(records.judge(&again, at(502)).is_empty());
    }

    #[test]
    fn records_without_a_tenant_count_like_those_that_cannot_be_decoded() {
        let (start, mut records) = (Instant::now(), Records::default());
        let mut statuses = statuses(&[(0, 25, 0)]);
        statuses[0].1.ledger.add(Counter::RecordsWithoutTenant, 25);
        assert!(records.judge(&statuses, start)["spans"].contains("0 cannot be decoded and 25 name no tenant"));
    }

    #[test]
    fn a_few_records_are_judged_after_a_while() {
        let (start, mut records) = (Instant::now(), Records::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(records.judge(&statuses(&[(0, 0, 0)]), at(99)).is_empty());
        assert!(records.judge(&statuses(&[(0, 3, 3)]), at(100)).is_empty());
        assert!(records.judge(&statuses(&[(0, 3, 3)]), at(128)).is_empty());
        assert_eq!(records.judge(&statuses(&[(0, 3, 3)]), at(129)).len(), 1);
    }
}
