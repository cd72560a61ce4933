//! What the journals of a live group hold about the past, for a replay that repeats it: where the wall clock has moved
//! the stream time of a silent partition, and which delta records came too late for a shard that had closed its step on
//! stall timeout.
//!
//! *In:* the journals of series tasks, then that of a span task. *Out:* the [`Event`]s of its partition, in their
//! order. *Owner:* the planner of a replay. *Never:* a number of a commit in the output: a replay cuts its commits
//! elsewhere. *Next:* [`crate::core::tasks::span::Repeat`] repeats the events.
//!
//! # Why a forced close has no other effect
//!
//! A shard counts a delta record in its own step, or in the oldest open one if that is later. So a delta record that
//! comes after step T was closed counts in T + 1 or later, and nothing else about a shard depends on when it closed T.
//! The mark of a forced close holds, for every source that it was closed without, how many commits of it had been
//! counted. The journal of the source holds the offset at which the next one begins. From that offset on, its deltas
//! for that shard count in no step before T + 1. A source that had passed T has no more deltas for T, and a step that
//! is closed by watermark has all sources. A replay therefore cuts its commits there too, writes T + 1 into the delta
//! records from there on where they would be earlier, and its shards need to know nothing of it. A step that is closed
//! by watermark is closed without a source that has joined the shard at work and has not caught up, which its mark names
//! in the same way, and without one that no worker knew of yet: such a source is among what a mark counts for the first
//! time in a later one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::fold::{Fold, FrameVerdict};
use super::identity::Identity;
use super::series::{Basis, Behind, EmitCause, EmitMark};
use super::span::{Cause, SpanCommit};
use super::{JournalError, decode_at};
use crate::core::model::{Millis, StepWidth};

/// Something that happened to a partition before the record at or after an offset, and that no record holds. As JSON,
/// it stands in the plan of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// At the offset, stream time advanced to the time.
    Tick(i64, Millis),
    /// The following records came after a shard had closed a step without them.
    Missed {
        /// The offset.
        offset: i64,
        /// The shard.
        shard: u32,
        /// The end of the last step that it had closed.
        step: Millis,
        /// Whether a commit ended here that did not end by a tick.
        cut: bool,
        /// The event is in the past of a partition that is at the offset and has at least this stream time.
        passed: Millis,
    },
}

/// By commit of a source: the shards that had closed steps on stall timeout before its delta record came, with the last of
/// these steps.
pub type Missed = BTreeMap<u64, BTreeMap<u32, Millis>>;

/// Collects the forced closes in the journals of series tasks, one shard after the other.
#[derive(Debug, Clone, Default)]
pub struct ForcedCloses {
    fold: Fold,
    shard: u32,
    begins: Option<Millis>,
    /// The step of the last mark of the shard, and the sources that it counts.
    counted: Option<(Millis, BTreeSet<(String, i32)>)>,
    missed: BTreeMap<(String, i32), Missed>,
    torn: Vec<Torn>,
    unsaid: Vec<(u32, Millis)>,
}

/// A step that was closed on stall timeout in the middle of a delta record. Which label sets had come is not known any
/// more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The shard.
    pub shard: u32,
    /// The end of the step.
    pub step: Millis,
    /// The source whose delta record it was.
    pub source: (String, i32),
}

/// The step of a delta record, if it can be read.
pub type StepOf = fn(&[u8]) -> Option<Millis>;

/// Collects the events of the journal of a span task.
#[derive(Debug, Clone)]
pub struct Past {
    fold: Fold,
    width: StepWidth,
    missed: Missed,
    step_of: StepOf,
    found: Vec<Event>,
    last: Option<Last>,
    /// Where the first commit begins that the journal still has.
    begins: Option<i64>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// Whether a tick ended it.
    tick: bool,
    /// Stream time after it.
    time: Millis,
    /// Whether that is in another step than the commit: then the edges that expire by it are in the next one.
    crossing: bool,
    /// Whether it holds no record.
    empty: bool,
}

// === impl Event ===

