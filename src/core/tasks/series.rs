//! The pure half of a series task: delta records in, requests out.
//!
//! *In:* the records of one partition of the deltas topic, in log order; which sources exist; when to close on stall timeout.
//! *Out:* [`ClosedStep`]s, snapshots. *Owner:* one thread of the worker, or a test. *Never:* a clock, a guess about a
//! silent source: the caller knows how long it has been silent. *Next:* the worker journals the step-close record and sends.

mod reshard;
mod sources;
mod terms;

use std::collections::{BTreeMap, VecDeque};

pub use self::reshard::ReshardError;
use self::sources::Sources;
pub use self::terms::Terms;
use crate::core::deltas::{DeltaHead, DeltaRecord, DeltaRecordError, SetDelta};
use crate::core::journal::{Basis, Behind, ChainVerdict, DeltaChain};
use crate::core::model::time::last_step;
use crate::core::model::wire::{Malformed, Reader, checksum, put_checksum, verify_checksum};
use crate::core::model::{Family, MAX_TIME, Millis, SetName};
use crate::core::series::{AddError, OLD_VERSION, Registry, TopLabel, Touched, VERSION, VERSION_3};

pub use crate::core::series::{ClosedStep, SeriesSettings, SettingsError, TenantBook};

/// How many of the last delta records of a source are remembered by their checksums.
const REMEMBERED: usize = 16;

/// The state of one shard: which delta records were added, how far each source is, and the series.
#[derive(Debug)]
pub struct SeriesTask {
    chain: DeltaChain,
    /// Of all delta records that were counted: a snapshot in flight may be lost, and marks after it count all the same.
    digest: u64,
    /// By source, the number, part and checksum of the last delta records that were counted.
    recent: BTreeMap<(String, i32), VecDeque<(u64, u32, u64)>>,
    sources: Sources,
    registry: Registry,
}

/// The result of applying a delta record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The source that the delta record comes from: topic and partition.
    pub source: (String, i32),
    /// Whether it was added up; if not, the reason, and nothing changed.
    pub verdict: ChainVerdict,
    /// It differs from the counted delta record of the same number: its journal was re-created, or has lost its end.
    pub other: bool,
    /// Its step was closed already, so its deltas went to the oldest open one. Only after a forced close.
    pub late: bool,
    /// How many deltas could not be added to their label set: it is unknown, and they wait for its labels; or it is misnamed
    /// or not the only one of its name, and they are lost. Must be 0: log it as an error.
    pub lost: u64,
    /// How many of these wait for no labels: they are lost.
    pub gone: u64,
    /// The first of them.
    pub first_lost: Option<AddError>,
}

/// A record of the deltas topic that cannot be a delta record. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It does not decode.
    #[error(transparent)]
    DeltaRecord(#[from] DeltaRecordError),
    /// Its step or stream time is absurd.
    #[error("a delta record has step {step} and stream time {stream_time}, which are not times in milliseconds")]
    Time {
        /// The step of the delta record.
        step: Millis,
        /// The stream time of the delta record.
        stream_time: Millis,
    },
}

/// A snapshot that cannot be restored; the shard must be folded from the start of the deltas topic instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are damaged.
    #[error("the snapshot of a series task is damaged: {0}")]
    Malformed(#[from] Malformed),
    /// A newer spanmill wrote it.
    #[error("the snapshot has format version {0}, but this version reads up to {VERSION}; upgrade this worker")]
    Newer(u8),
}

// === impl SeriesTask ===

impl SeriesTask {
    /// A task that has read nothing.
    #[must_use]
    pub fn new(settings: SeriesSettings) -> Self {
        Self {
            chain: DeltaChain::new(),
            digest: 0,
            recent: BTreeMap::new(),
            sources: Sources::default(),
            registry: Registry::new(settings),
        }
    }

