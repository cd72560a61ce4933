//! The shards of the new sharding: their journals, and the record that makes it the present one.

use std::collections::BTreeSet;

use super::counting::Source;
use super::sending::Shard;
use super::{APPENDS_WITHIN, Attempt, ReshardError};
use crate::core::journal::{Change, EmitCause, EmitMark, JournalWriter, SeriesSnapshot, Sharding};
use crate::core::tasks::series::{ReshardError as Division, SeriesSettings, SeriesTask};
use crate::worker::kafka::topics::Topics;
use crate::worker::restore::SpanJournal;

/// The sources that join the shards of a group.
type Joining = BTreeSet<(String, i32)>;

impl Attempt<'_> {
    /// A sharding that no attempt has begun to write yet.
    pub(super) fn next_sharding(&self) -> Result<Sharding, ReshardError> {
        let mut number = self.before.number + 1;
        while self.topics.partitions(&self.topics.names().in_sharding(number).deltas())?.is_some() {
            number += 1;
        }
        Ok(Sharding { number, shards: self.how.shards })
    }

    /// How many step-close records the shards have written.
    pub(super) fn commits_of(&self, shards: &[Shard]) -> Vec<u64> {
        shards.iter().map(|shard| shard.writer.next_commit_number()).collect()
    }

    /// Divides the series, and writes the journals of the new shards. Returns how many label sets there are.
    pub(super) fn divide(&self, shards: Vec<Shard>, after: Sharding) -> Result<usize, ReshardError> {
        let joining: Joining = shards.iter().flat_map(|shard| shard.joining.iter().cloned()).collect();
        // The settings of the shard that has closed the most; where workers have others, these follow at the next step.
        let leading = shards.iter().max_by_key(|shard| shard.task.closed());
        let leading = leading.map(|shard| shard.task.settings().clone());
        let settings = SeriesSettings { shards: after.shards, ..leading.ok_or(Division::Nothing)? };
        let tasks = shards.into_iter().map(|shard| shard.task).collect();
        let new = SeriesTask::reshard(tasks, &settings)?;
        let label_sets = new.iter().map(SeriesTask::label_sets).sum();
        for (task, partition) in new.iter().zip(0..) {
            self.write(task, partition, after, &joining)?;
        }
        Ok(label_sets)
    }

    /// Writes the journal of a new shard: a step-close record of the step that all have closed, and the state.
    fn write(&self, task: &SeriesTask, partition: i32, after: Sharding, joining: &Joining) -> Result<(), ReshardError> {
        let journal = self.topics.names().in_sharding(after.number).series_journal();
        let identity = self.offline.means.clients.identity();
        let claim = self.offline.claim(&journal, partition, identity.clone(), after.number)?;
        if claim.offset != 0 {
            // Another attempt writes to it, too.
            return Err(ReshardError::Meanwhile { journal, partition });
        }
        let writer = JournalWriter::new(claim.owner, claim.offset, None, 0);
        let mut writer = writer.named(&identity).in_sharding(after.number);
        let (step, settings) = (task.closed().unwrap_or_default(), task.settings().encode());
        let change = Change { settings: settings.clone(), ..Change::default() };
        let behind = task.places(joining.iter().cloned().collect());
        let (cause, acknowledged, left_out, basis) = (EmitCause::Watermark, Some(step), Vec::new(), Some(task.basis()));
        let mark = EmitMark { step, cause, acknowledged, left_out, behind, basis, change };
        let records = writer.commit(0, 0, &mark.encode());
        self.append((&journal, partition), &mut writer, &records)?;
        let (body, undelivered, apart) = (task.snapshot(), Vec::new(), Vec::new());
        let joining = joining.clone();
        let snapshot = SeriesSnapshot { body, deltas_offset: 0, step, undelivered, settings, joining, apart };
        let records = writer.snapshot(&snapshot.into_bytes());
        self.append((&journal, partition), &mut writer, &records)?;
        let records = writer.release();
        self.append((&journal, partition), &mut writer, &records)
    }

    /// Reserves all journals of the group for the new sharding, and checks that they have not grown.
    pub(super) fn reserve(&self, sources: &[Source], shards: &[u64], after: Sharding) -> Result<(), ReshardError> {
        let names = self.topics.names();
        for source in sources.iter().filter(|source| !source.is_gone()) {
            let SpanJournal { topic, partition } = &source.journal;
            if self.offline.reserve_span(&source.journal, after.number)? != source.commits {
                return Err(ReshardError::Meanwhile { journal: names.journal(topic), partition: *partition });
            }
        }
        for (commits, partition) in shards.iter().zip(0..) {
            if self.offline.reserve_shard(partition, after.number)? != *commits {
                return Err(ReshardError::Meanwhile { journal: names.series_journal(), partition });
            }
        }
        // Partitions that came meanwhile have journals that are not reserved.
        let known = |topic: &str| sources.iter().filter(|source| source.journal.topic == topic).count();
        for (topic, _) in self.topics.all_sources()? {
            let journal = names.journal(&topic);
            let partitions = self.topics.partitions(&journal)?.unwrap_or(0);
            if known(&topic) != partitions.unsigned_abs() as usize {
                return Err(ReshardError::Meanwhile { journal, partition: partitions - 1 });
            }
        }
        Ok(())
    }

    /// Makes it the present sharding.
    pub(super) fn switch(&self, after: Sharding) -> Result<(), ReshardError> {
        let topic = self.topics.names().shardings();
        let appended = self.offline.means.clients.appender.append_and_wait(&topic, 0, &after.encode(), APPENDS_WITHIN);
        match appended {
            Ok(Some(_)) => Ok(()),
            // The outcome is not known: what the topic holds decides.
            outcome => {
                let there = Topics::new(&self.offline.means.clients.config.kafka)?;
                if there.enter_sharding()? == Some(after) {
                    return Ok(());
                }
                outcome?;
                Err(ReshardError::Meanwhile { journal: topic, partition: 0 })
            }
        }
    }
}
