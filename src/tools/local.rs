//! Both stages in one place: records of some partitions to the steps of all shards, without Kafka and without a
//! journal.
//!
//! *In:* records, each partition in the order of its offsets. *Out:* [`ClosedStep`]s, in the order of steps, then of
//! shards. *Owner:* a replay of files, or a test. *Never:* a clock, a tick, a step that is closed on stall timeout, a
//! queue: closed steps are taken before more records are offered. *Next:* [`crate::core::remotewrite`]'s batches go to
//! a receiver.
//!
//! The tasks are the same as those of a worker, and so are their settings and the number of shards: a topic that is
//! read from here gives the same samples as workers. No process continues an interrupted run; it is done again from
//! its beginning, and gives the same samples.

use crate::config::Tenants;
use crate::core::journal::ChainVerdict;
use crate::core::model::{Ledger, Millis, Seed};
use crate::core::series::AddError;
use crate::core::tasks::series::{ApplyError, ClosedStep, SeriesSettings, SeriesTask};
use crate::core::tasks::span::{Offer, Record, Refusal, RestoreError, Restored, SpanSettings, SpanTask, StepCut};

/// All span tasks and all series tasks of a run.
#[derive(Debug)]
pub struct Local {
    sources: Vec<(String, i32)>,
    spans: Vec<SpanTask>,
    shards: Vec<SeriesTask>,
    watcher: Watcher,
}

/// Receives every delta record and its shard before the shard does.
#[derive(Default)]
struct Watcher(Option<Watch>);

type Watch = Box<dyn FnMut(u32, &[u8])>;

/// A run that cannot continue. None of these is expected; all would be bugs of spanmill.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A task did not start.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A delta record of this run is refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A delta record of this run is out of order.
    #[error("a delta record of partition {0} is out of order; its deltas are lost")]
    Chain(i32),
    /// A delta of this run is lost.
    #[error(transparent)]
    Lost(#[from] AddError),
}

// === impl Local ===

impl Local {
    /// Tasks for the partitions of `topic`, which exist in name only. A random `seed` hides where keys lie in memory.
    ///
    /// # Errors
    /// None that is expected.
    pub fn new(tenants: &Tenants, topic: &str, partitions: u32, seed: Seed) -> Result<Self, LocalError> {
        let settings = SpanSettings::from(tenants).seeded(seed);
        let series = SeriesSettings::from(tenants).seeded(seed);
        let sources: Vec<_> = (0..partitions.cast_signed()).map(|partition| (topic.to_owned(), partition)).collect();
        let new = |(topic, partition): &(String, i32)| {
            let mut task = SpanTask::new(&settings, topic.clone(), *partition, Restored::default())?;
            task.doubt_first();
            Ok::<_, RestoreError>(task)
        };
        let spans = sources.iter().map(new).collect::<Result<_, _>>()?;
        let shards = (0..settings.shards).map(|_| SeriesTask::new(series.clone())).collect();
        Ok(Self { sources, spans, shards, watcher: Watcher::default() })
    }

    /// From now on shows every delta record, and the shard that it is for, to `watcher`.
    pub fn watch(&mut self, watcher: impl FnMut(u32, &[u8]) + 'static) {
        self.watcher = Watcher(Some(Box::new(watcher)));
    }

    /// Reads the next record of a partition; `now` is the present. Returns why it was not read, if it was not. Then
    /// take the closed steps, with [`Local::next_closed`].
    ///
    /// # Errors
    /// None that is expected.
    pub fn offer(&mut self, partition: usize, record: &Record<'_>, now: Millis) -> Result<Option<Refusal>, LocalError> {
        while let Offer::CutFirst { cut } = self.spans[partition].offer(record, now) {
            self.add(&cut)?;
        }
        Ok(self.spans[partition].refusal())
    }

    /// Ends all partitions. Pending edges get the rest of their wait; the last step that has data is the last to close.
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
        for ((task, records), shard) in self.shards.iter_mut().zip(&cut.delta_records).zip(0..) {
            for record in records {
                self.watcher.0.iter_mut().for_each(|watcher| watcher(shard, record));
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

    /// The ledger of all records so far.
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

// === impl Watcher ===

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

#[cfg(test)]
mod tests;
