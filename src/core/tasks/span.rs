//! The span task: records of one source partition to commits.
//!
//! *In:* records in the order of their offsets, the present time, ticks. *Out:* [`StepCut`]s, to be journaled before
//! anything else happens. *Owner:* the thread that owns the source partition. *Never:* a clock, a delta that is in no
//! cut. *Next:* [`crate::core::journal`] for the commit, the deltas topic for its delta records.
//!
//! # Stream time
//!
//! The greatest record timestamp so far. A record that is further ahead of it than `max_future` waits until the records
//! after it show whether it is right (`doubt`); if not, it is counted at the present stream time, counted, and named
//! ([`SpanTask::take_moved`]). No time beyond the present plus `max_future` is accepted. A record that takes stream
//! time into another step ends the open one: the caller gets the cut, journals it, and offers the record again. When
//! stream time moves, pending edges expire first, and then the record's spans are paired, which belong to the new step.
//! An edge that expires belongs to the step in which its wait ended, however long the partition was silent then: on the
//! way through a gap, stream time stops in every step that has such an edge.
//!
//! With `time.source: span_end`, record timestamps mean nothing. A record then has the time of its spans instead: their
//! earliest end, a tenth of them skipped, less `time.lateness`. It takes the place of the timestamp in all of the
//! above, so stream time is journaled, ticks, and pending edges wait as ever. What differs is where deltas go: each
//! span to the step of its own end. So several steps are open at once, and every commit holds what it adds to all of
//! them. A span whose step is over, or that comes from the future, goes to the oldest open one and is counted. An edge
//! belongs to the step of the span that completes it; one that expires to that in which the wait after its span ends.
//!
//! # Acquiring a task
//!
//! The journal holds the state of the last commit ([`Restored`]). If pending edges were left,
//! [`SpanTask::start_offset`] lies before the commit, and the records up to it go through pairing alone
//! ([`crate::core::servicegraph`] explains why that is exact).

mod clock;
mod cuts;
mod doubt;
mod processors;
mod repeat;
mod sample;
mod times;
mod types;
mod waiting;

use self::clock::SpanClock;
use self::doubt::{Doubt, Fate, Patience};
use self::processors::Processors;
pub use self::processors::tenant_of;
pub use self::repeat::Repeat;
use self::types::{EDGE, KIN};
pub use self::types::{Holding, Moved, Offer, Record, Refusal, RestoreError, Restored, SpanSettings, StepCut};
pub use self::waiting::pending_edges;
use crate::core::formats;
use crate::core::model::time::{MAX_TIME, last_step};
use crate::core::model::{Counter, Ledger, Millis, StepWidth};
use crate::core::otlp::Batch;
use crate::core::settings::Encoding;

/// A record that is ahead by less is never doubted: clocks of producers differ, and records have gaps between them.
const LEAST_SLACK: Millis = 1_000;

/// Turns the records of one source partition into cuts.
#[derive(Debug)]
pub struct SpanTask {
    encoding: Encoding,
    step: StepWidth,
    /// With `time.source: span_end`.
    clock: Option<SpanClock>,
    max_future: Millis,
    /// Records whose time is not accepted yet.
    doubt: Doubt,
    /// Whether the very first record is doubtful, too.
    wary: bool,
    /// The latest time that is accepted.
    ceiling: Millis,
    moved: Option<Moved>,
    counting: Option<i64>,
    shards: u32,
    max_commit_bytes: usize,
    topic: String,
    partition: i32,
    /// The first offset of the open stretch.
    from: Option<i64>,
    /// The offset after the last record that was taken.
    position: Option<i64>,
    /// While pending edges are being rebuilt: the next offset to read again.
    reread: Option<i64>,
    next_commit_number: u64,
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

/// The tenant of a record that was decoded.
type Read<'a> = Result<&'a str, Refusal>;

/// Reads a record's value, if it matches the encoding.
#[inline]
fn decode(encoding: Encoding, batch: &mut Batch, value: &[u8]) -> Result<(), Refusal> {
    if formats::is_otlp_proto(encoding, value) {
        return Ok(batch.decode(value)?);
    }
    batch.decode_from(|out| Ok(formats::to_otlp(encoding, value, out)?))
}

// === impl SpanTask ===

impl SpanTask {
    /// Acquires partition `partition` of `topic`.
    ///
    /// # Errors
    /// When the list of pending edges is damaged.
    pub fn new(
        settings: &SpanSettings,
        topic: String,
        partition: i32,
        restored: Restored,
    ) -> Result<Self, RestoreError> {
        let s = settings;
        let mut processors = Processors::new(s, restored.ledger);
        let mut reread = None;
        // No span follows that could complete pending edges.
        let ended = restored.stream_time.and_then(last_step).is_some();
        if !restored.live.is_empty() && !ended {
            let begun = processors.begin_rebuild(restored.reread_from, &restored.live);
            begun.map_err(|source| RestoreError::Live { topic: topic.clone(), partition, source })?;
            reread = Some(restored.reread_from);
        }
        let mut task = Self {
            encoding: s.encoding,
            step: s.step,
            clock: s.lateness.map(|lateness| SpanClock::new(s.step, lateness)),
            max_future: s.max_future,
            doubt: Doubt::new(s.max_future.max(LEAST_SLACK)),
            wary: false,
            ceiling: MAX_TIME,
            moved: None,
            counting: None,
            shards: s.shards,
            max_commit_bytes: s.max_commit_bytes,
            topic,
            partition,
            from: restored.next,
            position: restored.next,
            reread,
            next_commit_number: restored.next_commit_number,
            stream_time: restored.stream_time,
            latest: restored.step.unwrap_or(0),
            open: false,
            refusal: None,
            batch: Batch::new(),
            processors,
        };
        if restored.next.is_some_and(|next| next <= restored.reread_from) {
            // Nothing but closed traces is listed: no record needs to be read again.
            task.reached(restored.reread_from);
        }
        if !task.processors.rebuilds() {
            // Listed edges are lost at once: no record needs to be read again.
            task.reached(restored.next.unwrap_or(i64::MAX));
        }
        Ok(task)
    }

