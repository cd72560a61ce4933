//! What speaks against a state that was restored from a journal: the group's offset is further than the journal, or the
//! source holds another record than the one that was read there.
//!
//! Both are said loudly, and the task does not run. A journal without its end would have its commits numbered anew, and
//! shards take numbers that they know for repetitions; a topic that was created anew would be read on from its middle.

use rdkafka::message::{BorrowedMessage, Message as _};

use super::shared::Shared;
use super::takeover::{Claim, Remedy, TakeoverError};
use crate::journal::{JournalError, Witness, is_contested};
use crate::kafka::members::{GroupOffset, Partition};
use crate::kafka::reader::Stretch;
use crate::kafka::{KafkaError, LogReader};
use crate::telemetry::TaskId;

/// What the group has for the input of a task; `None` when it has nothing.
pub(super) fn group_offset(shared: &Shared, id: &TaskId) -> Result<Option<GroupOffset>, KafkaError> {
    // Without a member there is no group that could be asked: the worker is stopping.
    let member = shared.member(id.kind).ok_or(KafkaError::Stopping)?;
    member.committed(&Partition { topic: id.topic.clone(), partition: id.partition })
}

/// That the journal reaches as far as the group once learnt from it. What was accepted after the group's last offset may
/// have been lost all the same: the group learns every few seconds.
pub(super) fn has_its_end(
    shared: &Shared,
    reader: &LogReader,
    claim: &Claim<'_>,
    next: Option<i64>,
    said: Option<GroupOffset>,
) -> Result<(), TakeoverError> {
    match said {
        Some(GroupOffset::Ours(known)) if next.is_none_or(|next| next < known) => {
            claim.is_still_ours(shared, reader)?;
            let (journal, partition) = (claim.journal.to_owned(), claim.partition);
            let remedy = if shared.replaying.is_some() { Remedy::AnotherRun } else { Remedy::StartOver };
            Err(TakeoverError::LostEnd { journal, partition, known, next, remedy })
        }
        _ => Ok(()),
    }
}

/// The witness that a record makes.
pub(super) fn witness(record: &BorrowedMessage<'_>) -> Witness {
    Witness::of(record.offset(), record.timestamp().to_millis(), record.payload().unwrap_or_default())
}

/// Whether the partition, which holds `[low, high)`, is the one in which the witness was read. A record that is no longer
/// there speaks neither for nor against it.
pub(super) fn is_same_topic(
    shared: &Shared,
    reader: &LogReader,
    id: &TaskId,
    expected: Option<Witness>,
    (low, high): (i64, i64),
) -> Result<bool, KafkaError> {
    let Some(expected) = expected.filter(|w| (low..high).contains(&w.offset)) else { return Ok(true) };
    let (topic, partition) = (id.topic.as_str(), id.partition);
    let stretch = Stretch { topic, partition, from: expected.offset, to: expected.offset + 1 };
    let found = reader.first(stretch, &shared.stop, witness)?;
    Ok(found.is_none_or(|found| found == expected))
}

// === impl Claim ===

impl Claim<'_> {
    /// What the journal says, if it is whole. One that is cut although somebody else has claimed it since has only been cut
    /// by him.
    pub(super) fn state<S>(
        &self,
        shared: &Shared,
        reader: &LogReader,
        folded: Result<S, JournalError>,
    ) -> Result<S, TakeoverError> {
        if let Err(JournalError::Cut { .. }) = folded {
            self.is_still_ours(shared, reader)?;
        }
        folded.map_err(|e| self.damaged(e))
    }

    /// That nobody else has claimed the journal since. If somebody has, what is missing is nothing to worry about.
    fn is_still_ours(&self, shared: &Shared, reader: &LogReader) -> Result<(), TakeoverError> {
        let (topic, partition) = (self.journal, self.partition);
        let (low, high) = reader.bounds(topic, partition)?;
        let stretch = Stretch { topic, partition, from: low.max(self.offset + 1), to: high };
        reader.read(stretch, &shared.stop, &mut |offset, record| {
            let later = std::iter::once((offset, record));
            let contested = is_contested(self.owner, later).map_err(|e| self.damaged(e))?;
            if contested { Err(self.overtaken()) } else { Ok(()) }
        })
    }

    /// The journal cannot be read.
    pub(super) fn damaged(&self, source: JournalError) -> TakeoverError {
        TakeoverError::Journal { topic: self.journal.to_owned(), partition: self.partition, source }
    }

    /// Somebody else has the journal.
    pub(super) fn overtaken(&self) -> TakeoverError {
        TakeoverError::Overtaken { topic: self.journal.to_owned(), partition: self.partition }
    }
}
