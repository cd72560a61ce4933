//! Evidence against a state that was restored from a journal: the journal belongs to another group or topic, the
//! group's offset is beyond the end of the journal, or the source topic is not the one that was read.
//!
//! Each is logged as an error, and the task does not run. A journal without its end would number its commits again, and
//! shards would treat the numbers that they know as duplicates; a topic that was re-created would be read from the
//! middle on.

use super::claim::Claim;
use super::error::{Remedy, TakeoverError};
use super::means::Means;
use crate::core::deltas::DeltaRecord;
use crate::core::journal::SpanState;
use crate::worker::kafka::members::{GroupOffset, Partition};
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::{KafkaError, LogReader, witness};
use crate::worker::telemetry::TaskId;

/// How many delta records of each source are looked at in the deltas topic at first.
const LAST_DELTA_RECORDS: i64 = 4;

/// The committed offset of the group for the input of a task; `None` if there is none.
pub(super) fn group_offset(means: &Means, id: &TaskId) -> Result<Option<GroupOffset>, KafkaError> {
    means.groups.committed(id.kind, &Partition { topic: id.topic.clone(), partition: id.partition })
}

/// Checks that the journal reaches as far as the group's offset. Commits after the group's last offset may be lost all
/// the same: the offset is committed every few seconds only.
pub(super) fn has_its_end(
    means: &Means,
    reader: &LogReader,
    claim: &Claim<'_>,
    next: Option<i64>,
    said: Option<GroupOffset>,
) -> Result<(), TakeoverError> {
    match said {
        Some(GroupOffset::Ours(known)) if next.is_none_or(|next| next < known) => {
            claim.is_still_ours(means, reader)?;
            let (journal, partition) = (claim.journal.to_owned(), claim.partition);
            let remedy = Remedy::StartOver.or_another_run(&means.mode);
            Err(TakeoverError::LostEnd { journal, partition, known, next, remedy })
        }
        _ => Ok(()),
    }
}

/// Checks that the journal has every commit of which a shard has a delta record: delta records are sent only when their
/// commit counts. Uses the notices in the journal, and the end of one partition of the deltas topic; every commit has a
/// delta record for each.
pub(super) fn has_all_commits(
    means: &Means,
    reader: &LogReader,
    id: &TaskId,
    claim: &Claim<'_>,
    state: &SpanState,
) -> Result<(), TakeoverError> {
    let known = last_delta_record(means, reader, id)?.max(state.needs.counted());
    if known <= state.next_commit_number {
        return Ok(());
    }
    claim.is_still_ours(means, reader)?;
    let (journal, partition, next) = (claim.journal.to_owned(), claim.partition, state.next_commit_number);
    let remedy = Remedy::StartOver.or_another_run(&means.mode);
    Err(TakeoverError::LostCommits { journal, partition, known, next, remedy })
}

/// The number after that of the last commit whose delta record lies in the deltas topic; 0 when there is none.
fn last_delta_record(means: &Means, reader: &LogReader, id: &TaskId) -> Result<u64, TakeoverError> {
    let deltas = means.clients.names.deltas();
    let shards = i32::try_from(means.clients.config.kafka.shards.max(1)).unwrap_or(i32::MAX);
    let partition = id.partition % shards;
    let (low, high) = reader.bounds(&deltas, partition)?;
    // Every source sends a delta record per step.
    let mut window = LAST_DELTA_RECORDS * means.sources.all().len().max(1) as i64;
    loop {
        let from = (high - window).max(low);
        let mut known = 0;
        let stretch = Stretch { topic: &deltas, partition, from, to: high };
        reader.read::<KafkaError>(stretch, &means.stop, &mut |_, record| {
            if let Ok(delta_record) = DeltaRecord::decode(record)
                && (delta_record.head.topic.as_str(), delta_record.head.partition) == (id.topic.as_str(), id.partition)
            {
                known = known.max(delta_record.head.commit_number + 1);
            }
            Ok(())
        })?;
        if known > 0 || from == low {
            return Ok(known);
        }
        window = window.saturating_mul(8);
    }
}

/// The result of comparing the source partition with the one that the journal was written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The same, as far as there is evidence.
    Same,
    /// It holds another record than the one that was read at this offset.
    OtherRecord(i64),
    /// It has another ID, and no record that was read is left to compare.
    OtherId {
        /// The present ID.
        found: String,
        /// The ID in the journal.
        known: String,
    },
}

/// Compares the partition, which holds `[low, high)`, with the one that the journal was written for. A witness that is
/// no longer there proves nothing. One that is there outweighs an ID: a topic that was copied record by record has
/// another one. So does an end before what was read, which the caller sees.
pub(super) fn compare(
    means: &Means,
    reader: &LogReader,
    id: &TaskId,
    claim: &Claim<'_>,
    state: &SpanState,
    (low, high): (i64, i64),
) -> Result<Found, KafkaError> {
    if let Some(expected) = state.witness.filter(|w| (low..high).contains(&w.offset)) {
        let (topic, partition) = (id.topic.as_str(), id.partition);
        let stretch = Stretch { topic, partition, from: expected.offset, to: expected.offset + 1 };
        if let Some(found) = reader.first(stretch, &means.stop, witness::of)? {
            return Ok(if found == expected { Found::Same } else { Found::OtherRecord(expected.offset) });
        }
    }
    if state.next.is_some_and(|next| next > high) {
        return Ok(Found::Same);
    }
    let renewed = state.topic_id.as_ref().zip(claim.identity.topic_id.as_ref()).filter(|(known, found)| known != found);
    Ok(renewed.map_or(Found::Same, |(known, found)| Found::OtherId { found: found.clone(), known: known.clone() }))
}

// === impl Found ===

impl Found {
    /// Checks that it is the same topic.
    pub(super) fn same(self, id: &TaskId, remedy: Remedy) -> Result<(), TakeoverError> {
        let (topic, partition) = (id.topic.clone(), id.partition);
        Err(match self {
            Self::Same => return Ok(()),
            Self::OtherRecord(offset) => TakeoverError::Replaced { topic, partition, offset, remedy },
            Self::OtherId { found, known } => TakeoverError::Renewed { topic, partition, found, known, remedy },
        })
    }
}
