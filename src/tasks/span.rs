//! The span task: records of one source partition to commits.
//!
//! *In:* records in the order of their offsets, the present time, ticks. *Out:* [`StepCut`]s, to be journaled before
//! anything else happens. *Owner:* the thread that owns the source partition. *Never:* a clock, a delta that is in no cut.
//! *Next:* [`crate::journal`] for the commit, the deltas topic for its shares.
//!
//! # Stream time
//!
//! The greatest record timestamp so far, but never further ahead of the present than `max_future`. A record that takes
//! stream time into another step ends the open one: the caller gets the cut, journals it, and offers the record again.
//! When stream time moves, half edges expire first, and then the record's spans are paired. All of it belongs to the new
//! step.
//!
//! With `time.source: span_end`, record timestamps mean nothing. A record then has the time of its spans instead: their
//! earliest end, a tenth of them left out, less `time.lateness`. It takes its place in all that is said above, so stream
//! time is journaled, ticks, and half edges wait as ever. What differs is where deltas go: each span to the step of its
//! own end. So several steps are open at once, and every commit holds what it adds to all of them. A span whose step is
//! over, or that comes from the future, goes to the oldest open one and is tallied. An edge belongs to the step of the span
//! that completes it, what expires to the oldest open one.
//!
//! # Taking over
//!
//! The journal says what the last commit knew ([`Restored`]). If half edges were waiting, [`SpanTask::start_offset`] lies
//! before the commit, and the records up to it go through pairing alone ([`crate::servicegraph`] says why that is exact).

mod clock;
mod processors;
mod repeat;

use self::clock::SpanClock;
use self::processors::Processors;
pub use self::repeat::Repeat;
use crate::config::{Config, Tenants, settings};
use crate::deltas::ShareHead;
use crate::model::time::{ended_after, last_step};
use crate::model::wire::Malformed;
use crate::model::{Ledger, Millis, StepWidth, Tally};
use crate::otlp::{Batch, DecodeError};

/// One record of the source.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp; one before the epoch counts as the epoch.
    pub timestamp: Millis,
    /// The tenant; `None` when the record lacks the key or header that names it. Its spans are then not read.
    pub tenant: Option<&'a str>,
    /// The value: an `ExportTraceServiceRequest`.
    pub value: &'a [u8],
}

/// What a span task needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct SpanSettings {
    /// The format of record values.
    pub encoding: settings::Encoding,
    /// The collection interval.
    pub step: StepWidth,
    /// How far stream time stays behind the ends of spans; `None`: it is that of the records.
    pub lateness: Option<Millis>,
    /// How far stream time may run ahead of the present.
    pub max_future: Millis,
    /// Partitions of the deltas topic.
    pub shards: u32,
    /// A cut is due before the next record when the open deltas reach about this size.
    pub max_commit_bytes: usize,
    /// A label set that was idle for longer is spelled out again.
    pub respell_after: Millis,
    /// The resource attribute that names the tenant, if one does. Resources without it belong to the record's tenant.
    pub tenant_attribute: Option<String>,
    /// What to compute for whom.
    pub tenants: Tenants,
}

/// What the journal knows about the partition. The default is that of an empty journal.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The first offset that no commit covers; `None` when there is no commit.
    pub next: Option<i64>,
    /// The number of the next commit.
    pub next_k: u64,
    /// Stream time after the last commit.
    pub stream_time: Option<Millis>,
    /// The latest step that any commit has added to.
    pub step: Option<Millis>,
    /// Where to start reading so that the half edges come back.
    pub reread_from: i64,
    /// The half edges that were waiting.
    pub live: Vec<u8>,
    /// What became of everything up to `next`.
    pub ledger: Ledger,
}

/// Why a task cannot start from what the journal says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The list of half edges does not decode.
    #[error("the last commit of {topic}/{partition} has a damaged list of half edges ({source}); restore its journal")]
    Live {
        /// The source topic.
        topic: String,
        /// The source partition.
        partition: i32,
        /// What is wrong.
        source: Malformed,
    },
}

