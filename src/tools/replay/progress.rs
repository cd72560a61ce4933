//! The progress of a run by its journals, for all its workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::agree::RunError;
use super::plan::ReplayPlan;
use crate::config::Config;
use crate::core::journal::{EmitCause, JournalError, SeriesFold, SpanFold, SpanState};
use crate::core::model::time::last_step;
use crate::core::model::{Ledger, Millis};
use crate::worker::kafka::topics::TopicNames;
use crate::worker::kafka::{JournalFold, JournalLog, KafkaError, LogReader};

/// Reads the journals of a run repeatedly, and remembers what is complete.
#[derive(Debug)]
pub struct Watch {
    reader: LogReader,
    names: TopicNames,
    partitions: Vec<(String, i32)>,
    over: BTreeMap<(String, i32), PartitionProgress>,
    shards: Vec<bool>,
    stop: Arc<AtomicBool>,
}

/// The progress of a run.
#[derive(Debug, Clone, Default)]
pub struct ReplayProgress {
    /// By topic and partition.
    pub partitions: BTreeMap<(String, i32), PartitionProgress>,
    /// The shards that have closed and delivered everything.
    pub shards_over: usize,
    /// All shards.
    pub shards: usize,
}

/// The progress of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The offset after the last committed record.
    pub next: Option<i64>,
    /// The step of the last commit.
    pub step: Option<Millis>,
    /// Whether all of its stretch is committed, and it has reported that to all shards.
    pub over: bool,
    /// The number of its commits.
    pub commits: u64,
    /// The ledger of its records.
    pub ledger: Ledger,
}

// === impl ReplayProgress ===

impl ReplayProgress {
    /// Whether everything has been read, closed and delivered.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.shards_over == self.shards && self.partitions.values().all(|partition| partition.over)
    }

    /// The ledger of everything that is committed.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut all = Ledger::default();
        self.partitions.values().for_each(|partition| all.merge(&partition.ledger));
        all
    }
}

// === impl Watch ===

impl Watch {
    /// Watches the run of `plan`, whose group is that of `config`. `stop` ends a look early.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(config: &Config, plan: &ReplayPlan, stop: Arc<AtomicBool>) -> Result<Self, RunError> {
        let kafka = &config.kafka;
        Ok(Self {
            reader: LogReader::new(kafka)?,
            names: TopicNames::new(&kafka.group),
            partitions: plan.partitions.iter().map(|p| (p.topic.clone(), p.partition)).collect(),
            over: BTreeMap::new(),
            shards: vec![false; kafka.shards as usize],
            stop,
        })
    }

    /// Reads the journals of the tasks that were not complete at the last look.
    ///
    /// # Errors
    /// When Kafka does not answer, a journal does not decode, or it has been trimmed while it was read: look again
    /// then.
    pub fn look(&mut self) -> Result<ReplayProgress, RunError> {
        let mut partitions = self.over.clone();
        for source in &self.partitions {
            if partitions.contains_key(source) {
                continue;
            }
            let progress = PartitionProgress::from(self.span_state(source)?);
            if progress.over {
                self.over.insert(source.clone(), progress.clone());
            }
            partitions.insert(source.clone(), progress);
        }
        // As long as a source has not ended, no shard has.
        if self.over.len() == self.partitions.len() {
            for shard in 0..self.shards.len() {
                self.shards[shard] = self.shards[shard] || self.is_over(shard as i32)?;
            }
        }
        let shards_over = self.shards.iter().filter(|over| **over).count();
        Ok(ReplayProgress { partitions, shards_over, shards: self.shards.len() })
    }

    fn span_state(&self, (source, partition): &(String, i32)) -> Result<SpanState, RunError> {
        self.state::<SpanFold>(&self.names.journal(source), *partition)
    }

    fn is_over(&self, shard: i32) -> Result<bool, RunError> {
        let state = self.state::<SeriesFold>(&self.names.series_journal(), shard)?;
        Ok(state.marks.last().is_some_and(|(_, mark)| mark.cause == EmitCause::End))
    }

    /// The state in a journal, as far as it exists.
    fn state<F: JournalFold>(&self, topic: &str, partition: i32) -> Result<F::State, RunError> {
        let damaged = |source| damaged(topic, partition, &source);
        let journal = JournalLog { reader: &self.reader, topic, partition, to: None, stop: &self.stop };
        journal.fold::<F, RunError>(damaged)?.state().map_err(damaged)
    }
}

impl From<SpanState> for PartitionProgress {
    fn from(state: SpanState) -> Self {
        let over = state.stream_time.and_then(last_step).is_some();
        Self { next: state.next, step: state.step, over, commits: state.next_commit_number, ledger: state.ledger }
    }
}

fn damaged(topic: &str, partition: i32, source: &JournalError) -> RunError {
    KafkaError::Topic(format!("{topic}[{partition}]: {source}")).into()
}
