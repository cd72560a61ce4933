//! The delta records in flight to the shards: which commits still wait for some, and whether they are stored in the
//! order sent.

use std::collections::BTreeMap;

use crate::core::journal::DeltaRecords;
use crate::worker::kafka::appender::Fate;
use crate::worker::task::Sent;

/// The delta records without an acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    commits: BTreeMap<u64, Left>,
    shards: BTreeMap<i32, Line>,
}

/// The delta records of one commit in flight.
#[derive(Debug)]
struct Left {
    records: usize,
    bytes: usize,
}

/// What one shard has got in this life of the task.
#[derive(Debug, Default)]
struct Line {
    sent: u64,
    stored: u64,
    last: Option<i64>,
}

/// Why a shard may lack delta records, so that they must be sent again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsure {
    #[error("a delta record was not stored: {0}")]
    Refused(#[from] rdkafka::error::KafkaError),
    #[error("a delta record was acknowledged without an offset")]
    NoOffset,
    /// A shard adds up what is next and skips what is ahead of it, so one that came too early is as good as lost.
    #[error("a delta record was stored out of order, at offset {0}")]
    OutOfOrder(i64),
}

// === impl Outgoing ===

impl Outgoing {
    /// Registers the delta records of commit `commit_number` and passes each record to `send`, with its shard.
    pub(super) fn send(
        &mut self,
        commit_number: u64,
        delta_records: &DeltaRecords,
        mut send: impl FnMut(i32, &[u8], Sent),
    ) {
        let left = Left { records: delta_records.iter().map(Vec::len).sum(), bytes: bytes_of(delta_records) };
        if left.records > 0 {
            self.commits.insert(commit_number, left);
        }
        for (shard, parts) in (0..).zip(delta_records) {
            let line = self.shards.entry(shard).or_default();
            for part in parts {
                send(shard, part, Sent { commit_number, shard, number: line.sent });
                line.sent += 1;
            }
        }
    }

    /// Handles the fate of a record.
    ///
    /// # Errors
    /// When the shard may lack it.
    pub(super) fn learn(&mut self, sent: Sent, fate: Fate) -> Result<(), Unsure> {
        let offset = fate?.ok_or(Unsure::NoOffset)?;
        let line = self.shards.entry(sent.shard).or_default();
        if sent.number != line.stored || line.last.is_some_and(|last| offset <= last) {
            return Err(Unsure::OutOfOrder(offset));
        }
        (line.stored, line.last) = (line.stored + 1, Some(offset));
        if let Some(left) = self.commits.get_mut(&sent.commit_number) {
            left.records -= 1;
            if left.records == 0 {
                self.commits.remove(&sent.commit_number);
            }
        }
        Ok(())
    }

    /// The first commit that waits.
    pub(super) fn first(&self) -> Option<u64> {
        self.commits.keys().next().copied()
    }

    /// The commits that wait.
    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }

    /// Whether every shard has everything.
    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// The bytes of the commits that wait.
    pub(super) fn bytes(&self) -> usize {
        self.commits.values().map(|left| left.bytes).sum()
    }
}

/// The bytes of all records of a commit's delta records.
pub(super) fn bytes_of(delta_records: &DeltaRecords) -> usize {
    delta_records.iter().flatten().map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two commits for two shards; the first has two records for shard 1.
    fn two() -> (Outgoing, Vec<Sent>) {
        let mut outgoing = Outgoing::default();
        let mut all = Vec::new();
        outgoing.send(7, &vec![vec![vec![0; 3]], vec![vec![0; 4], vec![0; 5]]], |_, _, sent| all.push(sent));
        outgoing.send(8, &vec![vec![vec![0; 1]], vec![vec![0; 2]]], |_, _, sent| all.push(sent));
        (outgoing, all)
    }

    #[test]
    fn a_commit_waits_until_every_shard_has_all_of_it() {
        let (mut outgoing, all) = two();
        assert_eq!((outgoing.first(), outgoing.len(), outgoing.bytes()), (Some(7), 2, 15));
        // Shard 0 is ahead of shard 1.
        for (sent, offset) in [(0, 100), (3, 101), (1, 50), (2, 52)] {
            outgoing.learn(all[sent], Ok(Some(offset))).expect("in order");
        }
        assert_eq!((outgoing.first(), outgoing.len(), outgoing.bytes()), (Some(8), 1, 3));
        outgoing.learn(all[4], Ok(Some(53))).expect("in order");
        assert!(outgoing.is_empty());
    }

    #[test]
    fn a_delta_record_that_is_stored_behind_a_later_one_is_not_taken_for_delivered() {
        let (mut outgoing, all) = two();
        assert!(matches!(outgoing.learn(all[3], Ok(Some(10))), Err(Unsure::OutOfOrder(10))));
        let (mut outgoing, all) = two();
        outgoing.learn(all[0], Ok(Some(10))).expect("in order");
        // A log that was cut back gives an offset twice.
        assert!(matches!(outgoing.learn(all[3], Ok(Some(10))), Err(Unsure::OutOfOrder(10))));
    }

    #[test]
    fn a_delta_record_without_an_offset_or_with_an_error_is_not_taken_for_delivered() {
        let (mut outgoing, all) = two();
        assert!(matches!(outgoing.learn(all[0], Ok(None)), Err(Unsure::NoOffset)));
        let (mut outgoing, all) = two();
        assert!(matches!(outgoing.learn(all[0], Err(rdkafka::error::KafkaError::Canceled)), Err(Unsure::Refused(_))));
    }
}