/// Why a record was taken and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its value is not what the encoding says.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// Nothing says whose it is.
    #[error(
        "the record names no tenant: the key or header that tenant.source asks for is missing, too long or not UTF-8"
    )]
    NoTenant,
}

/// What a task holds, in bytes; estimates that take no time to make.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The open stretch: given back by the next cut.
    pub open: usize,
    /// Label sets that are known, until they are forgotten.
    pub known: usize,
    /// Half edges that wait.
    pub edges: usize,
}

/// What a half edge takes in memory: 68 bytes in its slot, up to 10 in the index, up to 24 for its place in the topic, and
/// its part of the names.
const EDGE: usize = 128;

/// What became of an offered record.
#[derive(Debug)]
#[must_use]
pub enum Offer {
    /// It was taken.
    Taken,
    /// It was not: journal the cut, then offer the same record again.
    CutFirst {
        /// The open stretch, which ends before the record.
        cut: Box<StepCut>,
    },
}

/// One stretch of the source, as a commit wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepCut {
    /// Whether a tick made it.
    pub tick: bool,
    /// The first offset of the stretch.
    pub from: i64,
    /// The offset after the stretch.
    pub to: i64,
    /// The number of the commit.
    pub k: u64,
    /// The end of the latest step that deltas belong to, of this cut or of one before.
    pub step: Millis,
    /// Stream time after the cut.
    pub stream_time: Millis,
    /// Where a new owner starts reading; `to` when no half edge waits.
    pub reread_from: i64,
    /// The half edges that wait.
    pub live: Vec<u8>,
    /// The ledger since the beginning of the journal.
    pub ledger: Ledger,
    /// Per shard, the records for its partition of the deltas topic; at least one each.
    pub shares: Vec<Vec<Vec<u8>>>,
}

/// Turns the records of one source partition into cuts.
#[derive(Debug)]
pub struct SpanTask {
    encoding: settings::Encoding,
    step: StepWidth,
    /// With `time.source: span_end`.
    clock: Option<SpanClock>,
    max_future: Millis,
    shards: u32,
    max_commit_bytes: usize,
    topic: String,
    partition: i32,
    /// The first offset of the open stretch.
    from: Option<i64>,
    /// The offset after the last record that was taken.
    position: Option<i64>,
    /// While half edges are being rebuilt: the next offset to read again.
    reread: Option<i64>,
    next_k: u64,
    stream_time: Option<Millis>,
    /// The latest step of all cuts.
    latest: Millis,
    /// Whether a record was taken since the last cut.
    open: bool,
    /// Why the record that was offered last was not read.
    refusal: Option<Refusal>,
    batch: Batch,
    processors: Processors,
}

// === impl SpanSettings ===

impl From<&Config> for SpanSettings {
    fn from(config: &Config) -> Self {
        Self::from(&Tenants::from(config.clone()))
    }
}

impl From<&Tenants> for SpanSettings {
    fn from(tenants: &Tenants) -> Self {
        let config = tenants.defaults();
        Self {
            encoding: config.kafka.encoding,
            step: config.time.step,
            lateness: config.time.allowed_lateness(),
            max_future: config.time.max_future,
            shards: config.kafka.shards,
            max_commit_bytes: config.worker.max_commit_bytes,
            respell_after: config.series.stale_after,
            tenant_attribute: match &config.tenant {
                settings::TenantSource::Attribute { key, .. } => Some(key.clone()),
                _ => None,
            },
            tenants: tenants.clone(),
        }
    }
}

/// The tenant of a record that was decoded.
type Read<'a> = Result<&'a str, Refusal>;

/// Reads a record's value, if it is what the encoding says.
fn decode(encoding: settings::Encoding, batch: &mut Batch, value: &[u8]) -> Result<(), DecodeError> {
    match encoding {
        settings::Encoding::OtlpProto => batch.decode(value),
    }
}

