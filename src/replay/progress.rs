//! How far a run has come, as its journals say: whichever worker did it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::agree::RunError;
use super::plan::Plan;
use crate::config::Config;
use crate::journal::{EmitCause, JournalError, SeriesFold, SpanFold, SpanState};
use crate::kafka::reader::Stretch;
use crate::kafka::topics::TopicNames;
use crate::kafka::{KafkaError, LogReader};
use crate::model::time::last_step;
use crate::model::{Ledger, Millis};

/// Reads the journals of a run again and again, and remembers what is over.
#[derive(Debug)]
pub struct Watch {
    reader: LogReader,
    names: TopicNames,
    partitions: Vec<(String, i32)>,
    over: BTreeMap<(String, i32), PartitionProgress>,
    shards: Vec<bool>,
    stop: Arc<AtomicBool>,
}

/// How far a run has come.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// By topic and partition.
    pub partitions: BTreeMap<(String, i32), PartitionProgress>,
    /// The shards that have closed and delivered everything.
    pub shards_over: usize,
    /// All shards.
    pub shards: usize,
}

/// How far a partition has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The offset after the last committed record.
    pub next: Option<i64>,
    /// The step of the last commit.
    pub step: Option<Millis>,
    /// Whether all of its stretch is committed, and it has told all shards so.
    pub over: bool,
    /// What became of its records.
    pub ledger: Ledger,
}

// === impl Progress ===

impl Progress {
    /// Whether everything has been read, closed and delivered.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.shards_over == self.shards && self.partitions.values().all(|partition| partition.over)
    }

    /// What became of everything that is committed.
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
    pub fn new(config: &Config, plan: &Plan, stop: Arc<AtomicBool>) -> Result<Self, RunError> {
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

    /// Reads the journals of what was not over at the last look.
    ///
    /// # Errors
    /// When Kafka does not answer, a journal does not decode, or it has been trimmed while it was read: look again then.
    pub fn look(&mut self) -> Result<Progress, RunError> {
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
        Ok(Progress { partitions, shards_over, shards: self.shards.len() })
    }

    fn span_state(&self, (source, partition): &(String, i32)) -> Result<SpanState, RunError> {
        let topic = self.names.journal(source);
        let mut fold = None;
        self.read(&topic, *partition, &mut |cut, offset, record| {
            let fold = fold.get_or_insert_with(|| if cut { SpanFold::after_cut() } else { SpanFold::new() });
            fold.apply(offset, record).map(drop)
        })?;
        fold.unwrap_or_default().into_state().map_err(|source| damaged(&topic, *partition, &source))
    }

    fn is_over(&self, shard: i32) -> Result<bool, RunError> {
        let topic = self.names.series_journal();
        let mut fold = None;
        self.read(&topic, shard, &mut |cut, offset, record| {
            let fold = fold.get_or_insert_with(|| if cut { SeriesFold::after_cut() } else { SeriesFold::new() });
            fold.apply(offset, record).map(drop)
        })?;
        let state = fold.unwrap_or_default().into_state().map_err(|source| damaged(&topic, shard, &source))?;
        Ok(state.marks.last().is_some_and(|(_, mark)| mark.cause == EmitCause::End))
    }

    fn read(
        &self,
        topic: &str,
        partition: i32,
        each: &mut dyn FnMut(bool, i64, &[u8]) -> Result<(), JournalError>,
    ) -> Result<(), RunError> {
        let (low, high) = self.reader.bounds(topic, partition)?;
        let stretch = Stretch { topic, partition, from: low, to: high };
        self.reader.read(stretch, &self.stop, &mut |offset, record| {
            each(low > 0, offset, record).map_err(|source| damaged(topic, partition, &source))
        })
    }
}

impl From<SpanState> for PartitionProgress {
    fn from(state: SpanState) -> Self {
        let over = state.stream_time.and_then(last_step).is_some();
        Self { next: state.next, step: state.step, over, ledger: state.ledger }
    }
}

fn damaged(topic: &str, partition: i32, source: &JournalError) -> RunError {
    KafkaError::Topic(format!("{topic}[{partition}]: {source}")).into()
}