    /// Continues with other settings for the tenants, from the next record on. Everything else keeps its value.
    pub fn reconfigure(&mut self, settings: &SpanSettings) {
        self.processors.reconfigure(settings);
    }

    /// The offset to read from: before the last commit's end while pending edges are being rebuilt. `None` when the journal
    /// is empty, so that the configuration decides; see [`SpanTask::set_start`].
    #[must_use]
    pub fn start_offset(&self) -> Option<i64> {
        match (self.reread, self.position) {
            (Some(reread), Some(next)) => Some(reread.min(next)),
            (reread, next) => reread.or(next),
        }
    }

    /// Sets where a partition without a journal begins. Has no effect once a position is known.
    pub fn set_start(&mut self, offset: i64) {
        self.from.get_or_insert(offset);
        self.position.get_or_insert(offset);
    }

    /// Whether pending edges are being rebuilt. It ends with the first record after the last commit, or when
    /// [`SpanTask::reached`] is called for it.
    #[must_use]
    pub fn rebuilding(&self) -> bool {
        self.reread.is_some()
    }

    /// Declares that all records below `offset` have been offered, as the owner knows from its own reading position.
    /// Ends rebuilding when no more records can come for it: the last ones may be missing, or have been deleted.
    pub fn reached(&mut self, offset: i64) {
        if self.reread.is_none() || self.position.is_some_and(|next| offset < next) {
            return;
        }
        self.reread = None;
        self.processors.finish_rebuild();
        // The old owner continued here with the stream time of its last commit.
        if let Some(stream_time) = self.stream_time {
            self.processors.expire(stream_time, self.clock.as_ref());
        }
    }