// === impl SpanTask ===

impl SpanTask {
    /// Takes over partition `partition` of `topic`.
    ///
    /// # Errors
    /// When the list of half edges is damaged.
    pub fn new(
        settings: &SpanSettings,
        topic: String,
        partition: i32,
        restored: Restored,
    ) -> Result<Self, RestoreError> {
        let s = settings;
        let mut processors = Processors::new(s, restored.ledger);
        let mut reread = None;
        // Nothing comes any more that half edges could meet.
        let ended = restored.stream_time.and_then(last_step).is_some();
        if !restored.live.is_empty() && !ended {
            let begun = processors.pairing.begin_rebuild(restored.reread_from, &restored.live);
            begun.map_err(|source| RestoreError::Live { topic: topic.clone(), partition, source })?;
            reread = Some(restored.reread_from);
        }
        let mut task = Self {
            encoding: s.encoding,
            step: s.step,
            clock: s.lateness.map(|lateness| SpanClock::new(s.step, lateness)),
            max_future: s.max_future,
            shards: s.shards,
            max_commit_bytes: s.max_commit_bytes,
            topic,
            partition,
            from: restored.next,
            position: restored.next,
            reread,
            next_k: restored.next_k,
            stream_time: restored.stream_time,
            latest: restored.step.unwrap_or(0),
            open: false,
            refusal: None,
            batch: Batch::new(),
            processors,
        };
        if !task.processors.pairing.is_enabled() {
            // What was listed is lost at once: nothing needs to be read again.
            task.reached(restored.next.unwrap_or(i64::MAX));
        }
        Ok(task)
    }

    /// Goes on with other settings for the tenants, from the next record on. Everything else keeps its value.
    pub fn reconfigure(&mut self, settings: &SpanSettings) {
        self.processors.reconfigure(settings);
    }

    /// The offset to read from: before the last commit's end while half edges are being rebuilt. `None` when the journal
    /// is empty, so that the configuration decides; see [`SpanTask::set_start`].
    #[must_use]
    pub fn start_offset(&self) -> Option<i64> {
        match (self.reread, self.position) {
            (Some(reread), Some(next)) => Some(reread.min(next)),
            (reread, next) => reread.or(next),
        }
    }

    /// Says where a partition without a journal begins. Does nothing once a position is known.
    pub fn set_start(&mut self, offset: i64) {
        self.from.get_or_insert(offset);
        self.position.get_or_insert(offset);
    }

    /// Whether half edges are being rebuilt. It ends with the first record after the last commit, or when
    /// [`SpanTask::reached`] says that there is no further record before it.
    #[must_use]
    pub fn rebuilding(&self) -> bool {
        self.reread.is_some()
    }

    /// Says that all records below `offset` have been offered, as the owner knows from its own reading position. Ends
    /// rebuilding when no more records can come for it: the last ones may be missing, or have been deleted.
    pub fn reached(&mut self, offset: i64) {
        if self.reread.is_none() || self.position.is_some_and(|next| offset < next) {
            return;
        }
        self.reread = None;
        self.processors.finish_rebuild();
        // The old owner went on here with the stream time of its last commit.
        if let Some(stream_time) = self.stream_time {
            self.processors.expire(stream_time);
        }
    }

    /// Offers the next record; `now` is the present time. Records that a commit covers already are passed over.
    pub fn offer(&mut self, record: &Record<'_>, now: Millis) -> Offer {
        self.refusal = None;
        if self.has_ended() {
            return Offer::Taken;
        }
        if self.rebuilding() {
            if self.position.is_some_and(|next| record.offset < next) {
                self.read_again(record);
                return Offer::Taken;
            }
            self.reached(record.offset);
        }
        self.set_start(record.offset);
        if self.position.is_some_and(|next| record.offset < next) {
            return Offer::Taken;
        }
        let ceiling = now.saturating_add(self.max_future).max(0);
        let (read, told) = self.time_of(record, ceiling);
        let stream_time = told.max(self.stream_time).unwrap_or(0);
        if let Some(cut) = self.cut_before(record.offset, stream_time) {
            return Offer::CutFirst { cut: Box::new(cut) };
        }
        if self.clock.is_none() {
            self.processors.ledger.add(Tally::RecordsFromFuture, u64::from(record.timestamp > ceiling));
        }
        self.advance(stream_time);
        self.take(record, read, stream_time);
        Offer::Taken
    }

