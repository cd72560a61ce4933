//! How far the partitions of a topic may be apart in time, over all workers.
//!
//! Records of all source partitions meet in the repartitioned ones. If one were far behind the others, as after a crash of
//! its worker or with a backlog, its spans would meet peers whose wait is over. So with every offset, a worker commits the
//! time up to which it has passed the partition on, and passes on nothing that is further ahead of the slowest than
//! [`Pace::lead`]. A partition that does not move, because no worker reads it, is waited for as long as a group takes to give
//! it to another worker, and not for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::core::model::Millis;
use crate::worker::kafka::members::Partition;
use crate::worker::kafka::positions::Committed;

/// What a group takes, besides noticing that a member is gone, until another one reads its partitions.
const TAKEOVER: Duration = Duration::from_secs(15);
/// The lead is within these bounds.
const LEAST_LEAD: Millis = 1_000;
const GREATEST_LEAD: Millis = 30_000;

/// Follows the partitions of other workers.
#[derive(Debug)]
pub(super) struct Pace {
    lead: Millis,
    patience: Duration,
    known: BTreeMap<Partition, Known>,
}

/// What is known of a partition.
#[derive(Debug)]
struct Known {
    /// Its offset, and the time up to which it has been passed on.
    state: Option<(i64, Option<Millis>)>,
    /// Since when that is so.
    since: Instant,
    told: bool,
}

/// The text that is committed with an offset.
pub(super) fn note(until: Option<Millis>) -> String {
    until.map_or(String::new(), |until| format!("until {until}"))
}

/// The time in such a text.
pub(super) fn until(note: &str) -> Option<Millis> {
    note.strip_prefix("until ")?.parse().ok()
}

// === impl Pace ===

impl Pace {
    /// `session`: after what time a group notices that a member is gone. Spans wait for their peers for `wait`, and a record
    /// that is further ahead of its partition than `max_future` is doubted.
    pub(super) fn new(session: Duration, wait: Millis, max_future: Millis) -> Self {
        let lead = (wait.min(max_future) / 2).clamp(LEAST_LEAD, GREATEST_LEAD);
        Self { lead, patience: session + TAKEOVER, known: BTreeMap::new() }
    }

    /// By how much partitions may be ahead of the slowest of their topic.
    pub(super) fn lead(&self) -> Millis {
        self.lead
    }

    /// How long a partition that does not move is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// These are the partitions of other workers now, with what is committed of them.
    pub(super) fn learn(&mut self, found: Vec<(Partition, Option<Committed>)>, present: Instant) {
        let mut before = std::mem::take(&mut self.known);
        for (partition, committed) in found {
            let state = committed.map(|committed| (committed.offset, until(&committed.note)));
            let known = before.remove(&partition).filter(|known| known.state == state);
            self.known.insert(partition, known.unwrap_or(Known { state, since: present, told: false }));
        }
    }

    /// The latest time of a topic that may be passed on.
    pub(super) fn ceiling(&mut self, topic: &str, present: Instant) -> Millis {
        let mut ceiling = Millis::MAX;
        for (partition, known) in self.known.iter_mut().filter(|(p, _)| p.topic == topic) {
            let waited = present.saturating_duration_since(known.since);
            if waited < self.patience {
                let until = known.state.and_then(|(_, until)| until).unwrap_or(Millis::MIN);
                ceiling = ceiling.min(until.saturating_add(self.lead));
            } else if !std::mem::replace(&mut known.told, true) {
                tracing::warn!(
                    topic,
                    partition = partition.partition,
                    seconds = waited.as_secs(),
                    "a source partition has not been repartitioned for a while, going on without it; if it has unread \
                     records, edges between its spans and those of other partitions may be lost. Check the other workers"
                );
            }
        }
        ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);

    fn found(all: &[(i32, Option<(i64, &str)>)]) -> Vec<(Partition, Option<Committed>)> {
        let committed = |(offset, note): (i64, &str)| Committed { offset, note: note.to_owned() };
        let partition = |partition| Partition { topic: "t".to_owned(), partition };
        all.iter().map(|(p, state)| (partition(*p), state.map(committed))).collect()
    }

    #[test]
    fn nothing_is_passed_on_far_ahead_of_the_slowest_partition_of_its_topic() {
        let start = Instant::now();
        let mut pace = Pace::new(SESSION, 12_000, 10_000);
        assert_eq!((pace.lead(), pace.ceiling("t", start)), (5_000, Millis::MAX), "there is no other worker");
        pace.learn(found(&[(0, Some((7, "until 90000"))), (1, Some((9, "until 80000")))]), start);
        assert_eq!([pace.ceiling("t", start), pace.ceiling("other", start)], [85_000, Millis::MAX]);
        pace.learn(found(&[(0, Some((8, "until 95000")))]), start);
        assert_eq!(pace.ceiling("t", start), 100_000, "it owns the other one now");
        assert_eq!(Pace::new(SESSION, 500, 0).lead(), 1_000);
    }

    #[test]
    fn a_partition_that_does_not_move_is_waited_for_until_another_worker_should_have_it() {
        let start = Instant::now();
        let mut pace = Pace::new(SESSION, 10_000, 10_000);
        let after = |seconds| start + Duration::from_secs(seconds);
        for second in 0..=24 {
            pace.learn(found(&[(0, None), (1, Some((9, "until 80000")))]), after(second));
            assert_eq!(pace.ceiling("t", after(second)), Millis::MIN + 5_000);
        }
        assert_eq!(pace.ceiling("t", after(25)), Millis::MAX);
        pace.learn(found(&[(0, None), (1, Some((9, "until 81000")))]), after(26));
        assert_eq!(pace.ceiling("t", after(27)), 86_000, "it moves again");
    }

    #[test]
    fn a_note_reads_back_and_any_other_text_is_none() {
        assert_eq!([until(&note(Some(5))), until(&note(Some(-5))), until(&note(None))], [Some(5), Some(-5), None]);
        assert_eq!([until(""), until("until"), until("until x"), until("spanmill")], [None; 4]);
    }
}