    /// The task that wrote `snapshot`; the records after it come next.
    ///
    /// # Errors
    /// When the bytes are damaged or of a newer version.
    pub fn restore(settings: SeriesSettings, snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let mut r = Reader::new(verify_checksum(snapshot)?);
        let version = r.u8()?;
        if !(OLD_VERSION..=VERSION).contains(&version) {
            return Err(SnapshotError::Newer(version));
        }
        let chain = DeltaChain::decode(&mut r)?;
        let digest = if version >= VERSION_3 { u64::from_le_bytes(r.array().map_err(SnapshotError::from)?) } else { 0 };
        let mut sources = Sources::decode(version, &mut r)?;
        let mut registry = Registry::decode(settings, version, &mut r)?;
        if version >= VERSION_3 {
            registry.decode_tenancy(&mut r)?;
        }
        sources.begin(&chain, registry.closed().or(registry.next_step()).unwrap_or_default());
        if r.is_empty() {
            Ok(Self { chain, digest, recent: BTreeMap::new(), sources, registry })
        } else {
            Err(Malformed("bytes after the state").into())
        }
    }

    /// From the next step on, other settings are active. That takes effect at the place in the deltas topic at
    /// which it happens, so the mark of the step before records it.
    pub fn adopt(&mut self, settings: SeriesSettings) {
        self.registry.adopt(settings);
    }