    /// The time that a record tells, if any; and what reading it gave, where its spans had to be asked.
    fn time_of<'a>(&mut self, record: &Record<'a>, ceiling: Millis) -> (Option<Read<'a>>, Option<Millis>) {
        if self.clock.is_none() {
            return (None, Some(record.timestamp.clamp(0, ceiling)));
        }
        let read = self.read(record);
        let spans = self.clock.as_mut().filter(|_| read.is_ok());
        (Some(read), spans.and_then(|clock| clock.time_of(&self.batch, ceiling)))
    }

    /// Decodes a record that names its tenant.
    fn read<'a>(&mut self, record: &Record<'a>) -> Read<'a> {
        let tenant = record.tenant.ok_or(Refusal::NoTenant)?;
        decode(self.encoding, &mut self.batch, record.value)?;
        Ok(tenant)
    }

    /// Why the record that was offered last was taken and not read, if that is so. A record that a commit covers was
    /// refused before, and is not refused again.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Passes over the next record, because offering it fails: it is counted, and the next commit covers it. Half edges of
    /// it that a commit lists are lost. False when a commit covers the record already, so that it was counted before.
    pub fn isolate(&mut self, record: &Record<'_>) -> bool {
        self.refusal = None;
        if self.rebuilding() && self.position.is_some_and(|next| record.offset < next) {
            self.read_past(record.offset);
            return false;
        }
        self.reached(record.offset);
        self.set_start(record.offset);
        if self.position.is_some_and(|next| record.offset < next) {
            return false;
        }
        self.open = true;
        self.position = Some(record.offset + 1);
        let ledger = &mut self.processors.ledger;
        ledger.add(Tally::RecordsRead, 1);
        ledger.add(Tally::BytesRead, record.value.len() as u64);
        ledger.add(Tally::RecordsIsolated, 1);
        true
    }

    /// The cut that is due before the record at `offset` takes stream time to `stream_time`.
    fn cut_before(&mut self, offset: i64, stream_time: Millis) -> Option<StepCut> {
        let current = self.stream_time?;
        let step = self.step.end_of(current);
        if self.step.end_of(stream_time) != step {
            let cut = self.end_stretch(offset, step, stream_time);
            self.advance(stream_time);
            return Some(cut);
        }
        let size = self.processors.table.estimate();
        (size > 0 && size >= self.max_commit_bytes).then(|| self.end_stretch(offset, step, current))
    }

    /// Ends the open stretch now, for a stop or an early commit. `None` when nothing was read and nothing expired since
    /// the last cut.
    pub fn cut(&mut self) -> Option<StepCut> {
        let (stream_time, position) = (self.stream_time?, self.position?);
        let open = self.open || self.processors.table.estimate() > 0;
        (open && !self.rebuilding()).then(|| self.end_stretch(position, self.step.end_of(stream_time), stream_time))
    }

    /// Ends the partition: nothing more will be offered. The last cut says so to the shards, which then need not wait for
    /// this source. With `settle`, the half edges that wait get the rest of their wait first, as if the partition stayed
    /// silent; without, they stay open. Nothing while half edges are being rebuilt, and nothing the second time.
    pub fn finish(&mut self, settle: bool) -> Vec<StepCut> {
        let mut cuts = Vec::new();
        if self.rebuilding() || self.has_ended() {
            return cuts;
        }
        let position = self.position.unwrap_or_default();
        if let Some(at) = self.stream_time.filter(|_| settle && self.pending_edges() > 0) {
            let over = at.saturating_add(self.processors.pairing.wait());
            cuts.extend(self.cut_before(position, over));
            self.advance(over);
        }
        if self.processors.table.has_earliest() {
            // Which step it counts in is known once it is cut, and the end tells the last one.
            cuts.extend(self.cut());
        }
        let step = self.stream_time.map_or(0, |at| self.step.end_of(at));
        let end = ended_after(self.latest_with(step));
        cuts.push(self.end_stretch(position, step, end));
        self.stream_time = Some(end);
        cuts
    }

    /// From the next cut on, nothing counts for `shard` up to the end of `step`: a live shard had closed that without what
    /// comes now. Only [`Repeat`] knows when.
    fn missed(&mut self, shard: u32, step: Millis) {
        self.processors.table.not_before(shard, self.step.end_of(step));
    }

    /// Whether the partition has ended, see [`SpanTask::finish`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stream_time.and_then(last_step).is_some()
    }

    /// Advances the stream time of a silent partition to `to`. Returns a cut when that passes the end of a step;
    /// otherwise nothing happens, as a time that no journal knows must not decide anything. The same while the start
    /// is unknown or half edges are being rebuilt.
    pub fn tick(&mut self, to: Millis) -> Option<StepCut> {
        let position = self.position.filter(|_| self.would_tick(to))?;
        let step = self.stream_time.map_or_else(|| self.step.passed(to), |st| self.step.end_of(st));
        let cut = StepCut { tick: true, ..self.end_stretch(position, step, to) };
        self.advance(to);
        Some(cut)
    }

    /// Whether [`SpanTask::tick`] would do something.
    #[must_use]
    pub fn would_tick(&self, to: Millis) -> bool {
        let passes = self.stream_time.is_none_or(|st| self.step.end_of(st) <= to);
        passes && self.position.is_some() && !self.rebuilding()
    }

    /// The stream time; `None` before the first record and tick.
    #[must_use]
    pub fn stream_time(&self) -> Option<Millis> {
        self.stream_time
    }

    /// The offset after the last record that was taken.
    #[must_use]
    pub fn position(&self) -> Option<i64> {
        self.position
    }

    /// What became of everything since the beginning of the journal.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.processors.ledger
    }

    /// Says that the records below `offset` can never be read: they are counted as lost, and the next commit covers them.
    pub fn lost_below(&mut self, offset: i64) {
        self.pass(offset, offset.abs_diff(self.position.unwrap_or(offset)), Tally::RecordsLost);
    }

    /// Says that what lies at the offsets `[from, to)` cannot be read, and that reading goes on at `to`: they are counted,
    /// unless a commit covers them already, and the next commit covers them.
    pub fn unreadable(&mut self, from: i64, to: i64) {
        if self.rebuilding() && self.position.is_some_and(|next| to <= next) {
            return self.read_past(to - 1);
        }
        let from = from.max(self.position.unwrap_or(from));
        self.pass(to, (to - from).max(0).unsigned_abs(), Tally::RecordsUnreadable);
    }

    /// Goes on at `offset` if that is ahead; `n` of what lies before it goes to `tally`.
    fn pass(&mut self, offset: i64, n: u64, tally: Tally) {
        if self.position.is_none_or(|position| position >= offset) {
            return;
        }
        // Before the position moves: half edges are rebuilt from records below it only.
        self.reached(offset);
        self.processors.ledger.add(tally, n);
        self.position = Some(offset);
        self.open = true;
    }

    /// Goes on at `to`, because an operator says so; the cut tells it to the journal. For a task without half edges, and
    /// without records since the last cut. Stream time stays: what is read again belongs to the present step.
    pub fn move_to(&mut self, to: i64) -> StepCut {
        let from = self.position.unwrap_or(to);
        let tally = if to < from { Tally::RecordsReadAgain } else { Tally::RecordsPassedOver };
        self.processors.ledger.add(tally, to.abs_diff(from));
        let stream_time = self.stream_time.unwrap_or(0);
        self.end_stretch(to, self.step.end_of(stream_time), stream_time)
    }

    /// The number of half edges that wait.
    #[must_use]
    pub fn pending_edges(&self) -> usize {
        self.processors.pairing.pending()
    }

    /// The number of label sets that the task knows.
    #[must_use]
    pub fn label_sets(&self) -> usize {
        self.processors.table.len()
    }

    /// What the task holds in memory.
    #[must_use]
    pub fn holding(&self) -> Holding {
        let Processors { table, pairing, .. } = &self.processors;
        Holding { open: table.estimate(), known: table.known_bytes(), edges: pairing.pending() * EDGE }
    }

    /// The latest step of all, now that `step` is the oldest open one.
    fn latest_with(&self, step: Millis) -> Millis {
        self.clock.as_ref().map_or(step, |clock| clock.latest.max(step)).max(self.latest)
    }

    /// Ends the open stretch, in which `step` was the oldest open one.
    fn end_stretch(&mut self, to: i64, step: Millis, stream_time: Millis) -> StepCut {
        self.latest = self.latest_with(step);
        let (reread_from, live) = self.processors.pairing.live();
        let k = self.next_k;
        let head = ShareHead {
            topic: self.topic.clone(),
            partition: self.partition,
            k,
            part: 0,
            parts: 0,
            step,
            stream_time,
            tenants: Vec::new(),
        };
        let cut = self.processors.table.cut(head, self.shards);
        self.latest = self.latest.max(cut.latest.unwrap_or(step));
        let from = self.from.replace(to).unwrap_or(to);
        self.position = Some(to);
        self.next_k += 1;
        self.open = false;
        StepCut {
            tick: false,
            from,
            to,
            k,
            step: self.latest,
            stream_time,
            reread_from: reread_from.unwrap_or(to),
            live,
            ledger: self.processors.ledger.clone(),
            shares: cut.shares,
        }
    }

    fn advance(&mut self, stream_time: Millis) {
        if self.stream_time != Some(stream_time) {
            self.stream_time = Some(stream_time);
            self.processors.expire(stream_time);
        }
    }

    fn take<'a>(&mut self, record: &Record<'a>, read: Option<Read<'a>>, stream_time: Millis) {
        self.open = true;
        self.position = Some(record.offset + 1);
        let ledger = &mut self.processors.ledger;
        ledger.add(Tally::RecordsRead, 1);
        ledger.add(Tally::BytesRead, record.value.len() as u64);
        let tenant = match read.unwrap_or_else(|| self.read(record)) {
            Ok(tenant) => tenant,
            Err(refusal) => return self.refuse(refusal),
        };
        let mut clock = self.clock.as_mut();
        if let Some(clock) = &mut clock {
            clock.set(stream_time);
        }
        self.processors.record(&self.batch, record, tenant, stream_time, clock);
    }

    fn refuse(&mut self, refusal: Refusal) {
        let tally = match refusal {
            Refusal::NoTenant => Tally::RecordsWithoutTenant,
            Refusal::Undecodable(_) => Tally::RecordsUndecodable,
        };
        self.refusal = Some(refusal);
        self.processors.ledger.add(tally, 1);
    }

    /// Puts a record that a commit covers through pairing alone.
    fn read_again(&mut self, record: &Record<'_>) {
        if self.reread.is_some_and(|at| record.offset < at) {
            return;
        }
        if let Some(tenant) = record.tenant
            && decode(self.encoding, &mut self.batch, record.value).is_ok()
        {
            self.processors.rebuild(&self.batch, record, tenant);
        }
        self.read_past(record.offset);
    }

    /// The record at `offset`, which a commit covers, is done with.
    fn read_past(&mut self, offset: i64) {
        if self.reread.is_some_and(|at| offset >= at) {
            self.reread = Some(offset + 1);
        }
        if self.position == self.reread {
            self.reached(offset + 1);
        }
    }
}

#[cfg(test)]
mod tests;
