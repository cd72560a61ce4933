//! Both stages in one place: records of some partitions to the steps of all shards, without Kafka and without a journal.
//!
//! *In:* records, each partition in the order of its offsets. *Out:* [`ClosedStep`]s, in the order of steps, then of shards.
//! *Owner:* a replay of files, or a test. *Never:* a clock, a tick, a step that is closed by force, a queue: what is closed is
//! taken before more is offered. *Next:* [`crate::remotewrite`]'s batches go to a receiver.
//!
//! The tasks are the very ones that a worker runs, and so are their settings and the number of shards: a topic that is read
//! from here gives the samples that workers make of it. Nobody takes over a half-done run; it is done again, and gives the same.

use super::series::{ApplyError, ClosedStep, SeriesSettings, SeriesTask};
use super::span::{Offer, Record, Refusal, RestoreError, Restored, SpanSettings, SpanTask, StepCut};
use crate::config::Tenants;
use crate::journal::ChainVerdict;
use crate::model::{Ledger, Millis};
use crate::series::AddError;

/// All span tasks and all series tasks of a run.
#[derive(Debug)]
pub struct Local {
    sources: Vec<(String, i32)>,
    spans: Vec<SpanTask>,
    shards: Vec<SeriesTask>,
}

/// A run that cannot go on. None of it is expected; all would be mistakes of spanmill.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A task did not start.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A share of our own is refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A share of our own is out of turn.
    #[error("a share of partition {0} came out of turn; its deltas are lost")]
    Chain(i32),
    /// A delta of our own is lost.
    #[error(transparent)]
    Lost(#[from] AddError),
}

// === impl Local ===

impl Local {
    /// Tasks for the partitions of `topic`, which exist in name only.
    ///
    /// # Errors
    /// None that is expected.
    pub fn new(tenants: &Tenants, topic: &str, partitions: u32) -> Result<Self, LocalError> {
        let (settings, series) = (SpanSettings::from(tenants), SeriesSettings::from(tenants));
        let sources: Vec<_> = (0..partitions.cast_signed()).map(|partition| (topic.to_owned(), partition)).collect();
        let new = |(topic, partition): &(String, i32)| {
            SpanTask::new(&settings, topic.clone(), *partition, Restored::default())
        };
        let spans = sources.iter().map(new).collect::<Result<_, _>>()?;
        let shards = (0..settings.shards).map(|_| SeriesTask::new(series.clone())).collect();
        Ok(Self { sources, spans, shards })
    }

    /// Reads the next record of a partition; `now` is the present. Says why it was not read, if it was not. Then take what is
    /// closed, with [`Local::next_closed`].
    ///
    /// # Errors
    /// None that is expected.
    pub fn offer(&mut self, partition: usize, record: &Record<'_>, now: Millis) -> Result<Option<Refusal>, LocalError> {
        while let Offer::CutFirst { cut } = self.spans[partition].offer(record, now) {
            self.add(&cut)?;
        }
        Ok(self.spans[partition].refusal())
    }

    /// Ends all partitions. Half edges that wait get the rest of their wait; the last step that has data is the last to close.
    ///
    /// # Errors
    /// None that is expected.
    pub fn finish(&mut self) -> Result<(), LocalError> {
        for partition in 0..self.spans.len() {
            for cut in self.spans[partition].finish(true) {
                self.add(&cut)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, cut: &StepCut) -> Result<(), LocalError> {
        for (task, records) in self.shards.iter_mut().zip(&cut.shares) {
            for record in records {
                let applied = task.apply(record)?;
                if !matches!(applied.verdict, ChainVerdict::Accepted { .. }) {
                    return Err(LocalError::Chain(applied.source.1));
                }
                applied.first_lost.map_or(Ok(()), Err)?;
            }
        }
        Ok(())
    }

    /// Closes the next step that all partitions have passed. Returns it and its shard.
    pub fn next_closed(&mut self) -> Option<(u32, ClosedStep)> {
        let steps =
            self.shards.iter().zip(0..).filter_map(|(task, shard)| Some((task.closable(&self.sources)?, shard)));
        let (step, shard) = steps.min()?;
        Some((shard, self.shards[shard as usize].close(step)))
    }

    /// What became of all records so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut all = Ledger::default();
        self.spans.iter().for_each(|task| all.merge(task.ledger()));
        all
    }

    /// The shards that there are.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.shards.len() as u32
    }

    /// The Prometheus series that the last steps have written.
    #[must_use]
    pub fn active_series(&self) -> u64 {
        self.shards.iter().map(SeriesTask::active_series).sum()
    }

    /// The label sets that a limit refuses.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shards.iter().map(SeriesTask::refused).sum()
    }
}

#[cfg(test)]
mod tests;