impl Event {
    /// The offset at or before which it happened.
    #[must_use]
    pub fn offset(&self) -> i64 {
        match *self {
            Self::Tick(offset, _) | Self::Missed { offset, .. } => offset,
        }
    }

    /// The same, not before `first`.
    #[must_use]
    pub fn not_before(mut self, first: i64) -> Self {
        let (Self::Tick(offset, _) | Self::Missed { offset, .. }) = &mut self;
        *offset = first.max(*offset);
        self
    }
}

// === impl ForcedCloses ===

impl ForcedCloses {
    /// Continues with the journal of `shard`, which is complete, or `cut` at its beginning.
    pub fn turn_to(&mut self, shard: u32, cut: bool) {
        self.fold = if cut { Fold::after_cut() } else { Fold::new() };
        (self.shard, self.begins, self.counted) = (shard, None, None);
    }

    /// The next record of the journal.
    ///
    /// # Errors
    /// When the record is no frame, or a mark cannot be read.
    pub fn apply(&mut self, offset: i64, record: &[u8]) -> Result<(), JournalError> {
        let frame = decode_at(offset, record)?;
        let FrameVerdict::Commit { body, .. } = self.fold.apply(&frame) else { return Ok(()) };
        let mark = EmitMark::decode(&body).map_err(|source| JournalError::Body { offset, source })?;
        self.begins.get_or_insert(mark.step);
        if mark.cause == EmitCause::Forced && mark.behind.is_empty() {
            self.unsaid.push((self.shard, mark.step));
        }
        mark.behind.into_iter().for_each(|source| self.add(mark.step, source));
        mark.basis.iter().for_each(|basis| self.count(mark.step, basis));
        Ok(())
    }

    /// Sources that a step counts for the first time were not there when the step before was closed.
    fn count(&mut self, step: Millis, basis: &Basis) {
        let sources = basis.chain.sources().map(|(topic, partition, _)| (topic.to_owned(), partition));
        let sources: BTreeSet<_> = sources.collect();
        let before = self.counted.take();
        if let Some((closed, known)) = &before {
            let joined = sources.difference(known).cloned();
            joined.for_each(|(topic, partition)| {
                self.add(*closed, Behind { topic, partition, commit_number: 0, part: 0 });
            });
        }
        self.counted = Some((step, sources));
    }

    fn add(&mut self, step: Millis, Behind { topic, partition, commit_number, part }: Behind) {
        let (shard, source) = (self.shard, (topic, partition));
        if part > 0 {
            self.torn.push(Torn { shard, step, source: source.clone() });
        }
        let last =
            self.missed.entry(source).or_default().entry(commit_number).or_default().entry(shard).or_insert(step);
        *last = step.max(*last);
    }

    /// Whose journal the present one is, if a frame names its owner.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.fold.identity()
    }

    /// The first step whose mark the journal of the present shard still has.
    #[must_use]
    pub fn begins(&self) -> Option<Millis> {
        self.begins
    }

    /// By source (topic and partition): the steps that its delta records came too late for.
    #[must_use]
    pub fn missed(&self) -> &BTreeMap<(String, i32), Missed> {
        &self.missed
    }

    /// Forced closes that no replay can repeat, because they fell into the middle of a delta record.
    #[must_use]
    pub fn torn(&self) -> &[Torn] {
        &self.torn
    }

    /// Forced closes, as shard and step, of an earlier version, which did not record the missing sources.
    #[must_use]
    pub fn unsaid(&self) -> &[(u32, Millis)] {
        &self.unsaid
    }
}

// === impl Past ===

impl Past {
    /// For a journal that is there from its first record on, or for one that is `cut`. Steps are `width` wide, and its source
    /// has `missed` some. `step_of` reads the delta records in commits.
    #[must_use]
    pub fn new(width: StepWidth, cut: bool, missed: Missed, step_of: StepOf) -> Self {
        let fold = if cut { Fold::after_cut() } else { Fold::new() };
        Self { fold, width, missed, step_of, found: Vec::new(), last: None, begins: None }
    }