    /// The whole state as bytes; the offset in the deltas topic is the caller's.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.chain.encode(&mut out);
        out.extend_from_slice(&self.digest.to_le_bytes());
        self.sources.encode(&mut out);
        self.registry.encode(&mut out);
        self.registry.encode_tenancy(&mut out);
        put_checksum(&mut out, 0);
        out
    }

    /// What the values of a step that is closed now count.
    #[must_use]
    pub fn basis(&self) -> Basis {
        Basis { chain: self.chain.clone(), digest: self.digest }
    }

    /// Which delta records were added, and their digest.
    #[must_use]
    pub fn counted(&self) -> (&DeltaChain, u64) {
        (&self.chain, self.digest)
    }

    /// Adds one record of the deltas topic, if it is the next of its source.
    ///
    /// # Errors
    /// When the record is not a delta record. It is skipped as a whole then.
    pub fn apply(&mut self, record: &[u8]) -> Result<Applied, ApplyError> {
        let delta_record = decode(record)?;
        self.add(delta_record, record)
    }

    /// The same for a record that `wanted` agrees to; with another one, nothing happens.
    ///
    /// # Errors
    /// The same.
    pub fn apply_if(
        &mut self,
        record: &[u8],
        wanted: impl FnOnce(&DeltaHead) -> bool,
    ) -> Result<Option<Applied>, ApplyError> {
        let delta_record = decode(record)?;
        if wanted(&delta_record.head) { self.add(delta_record, record).map(Some) } else { Ok(None) }
    }

    fn add(&mut self, mut delta_record: DeltaRecord<'_>, record: &[u8]) -> Result<Applied, ApplyError> {
        let stream_time = delta_record.head.stream_time;
        // All or nothing: a delta record that is damaged in the middle must not count in part.
        let mut sets: Vec<SetDelta<'_>> = Vec::new();
        while let Some(set) = delta_record.next_set()? {
            sets.push(set);
        }
        let head = &delta_record.head;
        let verdict = self.chain.accept(&head.topic, head.partition, head.commit_number, head.part, head.parts);
        let source = (head.topic.clone(), head.partition);
        let mut applied = Applied { source, verdict, other: false, late: false, lost: 0, gone: 0, first_lost: None };
        let counted = (head.commit_number, head.part, checksum(record));
        let ChainVerdict::Accepted { complete } = verdict else {
            let same = |(commit_number, part, sum): &(u64, u32, u64)| {
                (*commit_number, *part) != (counted.0, counted.1) || *sum == counted.2
            };
            applied.other = self.recent.get(&applied.source).is_some_and(|recent| !recent.iter().all(same));
            return Ok(applied);
        };
        self.digest = Basis::add(self.digest, counted.2);
        let recent = self.recent.entry(applied.source.clone()).or_default();
        recent.truncate(REMEMBERED - 1);
        recent.push_front(counted);
        applied.late = !sets.is_empty() && self.closed().is_some_and(|closed| head.step <= closed);
        let old_names = delta_record.has_old_names();
        for (tenant, sets) in &delta_record.head.tenants {
            self.registry.mention(delta_record.head.step, tenant, &Touched::new(sets, old_names));
        }
        let at = last_step(stream_time).unwrap_or(stream_time);
        let layouts: Vec<_> = delta_record.layouts.iter().map(|layout| self.registry.layout(layout)).collect();
        let mut lost = |error: AddError| {
            applied.lost += 1;
            applied.gone += u64::from(!matches!(error, AddError::Unknown(_)));
            applied.first_lost.get_or_insert(error);
        };
        if old_names {
            self.registry.rename(at, &layouts, &mut sets, &mut lost);
        }
        self.registry.add(head.step, at, &layouts, &sets, lost);
        self.sources.learn(&delta_record.head);
        if complete {
            // Not earlier: until then the rest of its step is still to come.
            self.sources.advance(&delta_record.head);
        }
        Ok(applied)
    }

    /// The step that closes next, if every one of `sources` (topic, partition) has passed it. Steps come one at a time
    /// and in order: ask again after [`SeriesTask::close`]. When all sources have ended, the last step of all is the last.
    #[must_use]
    pub fn closable(&self, sources: &[(String, i32)]) -> Option<Millis> {
        let step = self.registry.next_step()?;
        let passed = !sources.is_empty() && sources.iter().all(|source| self.has_passed(source, step));
        (passed && self.last_step(sources).is_none_or(|last| step <= last)).then_some(step)
    }

    /// For a task that has no samples to write, neither now nor from open steps: the last step that all of `sources`
    /// have passed, if it is not closed. Closing it only records the progress of the task.
    #[must_use]
    pub fn idle_until(&self, sources: &[(String, i32)]) -> Option<Millis> {
        if !self.registry.is_idle() || sources.is_empty() {
            return None;
        }
        let least = sources.iter().try_fold(Millis::MAX, |least, source| Some(least.min(self.time_of(source)?)))?;
        let step = self.last_step(sources).unwrap_or_else(|| self.registry.last_passed(least));
        (step > self.closed().unwrap_or(0)).then_some(step)
    }

    /// Whether every one of `sources` has ended and all steps are closed: the task has no further output.
    #[must_use]
    pub fn has_ended(&self, sources: &[(String, i32)]) -> bool {
        self.last_step(sources).is_some() && self.closable(sources).is_none()
    }

    /// The last step of all sources, if all have ended.
    fn last_step(&self, sources: &[(String, i32)]) -> Option<Millis> {
        sources.iter().try_fold(Millis::MIN, |last, source| Some(last.max(last_step(self.time_of(source)?)?)))
    }

    /// The step that closes next, if any of `sources` has passed it, and those that have not. When they have been silent
    /// for too long, the caller closes it without them.
    #[must_use]
    pub fn held_back_by(&self, sources: &[(String, i32)]) -> (Option<Millis>, Vec<(String, i32)>) {
        let Some(step) = self.registry.next_step() else { return (None, Vec::new()) };
        let behind: Vec<_> = sources.iter().filter(|source| !self.has_passed(source, step)).cloned().collect();
        if behind.len() < sources.len() { (Some(step), behind) } else { (None, Vec::new()) }
    }

    /// Those of `sources` that have not ended.
    #[must_use]
    pub fn not_ended(&self, sources: &[(String, i32)]) -> Vec<(String, i32)> {
        sources.iter().filter(|source| self.time_of(source).and_then(last_step).is_none()).cloned().collect()
    }

    /// How far the sources `behind` are, for the mark of a step that is closed without them.
    #[must_use]
    pub fn places(&self, behind: Vec<(String, i32)>) -> Vec<Behind> {
        let place = |(topic, partition): (String, i32)| {
            let (commit_number, part) = self.chain.next(&topic, partition);
            Behind { topic, partition, commit_number, part }
        };
        behind.into_iter().map(place).collect()
    }

    fn has_passed(&self, source: &(String, i32), step: Millis) -> bool {
        self.time_of(source).is_some_and(|at| at >= step)
    }

    /// The stream time of a source. One that has ended is past every step.
    #[must_use]
    pub fn time_of(&self, (topic, partition): &(String, i32)) -> Option<Millis> {
        self.sources.get(topic, *partition).map(|source| source.at)
    }

    /// Closes a step, by watermark or on stall timeout: folds it and everything before it, and writes its samples. The result
    /// depends on the delta records applied so far and on nothing else.
    pub fn close(&mut self, step: Millis) -> ClosedStep {
        self.registry.close(step, self.watermark())
    }

    /// The same, but nothing is written for the tenants `left_out`, whose receivers are down. Part of what the step depends
    /// on: an owner that closes it again must leave out the same.
    pub fn close_without(&mut self, step: Millis, left_out: &[String]) -> ClosedStep {
        if left_out.is_empty() {
            self.close(step)
        } else {
            self.registry.close_without(step, self.watermark(), left_out)
        }
    }

    /// What decides which label sets may be freed: the least stream time of all sources that may still name one. A
    /// source that names sets for longer than this shard remembers them counts as so much earlier. None while one of
    /// them has not finished its first delta record, or does not report how long it names sets.
    fn watermark(&self) -> Option<Millis> {
        self.sources.watermark(self.settings().memory())
    }

    /// The sources that hold memory of this shard without need when it closes `step`: they are not among the
    /// `configured` ones, and nothing that they could name is needed any more. An owner that closes the step again must
    /// forget the same, see [`SeriesTask::let_go`].
    #[must_use]
    pub fn gone(&self, configured: &[(String, i32)], step: Millis) -> Vec<(String, i32)> {
        self.sources.gone(configured, step, self.settings().memory())
    }

    /// Forgets these sources, so that they no longer keep memory from being freed. One that sends a delta record again
    /// is back.
    pub fn let_go(&mut self, gone: &[(String, i32)]) {
        gone.iter().for_each(|(topic, partition)| self.sources.let_go(topic, *partition));
    }

    /// The last closed step.
    #[must_use]
    pub fn closed(&self) -> Option<Millis> {
        self.registry.closed()
    }

    /// The stream time of every source (topic, partition) that has sent a delta record and was not forgotten, sorted.
    pub fn source_times(&self) -> impl Iterator<Item = (&str, i32, Millis)> {
        self.sources.iter().filter(|(_, _, source)| !source.gone).map(|(topic, p, source)| (topic, p, source.at))
    }

    /// The sources (topic, partition) whose delta records name the settings that they are counted by: the fingerprint,
    /// and the settings themselves, if the delta records hold them.
    pub fn senders(&self) -> impl Iterator<Item = (&str, i32, u64, Option<&str>)> {
        self.sources.senders()
    }

    /// The settings of this shard's samples, from the next step on.
    #[must_use]
    pub fn settings(&self) -> &SeriesSettings {
        self.registry.settings()
    }

    /// The Prometheus series that the last closed step emitted.
    #[must_use]
    pub fn active_series(&self) -> u64 {
        self.registry.active_series()
    }

    /// How many label sets a limit refuses.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.registry.refused()
    }

    /// How many deltas wait for the labels of their set. Must be 0.
    #[must_use]
    pub fn unnamed(&self) -> usize {
        self.registry.unnamed()
    }

    /// How many of them were given up since the task was restored.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.registry.given_up()
    }

    /// The labels with the most values among the tenants that have refused label sets.
    #[must_use]
    pub fn top_labels(&self, most: usize) -> Vec<TopLabel> {
        self.registry.top_labels(most)
    }

    /// What the series and the open steps take in memory, by their own account.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.registry.bytes()
    }

    /// Passes every label set to `tell`: its name, tenant, family and label block, and when a delta mentioned it last.
    pub fn each_label_set(&self, tell: &mut dyn FnMut(SetName, &str, Family, &[u8], Millis)) {
        self.registry.each_label_set(tell);
    }

    /// The label sets in memory, live and cold.
    #[must_use]
    pub fn label_sets(&self) -> usize {
        self.registry.label_sets()
    }
}

/// Reads the head of a delta record.
fn decode(record: &[u8]) -> Result<DeltaRecord<'_>, ApplyError> {
    let delta_record = DeltaRecord::decode(record)?;
    let DeltaHead { step, stream_time, .. } = delta_record.head;
    // The least number has no positive counterpart.
    let is_far = |at: i64| at.unsigned_abs() > MAX_TIME.unsigned_abs();
    if is_far(step) || (is_far(stream_time) && last_step(stream_time).is_none()) {
        return Err(ApplyError::Time { step, stream_time });
    }
    Ok(delta_record)
}

#[cfg(test)]
mod tests;
