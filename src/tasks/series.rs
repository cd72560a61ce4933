//! The pure half of a series task: share records in, requests out.
//!
//! *In:* the records of one partition of the deltas topic, in log order; which sources exist; when to close by force.
//! *Out:* [`ClosedStep`]s, snapshots. *Owner:* one thread of the worker, or a test. *Never:* a clock, a guess about a
//! silent source: the caller knows how long it has been silent. *Next:* the worker journals the emit mark and sends.

use std::collections::BTreeMap;

use crate::deltas::{SetDelta, Share, ShareError, ShareHead};
use crate::journal::{Behind, ChainVerdict, ShareChain};
use crate::model::time::last_step;
use crate::model::wire::{Malformed, Reader, put_bytes, put_checksum, put_i64, put_u64, verify_checksum};
use crate::model::{MAX_TIME, Millis};
use crate::series::{AddError, OLD_VERSION, Offender, Registry};

pub use crate::series::{ClosedStep, SeriesSettings, TenantBook};

const VERSION: u8 = 2;

/// The state of one shard: which shares were added, how far each source is, and the series.
#[derive(Debug)]
pub struct SeriesTask {
    chain: ShareChain,
    times: BTreeMap<String, BTreeMap<i32, Millis>>,
    registry: Registry,
}

/// What became of a share record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The source that the share comes from: topic and partition.
    pub source: (String, i32),
    /// Whether it was added up; if not, it says why, and nothing changed.
    pub verdict: ChainVerdict,
    /// Its step was closed already, so its deltas went to the oldest open one. Only after a forced close.
    pub late: bool,
    /// How many deltas are lost because their label set is unknown or misnamed. Must be 0: log it loudly.
    pub lost: u64,
    /// The first of them.
    pub first_lost: Option<AddError>,
}

/// A record of the deltas topic that cannot be a share. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It does not decode.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// Its step or stream time is absurd.
    #[error("a share has step {step} and stream time {stream_time}, which are no times in milliseconds")]
    Time {
        /// The step of the share.
        step: Millis,
        /// The stream time of the share.
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
    #[error("the snapshot has format version {0}, this version reads up to {VERSION}; upgrade this worker")]
    Newer(u8),
}

// === impl SeriesTask ===

impl SeriesTask {
    /// A task that has read nothing.
    #[must_use]
    pub fn new(settings: SeriesSettings) -> Self {
        Self { chain: ShareChain::new(), times: BTreeMap::new(), registry: Registry::new(settings) }
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
        let chain = ShareChain::decode(&mut r)?;
        let mut times: BTreeMap<String, BTreeMap<i32, Millis>> = BTreeMap::new();
        for _ in 0..r.u64()? {
            let topic = r.str()?.to_owned();
            times.entry(topic).or_default().insert(r.uint()?, r.i64()?);
        }
        let registry = Registry::decode(settings, version, &mut r)?;
        if r.is_empty() { Ok(Self { chain, times, registry }) } else { Err(Malformed("bytes after the state").into()) }
    }

    /// From the next step on, tenants are written as `tenants` says. Nothing that is counted changes.
    pub fn reconfigure(&mut self, tenants: TenantBook) {
        self.registry.reconfigure(tenants);
    }

