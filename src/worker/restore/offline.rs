//! Acquiring journals outside of a worker: for the command that changes the number of shards.

use std::collections::BTreeMap;

use super::claim::{Claim, stake_claim};
use super::error::TakeoverError;
use super::means::Means;
use super::takeover::take_series_in;
use crate::core::journal::{DeltaRecords, SeriesState};
use crate::core::journal::{Identity, Regained, SeriesFold, SpanFold, SpanState};
use crate::worker::kafka::{JournalFold, JournalLog, LogReader};
use crate::worker::task::{Held, TakenSeries};
use crate::worker::telemetry::{TaskId, TaskKind};

/// A journal of a source partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SpanJournal {
    /// The source topic.
    pub(crate) topic: String,
    /// Its partition.
    pub(crate) partition: i32,
}

/// Acquires journals of the group of `means`, without being a member.
pub(crate) struct Offline<'a> {
    pub(crate) means: &'a Means,
    pub(crate) reader: &'a LogReader,
}

// === impl Offline ===

impl Offline<'_> {
    /// Acquires a shard, also where its journal is reserved for a later sharding already.
    pub(crate) fn shard(&self, partition: i32, held: &mut Held) -> Result<TakenSeries, TakeoverError> {
        let id = TaskId { kind: TaskKind::Series, topic: self.means.clients.names.deltas(), partition };
        let present = self.means.clients.names.sharding();
        match take_series_in(self.means, self.reader, &id, held, present) {
            Err(TakeoverError::Resharded { found, .. }) => take_series_in(self.means, self.reader, &id, held, found),
            taken => taken,
        }
    }

    /// How many commits a journal of a span task has, and the sharding that it is reserved for.
    pub(crate) fn holds(&self, journal: &SpanJournal) -> Result<(u64, u32), TakeoverError> {
        let name = self.means.clients.names.journal(&journal.topic);
        let state = self.read::<SpanFold>(&name, journal.partition)?;
        Ok((state.next_commit_number, state.sharding))
    }

    fn read<F: JournalFold>(&self, topic: &str, partition: i32) -> Result<F::State, TakeoverError> {
        let log = JournalLog { reader: self.reader, topic, partition, to: None, stop: &self.means.stop };
        let damaged = |source| TakeoverError::Journal { topic: topic.to_owned(), partition, source };
        log.fold::<F, TakeoverError>(damaged)?.state().map_err(damaged)
    }

    /// The delta records of commits below `until` that shards lack, by shard the first one.
    pub(crate) fn lacked(
        &self,
        journal: &SpanJournal,
        lacked: &BTreeMap<u32, u64>,
        until: u64,
    ) -> Result<Vec<(u64, DeltaRecords)>, TakeoverError> {
        let topic = self.means.clients.names.journal(&journal.topic);
        let partition = journal.partition;
        let (reader, stop) = (self.reader, &*self.means.stop);
        let mut regained = None;
        JournalLog { reader, topic: &topic, partition, to: None, stop }.read(&mut |cut, offset, record| {
            let regained = regained.get_or_insert_with(|| Regained::new(lacked.clone(), until, cut));
            let damaged = |source| TakeoverError::Journal { topic: topic.clone(), partition, source };
            regained.apply(offset, record).map_err(damaged)
        })?;
        Ok(regained.map(|r| r.delta_records).unwrap_or_default())
    }

    /// Reserves the journal of a span task for a sharding: from now on, nothing counts that earlier ones add. Returns how
    /// many commits it has.
    pub(crate) fn reserve_span(&self, journal: &SpanJournal, sharding: u32) -> Result<u64, TakeoverError> {
        let identity = Identity { topic: Some(journal.topic.clone()), ..self.means.clients.identity() };
        let name = self.means.clients.names.journal(&journal.topic);
        let state: SpanState = self.reserve::<SpanFold>(&name, journal.partition, identity, sharding)?;
        Ok(state.next_commit_number)
    }

    /// The same of the journal of a shard.
    pub(crate) fn reserve_shard(&self, partition: i32, sharding: u32) -> Result<u64, TakeoverError> {
        let name = self.means.clients.names.series_journal();
        let identity = self.means.clients.identity();
        let state: SeriesState = self.reserve::<SeriesFold>(&name, partition, identity, sharding)?;
        Ok(state.next_commit_number)
    }

    fn reserve<F: JournalFold>(
        &self,
        journal: &str,
        partition: i32,
        identity: Identity,
        sharding: u32,
    ) -> Result<F::State, TakeoverError> {
        self.claim(journal, partition, identity, sharding)?.state::<F>(self.means, self.reader)
    }

    /// Claims a journal.
    pub(crate) fn claim<'j>(
        &self,
        journal: &'j str,
        partition: i32,
        identity: Identity,
        sharding: u32,
    ) -> Result<Claim<'j>, TakeoverError> {
        stake_claim(self.means, self.reader, journal, partition, identity, sharding)
    }
}
