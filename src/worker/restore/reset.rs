//! An operator's `kafka-consumer-groups --reset-offsets`: the group's committed offset of a source partition is an
//! instruction if spanmill did not write it.
//!
//! spanmill marks every offset that it commits. An offset without the mark is applied when the task is next acquired:
//! it becomes a commit of the journal, with its own cause and no deltas, and the mark is put on the group's offset
//! before anything else is journaled. So if the worker dies in between, its successor finds the journal at the wanted
//! offset, and only repeats the mark.

use super::claim::CLAIM_TIMEOUT;
use super::error::TakeoverError;
use super::means::Means;
use crate::core::journal::{AppendProgress, Cause, DeltaRecords, JournalWriter, SpanCommit};
use crate::core::model::Counter;
use crate::core::tasks::span::{Restored, SpanTask};
use crate::worker::kafka::KafkaError;
use crate::worker::kafka::members::{GroupOffset, Partition};
use crate::worker::telemetry::{TaskId, TaskKind};

/// Where an operator wants a partition to continue.
pub(super) struct Instruction {
    partition: Partition,
    /// The wanted offset, within what the partition holds.
    to: i64,
}

/// The instruction in the group's offset of a partition that holds `[low, high)`, if it is one.
pub(super) fn instruction(said: GroupOffset, id: &TaskId, (low, high): (i64, i64)) -> Option<Instruction> {
    let GroupOffset::Foreign(to) = said else { return None };
    let partition = Partition { topic: id.topic.clone(), partition: id.partition };
    Some(Instruction { partition, to: to.clamp(low, high) })
}

// === impl Instruction ===

impl Instruction {
    /// The wanted offset.
    pub(super) fn to(&self) -> i64 {
        self.to
    }

    /// Drops what the pending edges would be rebuilt from. Called before the task is created.
    pub(super) fn prepare(&self, restored: &mut Restored) {
        let waiting = u64::try_from(restored.ledger.pending_edges()).unwrap_or(0);
        restored.ledger.add(Counter::EdgesLost, waiting);
        let open = u64::try_from(restored.ledger.open_trace_spans()).unwrap_or(0);
        restored.ledger.add(Counter::TraceSpansLost, open);
        restored.live.clear();
    }

    /// Journals it and waits until it counts. Returns the number and the delta records of the commit.
    pub(super) fn journal(
        &self,
        means: &Means,
        task: &mut SpanTask,
        writer: &mut JournalWriter,
        forwarded: u64,
    ) -> Result<(u64, DeltaRecords), TakeoverError> {
        let Partition { topic, partition } = &self.partition;
        let journal = means.clients.names.journal(topic);
        let from = task.position();
        // A partition without a journal begins here.
        task.set_start(self.to);
        let cut = task.move_to(self.to);
        tracing::warn!(
            topic,
            partition,
            ?from,
            to = self.to,
            "consumer group offset was reset, continuing from the \
                                                               new offset"
        );
        let (commit_number, delta_records) = (cut.commit_number, cut.delta_records);
        let commit = SpanCommit {
            cause: Cause::Reset,
            step: cut.step,
            stream_time: Some(cut.stream_time),
            forwarded,
            reread_from: cut.reread_from,
            live: cut.live,
            ledger: cut.ledger,
            delta_records,
            witness: None,
        };
        let mut progress = AppendProgress::Pending;
        for record in writer.commit(cut.from, cut.to, &commit.encode()) {
            let offset = means.clients.appender.append_and_wait(&journal, *partition, &record, CLAIM_TIMEOUT)?;
            progress = writer.acknowledged(offset);
        }
        match progress {
            AppendProgress::Accepted(_) => Ok((commit_number, commit.delta_records)),
            // Another owner claimed the journal meanwhile, or the outcome is unknown: the next owner finds the
            // instruction again.
            _ => Err(TakeoverError::Overtaken { topic: journal, partition: *partition }),
        }
    }

    /// Marks the group's offset as written by spanmill: the instruction was followed.
    pub(super) fn confirm(&self, means: &Means) -> Result<(), TakeoverError> {
        // Without a member there is no group to commit to: the worker is stopping.
        let member = means.groups.member(TaskKind::Span).ok_or(KafkaError::Stopping)?;
        Ok(member.mark(&self.partition, self.to)?)
    }
}