    /// The whole state as bytes; the offset in the deltas topic is the caller's.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.chain.encode(&mut out);
        put_u64(&mut out, self.source_times().count() as u64);
        for (topic, partition, at) in self.source_times() {
            put_bytes(&mut out, topic.as_bytes());
            put_u64(&mut out, u64::from(partition.unsigned_abs()));
            put_i64(&mut out, at);
        }
        self.registry.encode(&mut out);
        put_checksum(&mut out, 0);
        out
    }

    /// Adds one record of the deltas topic, if it is the next of its source.
    ///
    /// # Errors
    /// When the record is not a share. It is skipped as a whole then.
    pub fn apply(&mut self, record: &[u8]) -> Result<Applied, ApplyError> {
        let mut share = Share::decode(record)?;
        let ShareHead { step, stream_time, .. } = share.head;
        // The least number has no absolute value.
        let is_far = |at: i64| at.unsigned_abs() > MAX_TIME.unsigned_abs();
        if is_far(step) || (is_far(stream_time) && last_step(stream_time).is_none()) {
            return Err(ApplyError::Time { step, stream_time });
        }
        // All or nothing: a share that breaks off in the middle must not count half.
        let mut sets: Vec<SetDelta<'_>> = Vec::new();
        while let Some(set) = share.next_set()? {
            sets.push(set);
        }
        let head = &share.head;
        let verdict = self.chain.accept(&head.topic, head.partition, head.k, head.part, head.parts);
        let source = (head.topic.clone(), head.partition);
        let mut applied = Applied { source, verdict, late: false, lost: 0, first_lost: None };
        let ChainVerdict::Accepted { complete } = verdict else { return Ok(applied) };
        applied.late = !sets.is_empty() && self.closed().is_some_and(|closed| head.step <= closed);
        for (tenant, sets) in &share.head.tenants {
            self.registry.mention(share.head.step, tenant, sets);
        }
        let at = last_step(stream_time).unwrap_or(stream_time);
        let layouts: Vec<_> = share.layouts.iter().map(|layout| self.registry.layout(layout)).collect();
        self.registry.add(head.step, at, &layouts, &sets, |lost| {
            applied.lost += 1;
            applied.first_lost.get_or_insert(lost);
        });
        if complete {
            self.advance(&share.head);
        }
        Ok(applied)
    }

    /// Stream time moves when the last part of a share is in: until then the rest of its step is still to come.
    fn advance(&mut self, head: &ShareHead) {
        if !self.times.contains_key(&head.topic) {
            self.times.insert(head.topic.clone(), BTreeMap::new());
        }
        if let Some(partitions) = self.times.get_mut(&head.topic) {
            let at = partitions.entry(head.partition).or_insert(head.stream_time);
            *at = head.stream_time.max(*at);
        }
    }

    /// The step that closes next, if every one of `sources` (topic, partition) has passed it. Steps come one at a time
    /// and in order: ask again after [`SeriesTask::close`]. When all sources have ended, the last step of all is the last.
    #[must_use]
    pub fn closable(&self, sources: &[(String, i32)]) -> Option<Millis> {
        let step = self.registry.next_step()?;
        let passed = !sources.is_empty() && sources.iter().all(|source| self.has_passed(source, step));
        (passed && self.last_step(sources).is_none_or(|last| step <= last)).then_some(step)
    }

    /// Whether every one of `sources` has ended and all steps are closed: nothing more comes out of this task.
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

    /// How far the sources `behind` are, for the mark of a step that is closed without them.
    #[must_use]
    pub fn places(&self, behind: Vec<(String, i32)>) -> Vec<Behind> {
        let place = |(topic, partition): (String, i32)| {
            let (k, part) = self.chain.next(&topic, partition);
            Behind { topic, partition, k, part }
        };
        behind.into_iter().map(place).collect()
    }

    fn has_passed(&self, source: &(String, i32), step: Millis) -> bool {
        self.time_of(source).is_some_and(|at| at >= step)
    }

    /// The stream time of a source. One that has ended is past every step.
    #[must_use]
    pub fn time_of(&self, (topic, partition): &(String, i32)) -> Option<Millis> {
        self.times.get(topic)?.get(partition).copied()
    }

    /// Closes a step, by watermark or by force: folds it and everything before it, and writes its samples. The result
    /// depends on the shares applied so far and on nothing else.
    pub fn close(&mut self, step: Millis) -> ClosedStep {
        self.registry.close(step, self.watermark())
    }

    /// The same, but nothing is written for the tenants `left_out`, whose receivers are down. Part of what the step depends
    /// on: whoever closes it again must leave out the same.
    pub fn close_without(&mut self, step: Millis, left_out: &[String]) -> ClosedStep {
        if left_out.is_empty() {
            self.close(step)
        } else {
            self.registry.close_without(step, self.watermark(), left_out)
        }
    }

    /// The least stream time of all sources that ever sent a share, whether or not they still exist. None while one of
    /// them has not finished its first share.
    fn watermark(&self) -> Option<Millis> {
        let known = self.chain.sources().count() == self.source_times().count();
        self.source_times().map(|(_, _, at)| at).min().filter(|_| known)
    }

    /// The last closed step.
    #[must_use]
    pub fn closed(&self) -> Option<Millis> {
        self.registry.closed()
    }

    /// The stream time of every source (topic, partition) that has sent a share, sorted.
    pub fn source_times(&self) -> impl Iterator<Item = (&str, i32, Millis)> {
        self.times
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |(&p, &at)| (topic.as_str(), p, at)))
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

    /// The labels with the most values among the tenants that have refused label sets.
    #[must_use]
    pub fn offenders(&self, most: usize) -> Vec<Offender> {
        self.registry.offenders(most)
    }

    /// What the series and the open steps take in memory, by their own account.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.registry.bytes()
    }

    /// The label sets in memory, live and cold.
    #[must_use]
    pub fn label_sets(&self) -> usize {
        self.registry.label_sets()
    }
}

#[cfg(test)]
mod tests;