    /// The next record of the journal.
    ///
    /// # Errors
    /// When the record is no frame, or a commit cannot be read.
    pub fn apply(&mut self, offset: i64, record: &[u8]) -> Result<(), JournalError> {
        let frame = decode_at(offset, record)?;
        let FrameVerdict::Commit { commit_number, from, to, body } = self.fold.apply(&frame) else { return Ok(()) };
        self.begins.get_or_insert(from);
        let later = self.missed.split_off(&(commit_number + 1));
        self.place(from, later);
        let commit = SpanCommit::decode(&body).map_err(|source| JournalError::Body { offset, source })?;
        let Some(time) = commit.stream_time else { return Ok(()) };
        let tick = commit.cause == Cause::Tick;
        if tick {
            self.found.push(Event::Tick(to, time));
        }
        // By the ends of spans, a commit adds to steps that stream time has not reached, too.
        let steps = || commit.delta_records.iter().flatten().filter_map(|record| (self.step_of)(record));
        let began = self.last.map_or_else(|| steps().min().unwrap_or(commit.step), |last| self.width.end_of(last.time));
        self.last = Some(Last { tick, time, crossing: self.width.end_of(time) > began, empty: from == to });
        Ok(())
    }

    /// Commits begin at `offset` whose delta records came too late for a step. Those in `left` begin later.
    fn place(&mut self, offset: i64, left: Missed) {
        let missed = std::mem::replace(&mut self.missed, left);
        if missed.is_empty() {
            return;
        }
        let (mut cut, mut passed) = (true, Millis::MIN);
        if let Some(Last { tick, time, crossing, empty }) = self.last {
            if !tick && (empty || crossing) {
                // The next record moved stream time there: edges that expired on the way were committed before it, in
                // their own step, and those that expire there are not.
                self.found.push(Event::Tick(offset, time));
            }
            (cut, passed) = (!tick && !crossing, if crossing { time } else { time + 1 });
        }
        for (shard, step) in missed.into_values().flatten() {
            self.found.push(Event::Missed { offset, shard, step, cut, passed });
        }
    }

