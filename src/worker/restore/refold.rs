//! Restores a shard to the state of its journal: the snapshot, then the deltas. Every mark closes its step again from
//! the delta records that it was first closed with, wherever they lie in the deltas topic by now.

use super::error::TakeoverError;
use super::means::Means;
use crate::core::journal::{Again, SeriesState, What};
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;
use crate::core::tasks::series::{SeriesSettings, SeriesTask};
use crate::worker::kafka::LogReader;
use crate::worker::kafka::reader::Stretch;
use crate::worker::series_task::told;
use crate::worker::telemetry::TaskId;

/// A restored task, where its fetching starts, and the steps to send again.
pub(super) type Refolded = (SeriesTask, i64, Vec<(Millis, Vec<StepBatch>)>);

struct Refold<'a> {
    means: &'a Means,
    reader: &'a LogReader,
    id: &'a TaskId,
    acknowledged: Option<Millis>,
    task: SeriesTask,
    again: Again,
    resend: Vec<(Millis, Vec<StepBatch>)>,
}

/// Restores a shard.
pub(super) fn refold(
    means: &Means,
    reader: &LogReader,
    id: &TaskId,
    state: &SeriesState,
    settings: SeriesSettings,
) -> Result<Refolded, TakeoverError> {
    let (low, high) = reader.bounds(&id.topic, id.partition)?;
    means.clients.telemetry.tasks().update_known(id, |s| s.end_offset = high);
    let (task, from) = match &state.snapshot {
        Some(s) => {
            let task = SeriesTask::restore(settings, &s.body);
            (task.map_err(|source| TakeoverError::Snapshot { shard: id.partition, source })?, s.deltas_offset)
        }
        None => (SeriesTask::new(settings), 0),
    };
    if low > from {
        return Err(TakeoverError::Cut { topic: id.topic.clone(), partition: id.partition, low, needed: from });
    }
    // A topic that ends earlier has lost its end, and the delta records may lie anywhere.
    let from = if from <= high { from } else { low };
    let (acknowledged, resend) = (state.acknowledged, Vec::new());
    let again = Again::new(state.marks.clone(), from);
    let mut refold = Refold { means, reader, id, acknowledged, task, again, resend };
    let usual = refold.again.reaches().unwrap_or(from).min(high);
    if !refold.pass(from, usual)? {
        refold.search(low, high)?;
    }
    let start = refold.again.go_on().clamp(low, high);
    Ok((refold.task, start, refold.resend))
}

// === impl Refold ===

impl Refold<'_> {
    /// Reads a stretch and closes what can be closed. Returns whether nothing is left.
    fn pass(&mut self, from: i64, to: i64) -> Result<bool, TakeoverError> {
        let (reader, means, id) = (self.reader, self.means, self.id);
        let stretch = Stretch { topic: &id.topic, partition: id.partition, from, to };
        reader.read::<TakeoverError>(stretch, &means.stop, &mut |offset, record| {
            self.close_due(offset)?;
            let again = &mut self.again;
            let applied = self.task.apply_if(record, |head| {
                again.takes(offset, &head.topic, head.partition, (head.commit_number, head.part))
            });
            Ok(told(applied, id.partition, offset).map(drop)?)
        })?;
        self.close_due(to)?;
        Ok(self.again.is_done())
    }

    /// Searches for delta records that are not where they were, as long as that closes another step.
    fn search(&mut self, low: i64, high: i64) -> Result<(), TakeoverError> {
        self.again.go_on();
        let mut from = low;
        loop {
            let left = self.again.left();
            if self.pass(from, high)? {
                return Ok(());
            }
            from = self.again.go_on().clamp(low, high);
            if self.again.left() == left {
                return Err(self.ask());
            }
        }
    }

    /// Closes the steps of the marks that are due before the record at `offset`.
    fn close_due(&mut self, offset: i64) -> Result<(), TakeoverError> {
        let shard = self.id.partition;
        let mismatch = |source| TakeoverError::Mismatch { shard, source };
        loop {
            let (chain, digest) = self.task.counted();
            let Some(mark) = self.again.due(offset, chain, digest).map_err(mismatch)? else { return Ok(()) };
            let closed = self.task.close_again(&mark);
            let closed = closed.map_err(|source| TakeoverError::Settings { shard, source })?;
            if self.acknowledged.is_none_or(|a| mark.step > a) {
                let again = closed.batches.into_iter().map(|b| StepBatch { resend: true, ..b });
                self.resend.push((mark.step, again.collect()));
            }
        }
    }

    /// Asks the owners for the missing delta records.
    fn ask(&self) -> TakeoverError {
        let mut named = Vec::new();
        for (topic, partition, commit_number) in self.again.lacks(self.task.counted().0) {
            let asked =
                self.means.clients.notify_journal(&topic, partition, self.id.partition, What::Lacks, commit_number);
            let remedy = if asked { "" } else { " (which is not in kafka.topics: put it back)" };
            named.push(format!("{topic}[{partition}] from commit {commit_number} on{remedy}"));
        }
        if let (true, Some(to)) = (named.is_empty(), self.again.reaches()) {
            // A mark of an earlier version does not name the delta records, so no owner can be asked for them.
            named.push(format!("records below offset {to}; restore the deltas topic"));
        }
        let error = TakeoverError::Lacks { shard: self.id.partition, lacks: named.join(", ") };
        tracing::error!(%error, "delta records are missing at the take-over of a shard");
        error
    }
}