    /// Offers the next record; `now` is the present time. Records that a commit covers already are skipped.
    pub fn offer(&mut self, record: &Record<'_>, now: Millis) -> Offer {
        // A record that is offered again, because a cut came first, is queued already: its verdict stands.
        if self.doubt.last_offset() != Some(record.offset) {
            self.refusal = None;
        }
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
        self.ceiling = now.saturating_add(self.max_future).clamp(0, MAX_TIME);
        let waits = self.doubt.last_offset().is_some_and(|last| last >= record.offset);
        if !waits {
            let (read, told) = self.time_of(record);
            if self.doubt.is_empty() && !self.is_doubtful(told) {
                return self.offer_clear(record, read, told);
            }
            self.keep(record, read, told);
        }
        self.believe(Patience::More).map_or(Offer::Taken, |cut| Offer::CutFirst { cut: Box::new(cut) })
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

    /// Skips the next record, because offering it fails: it is counted, and the next commit covers it. Pending edges of
    /// it that a commit lists are lost. False when a commit covers the record already, so that it was counted before.
    pub fn isolate(&mut self, record: &Record<'_>) -> bool {
        self.refusal = None;
        if self.rebuilding() && self.position.is_some_and(|next| record.offset < next) {
            self.read_past(record.offset);
            return false;
        }
        self.reached(record.offset);
        self.set_start(record.offset);
        if self.read_up_to().is_some_and(|next| record.offset < next) {
            return false;
        }
        if self.doubt.is_empty() {
            self.count_isolated(record);
        } else {
            self.doubt.push(record, None, Fate::Isolated, None);
        }
        true
    }

    fn count_isolated(&mut self, record: &Record<'_>) {
        self.count_read(record);
        self.processors.ledger.add(Counter::RecordsIsolated, 1);
    }

    /// The next commit covers a record.
    fn count_read(&mut self, record: &Record<'_>) {
        self.open = true;
        self.position = Some(record.offset + 1);
        let ledger = &mut self.processors.ledger;
        ledger.add(Counter::RecordsRead, 1);
        ledger.add(Counter::BytesRead, record.value.len() as u64);
    }

    /// While a record whose time was doubtful is being counted, with all that comes before it: its offset. The offered
    /// record is another one.
    #[must_use]
    pub fn counting(&self) -> Option<i64> {
        self.counting
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

    /// The ledger since the beginning of the journal.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.processors.ledger
    }

    /// Declares that the records below `offset` can never be read: they are counted as lost, and the next commit covers
    /// them.
    pub fn lost_below(&mut self, offset: i64) {
        self.pass(offset, offset.abs_diff(self.position.unwrap_or(offset)), Counter::RecordsLost);
    }

    /// Declares that the records at the offsets `[from, to)` cannot be read, and that reading continues at `to`: they
    /// are counted, unless a commit covers them already, and the next commit covers them. Offered records are settled
    /// before; commit their cuts first.
    pub fn unreadable(&mut self, from: i64, to: i64) -> Vec<StepCut> {
        if self.rebuilding() && self.position.is_some_and(|next| to <= next) {
            self.read_past(to - 1);
            return Vec::new();
        }
        let cuts = self.settle();
        let from = from.max(self.position.unwrap_or(from));
        self.pass(to, (to - from).max(0).unsigned_abs(), Counter::RecordsUnreadable);
        cuts
    }

    /// Continues at `offset` if that is ahead; adds `n` to `counter` for the offsets before it.
    fn pass(&mut self, offset: i64, n: u64, counter: Counter) {
        if self.position.is_none_or(|position| position >= offset) {
            return;
        }
        // Before the position moves: pending edges are rebuilt from records below it only.
        self.reached(offset);
        self.processors.ledger.add(counter, n);
        self.position = Some(offset);
        self.open = true;
    }

    /// The number of pending edges.
    #[must_use]
    pub fn pending_edges(&self) -> usize {
        self.processors.pairing.pending()
    }

    /// The number of spans in open traces.
    #[must_use]
    pub fn open_trace_spans(&self) -> usize {
        self.processors.window.as_ref().map_or(0, |window| window.held())
    }

    /// Whether any tenant has a service graph.
    #[must_use]
    pub fn pairs(&self) -> bool {
        self.processors.pairing.is_enabled()
    }

    /// The number of label sets that the task knows.
    #[must_use]
    pub fn label_sets(&self) -> usize {
        self.processors.table.len()
    }

    /// A sample of the traces that were read since the last call, the same one in every partition: a trace that is
    /// found in two partitions has edges that cannot be paired.
    pub fn take_traces(&mut self) -> Vec<[u8; 16]> {
        self.processors.sample.take()
    }

    /// What the task holds in memory.
    #[must_use]
    pub fn holding(&self) -> Holding {
        let Processors { table, pairing, window, seen, .. } = &self.processors;
        let traces = window.as_ref().map_or(0, |window| window.bytes());
        let seen = seen.as_ref().map_or(0, |seen| seen.bytes());
        let edges = pairing.pending() * EDGE + pairing.remembered() * KIN + traces + seen;
        Holding { open: table.estimate(), known: table.known_bytes(), edges, doubted: self.doubt.bytes() }
    }

    fn take<'a>(&mut self, record: &Record<'a>, read: Option<Read<'a>>, stream_time: Millis) {
        #[cfg(test)]
        tests::hurt(record);
        self.count_read(record);
        let tenant = match read.unwrap_or_else(|| self.read(record)) {
            Ok(tenant) => tenant,
            Err(refusal) => {
                self.refusal = Some(refusal);
                return self.count_refusal(refusal);
            }
        };
        if self.batch.is_excluded() {
            return self.processors.ledger.add(Counter::RecordsNotForMetrics, 1);
        }
        let mut clock = self.clock.as_mut();
        if let Some(clock) = &mut clock {
            clock.set(stream_time);
        }
        self.processors.drop_duplicates(&mut self.batch, record, tenant, stream_time);
        self.processors.record(&self.batch, record, tenant, stream_time, clock);
    }

    fn count_refusal(&mut self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::NoTenant => Counter::RecordsWithoutTenant,
            Refusal::Undecodable(_) | Refusal::Format(_) => Counter::RecordsUndecodable,
        };
        self.processors.ledger.add(counter, 1);
    }

    /// Passes a record that a commit covers through pairing alone.
    fn read_again(&mut self, record: &Record<'_>) {
        if self.reread.is_some_and(|at| record.offset < at) {
            return;
        }
        if let Some(tenant) = record.tenant
            && decode(self.encoding, &mut self.batch, record.value).is_ok()
            && !self.batch.is_excluded()
        {
            self.processors.rebuild(&mut self.batch, record, tenant);
        }
        self.read_past(record.offset);
    }

    /// The record at `offset`, which a commit covers, has been processed.
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
pub(crate) mod tests;