    /// Whose journal it is, if a frame names its owner.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.fold.identity()
    }

    /// The source offset from which on all events are known; `None` if the journal has no commit.
    #[must_use]
    pub fn begins(&self) -> Option<i64> {
        self.begins
    }

    /// The events, in their order. Steps that a later commit has missed follow the last commit of the journal.
    #[must_use]
    pub fn found(mut self) -> Vec<Event> {
        let next = self.fold.next().unwrap_or_default();
        self.place(next, Missed::new());
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::journal::frame::claim;
    use crate::core::journal::{ChainVerdict, Change, DeltaChain, JournalWriter, Owner, SeriesSnapshot};
    use crate::core::model::Ledger;

    fn commit(cause: Cause, stream_time: Millis) -> Vec<u8> {
        commit_of(15_000, cause, stream_time)
    }

    fn commit_of(step: Millis, cause: Cause, stream_time: Millis) -> Vec<u8> {
        let commit = SpanCommit {
            cause,
            step,
            stream_time: Some(stream_time),
            forwarded: 0,
            reread_from: 0,
            live: Vec::new(),
            ledger: Ledger::default(),
            delta_records: Vec::new(),
            witness: None,
        };
        commit.encode()
    }

    fn past(missed: Missed, log: &[Vec<u8>]) -> Past {
        let mut past = Past::new(StepWidth::new(15_000).expect("positive"), false, missed, |_| None);
        (0..).zip(log).for_each(|(offset, record)| past.apply(offset, record).expect("a frame"));
        past
    }

    fn missed<const N: usize>(all: [(u64, u32, Millis); N]) -> Missed {
        let mut missed = Missed::new();
        for (commit_number, shard, step) in all {
            missed.entry(commit_number).or_default().insert(shard, step);
        }
        missed
    }

    #[test]
    fn the_ticks_that_count_are_found_with_their_places() {
        let (zombie, owner) = (Owner(1), Owner(2));
        let mut log = vec![claim(zombie, "")];
        let mut old = JournalWriter::new(zombie, 0, None, 0);
        log.extend(old.commit(10, 20, &commit(Cause::Records, 1_000)));
        log.push(claim(owner, ""));
        // Too late: another worker owns the journal.
        log.extend(old.commit(20, 20, &commit(Cause::Tick, 99_000)));
        let mut new = JournalWriter::new(owner, 2, Some(20), 1);
        log.extend(new.commit(20, 20, &commit(Cause::Tick, 30_000)));
        log.extend(new.commit(20, 25, &commit(Cause::Records, 31_000)));
        log.extend(new.commit(25, 26, &commit(Cause::Tick, 60_000)));
        let past = past(Missed::new(), &log);
        assert_eq!(past.begins(), Some(10));
        assert_eq!(past.found(), [Event::Tick(20, 30_000), Event::Tick(26, 60_000)]);
    }

    #[test]
    fn what_came_too_late_stands_between_the_ticks_where_its_commit_began() {
        let mut log = vec![claim(Owner(1), "")];
        let mut w = JournalWriter::new(Owner(1), 0, None, 0);
        log.extend(w.commit(10, 15, &commit(Cause::Records, 1_000)));
        log.extend(w.commit(15, 20, &commit(Cause::Records, 15_000)));
        log.extend(w.commit(20, 20, &commit(Cause::Records, 15_000)));
        log.extend(w.commit(20, 22, &commit(Cause::Tick, 30_000)));
        log.extend(w.commit(22, 22, &commit(Cause::Records, 30_000)));
        log.extend(w.commit(22, 25, &commit(Cause::Tick, 60_000)));
        let at = |offset, shard, cut, passed| Event::Missed { offset, shard, step: 15, cut, passed };
        let all = missed([0, 1, 2, 3, 4, 5, 6].map(|commit_number| (commit_number, commit_number as u32, 15)));
        let expected = [
            at(10, 0, true, Millis::MIN),
            // Cut for its size: the step continues.
            at(15, 1, true, 1_001),
            // Cut by the record at 20, in a later step; what expires by it follows.
            Event::Tick(20, 15_000),
            at(20, 2, false, 15_000),
            // That has been committed.
            Event::Tick(20, 15_000),
            at(20, 3, true, 15_001),
            Event::Tick(22, 30_000),
            // The tick's own cut is the beginning of what follows it, and what expires by it is not before that.
            at(22, 4, false, 30_000),
            Event::Tick(22, 30_000),
            at(22, 5, true, 30_001),
            Event::Tick(25, 60_000),
            at(25, 6, false, 60_000),
        ];
        assert_eq!(past(all, &log).found(), expected);
        let first = Event::Missed { offset: 0, shard: 0, step: 15, cut: true, passed: Millis::MIN };
        assert_eq!(past(missed([(3, 0, 15)]), &[]).found(), [first], "of a journal without commits");
    }

    #[test]
    fn the_first_commit_ends_where_it_did_also_if_it_adds_to_steps_that_stream_time_has_not_reached() {
        let mut log = vec![claim(Owner(1), "")];
        let mut w = JournalWriter::new(Owner(1), 0, None, 0);
        log.extend(w.commit(0, 6, &commit_of(300_000, Cause::Records, 2_000)));
        log.extend(w.commit(6, 9, &commit_of(300_000, Cause::Records, 3_000)));
        let at = Event::Missed { offset: 6, shard: 0, step: 15, cut: true, passed: 2_001 };
        assert_eq!(past(missed([(1, 0, 15)]), &log).found(), [at]);
    }

    #[test]
    fn marks_of_forced_closes_say_what_they_were_without() {
        let behind =
            |partition, commit_number, part| Behind { topic: "spans".to_owned(), partition, commit_number, part };
        let mark = |step, cause, behind| {
            let (acknowledged, left_out, basis, change) = (None, Vec::new(), None, Change::default());
            EmitMark { step, cause, acknowledged, left_out, behind, basis, change }.encode()
        };
        let (watermark, forced) = (EmitCause::Watermark, EmitCause::Forced);
        let mut log = vec![claim(Owner(1), "")];
        let mut w = JournalWriter::new(Owner(1), 0, None, 0);
        log.extend(w.commit(0, 1, &mark(15, watermark, Vec::new())));
        log.extend(w.commit(1, 1, &mark(30, forced, vec![behind(0, 4, 0), behind(1, 0, 2)])));
        let snapshot = SeriesSnapshot { body: vec![1], deltas_offset: 1, step: 30, ..SeriesSnapshot::default() };
        log.extend(w.snapshot(&snapshot.encode()));
        log.extend(w.commit(1, 2, &mark(45, forced, vec![behind(0, 4, 0)])));
        log.extend(w.commit(2, 2, &mark(60, forced, Vec::new())));
        let mut all = ForcedCloses::default();
        for shard in [0, 3] {
            all.turn_to(shard, false);
            (0..).zip(&log).for_each(|(offset, record)| all.apply(offset, record).expect("a frame"));
            assert_eq!(all.begins(), Some(15));
        }
        let (zero, one) = (("spans".to_owned(), 0), ("spans".to_owned(), 1));
        assert_eq!(all.missed()[&zero], missed([(4, 0, 45), (4, 3, 45)]));
        assert_eq!(all.missed()[&one], missed([(0, 0, 30), (0, 3, 30)]));
        assert_eq!(all.torn()[1], Torn { shard: 3, step: 30, source: one });
        assert_eq!(all.unsaid(), [(0, 60), (3, 60)], "as earlier versions wrote it");
    }

    #[test]
    fn a_source_that_joins_a_shard_at_work_is_late_for_what_was_closed_without_it() {
        let of = |partition, commit_number, part| Behind { topic: "spans".to_owned(), partition, commit_number, part };
        let mark = |step, sources: &[(i32, u64)], behind| {
            let mut chain = DeltaChain::new();
            for (partition, commits) in sources {
                (0..*commits).for_each(|commit_number| {
                    assert_ne!(chain.accept("spans", *partition, commit_number, 0, 1), ChainVerdict::Ahead);
                });
            }
            let (acknowledged, left_out, change) = (None, Vec::new(), Change::default());
            let basis = Some(Basis { chain, digest: 0 });
            EmitMark { step, cause: EmitCause::Watermark, acknowledged, left_out, behind, basis, change }.encode()
        };
        let mut log = vec![claim(Owner(1), "")];
        let mut w = JournalWriter::new(Owner(1), 0, None, 0);
        log.extend(w.commit(0, 1, &mark(15, &[(0, 1)], Vec::new())));
        log.extend(w.commit(1, 2, &mark(30, &[(0, 2)], Vec::new())));
        log.extend(w.commit(2, 4, &mark(45, &[(0, 3), (1, 2)], vec![of(1, 2, 0)])));
        log.extend(w.commit(4, 6, &mark(60, &[(0, 4), (1, 5)], Vec::new())));
        let mut all = ForcedCloses::default();
        all.turn_to(7, false);
        (0..).zip(&log).for_each(|(offset, record)| all.apply(offset, record).expect("a frame"));
        assert_eq!(all.missed().len(), 1, "what was there from the beginning is late for nothing");
        assert_eq!(all.missed()[&("spans".to_owned(), 1)], missed([(0, 7, 30), (2, 7, 45)]));
    }

    #[test]
    fn plans_of_before_forced_closes_are_read() {
        let text = r#"[[12,30000],{"offset":13,"shard":2,"step":45000,"cut":true,"passed":9}]"#;
        let events: Vec<Event> = serde_json::from_str(text).expect("legal");
        let missed = Event::Missed { offset: 13, shard: 2, step: 45_000, cut: true, passed: 9 };
        assert_eq!(events, [Event::Tick(12, 30_000), missed]);
        assert_eq!(serde_json::to_string(&events).expect("legal"), text);
        assert_eq!([missed.not_before(20).offset(), missed.not_before(5).offset()], [20, 13]);
    }
}
