//! Records that would take stream time far ahead, until later records show whether that is right.
//!
//! A record may come from the future: the clock of its producer is wrong. It may as well be the first one after a
//! silent hour. Its timestamp does not show which; the records after it do. After silence they are as late as it is,
//! and if it alone is ahead they continue where those before it were. So a record that is further ahead than
//! [`slack`](Doubt::new) waits here, with what follows it. Whichever kind is [`LEAD`] records ahead of the other has
//! decided, or after [`MOST`] records or [`MOST_BYTES`] the one that has more. A record without records after it is
//! accepted, unless it is ahead of the present.
//!
//! At the beginning of a partition, records without any time wait for the first one with a time, but not for more than
//! [`MOST`] records or [`MOST_BYTES`]: then the timestamp of the first record is the time.
//!
//! The verdict is a function of the records from the doubtful one on, of what is ahead of the present, and of where the
//! log ended while it waited. What waits is in no commit, and a new owner reads it again and is free to decide
//! otherwise: no task has published anything of it. A replay does not know where the log once ended, so it may decide
//! otherwise than a live worker did.

use std::collections::VecDeque;

use super::{Record, Refusal};
use crate::core::model::Millis;
use crate::core::otlp::Batch;

/// One kind of records decides when it has so many more than the other.
const LEAD: usize = 32;
/// The maximum number of records that are compared.
const MOST: usize = 512;
/// The maximum of their total size.
const MOST_BYTES: usize = 1 << 20;
/// The overhead of a record beyond its value and its tenant.
const RECORD: usize = 96;
/// A decoded record is kept if it is at most so many times as large as the record; otherwise it is decoded again.
const DECODED: usize = 4;
/// So many batches are kept for their memory, none of them larger than this.
const SPARE: usize = 8;
const SPARE_BYTES: usize = 256 << 10;

/// How much must be known for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// More records will come.
    More,
    /// The log ends here for now: a record without evidence against it is right.
    Clear,
    /// Nothing else will come, or not for long.
    Over,
    /// The same, and stream time advances to this in any case: a record that is not later cannot advance it.
    Decided(Millis),
}

/// The records that wait, in the order of their offsets.
#[derive(Debug)]
pub(super) struct Doubt {
    slack: Millis,
    records: VecDeque<Doubted>,
    asked: Option<Asked>,
    bytes: usize,
    /// Memory to decode into.
    spare: Vec<Batch>,
}

/// What the records behind a doubtful one have shown so far. More come behind them only, so no record is looked at
/// twice.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The offset of the doubtful record, and stream time.
    about: (i64, Option<Millis>),
    /// How many records were compared, and their bytes together, with the doubtful one.
    records: usize,
    bytes: usize,
    as_late: usize,
    earlier: usize,
    /// The time of the last record that continues as if the doubtful one did not exist.
    without: Option<Millis>,
}

/// A record that waits.
#[derive(Debug)]
pub(super) struct Doubted {
    pub(super) offset: i64,
    pub(super) timestamp: Millis,
    pub(super) tenant: Option<Box<str>>,
    pub(super) value: Box<[u8]>,
    /// The time that it holds, if any.
    pub(super) told: Option<Millis>,
    /// Why it will not be read, if so.
    pub(super) fate: Fate,
    /// What it was decoded to, unless that takes too much memory.
    pub(super) decoded: Option<Batch>,
}

/// What will happen to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is read.
    Read,
    /// It cannot be read.
    Refused(Refusal),
    /// It is skipped, because reading it fails.
    Isolated,
}

// === impl Patience ===

impl Patience {
    /// Whether there is nothing more to wait for.
    fn is_last(self) -> bool {
        matches!(self, Self::Over | Self::Decided(_))
    }
}

// === impl Doubt ===

impl Doubt {
    /// Nothing waits. A record that is further ahead than `slack` is doubtful.
    pub(super) fn new(slack: Millis) -> Self {
        Self { slack, records: VecDeque::new(), asked: None, bytes: 0, spare: Vec::new() }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The offset of the last record.
    pub(super) fn last_offset(&self) -> Option<i64> {
        self.records.back().map(|record| record.offset)
    }

    /// The offset of the first record.
    pub(super) fn first_offset(&self) -> Option<i64> {
        self.records.front().map(|record| record.offset)
    }

    /// The timestamp of the first record; 0 if there is none.
    pub(super) fn first_timestamp(&self) -> Millis {
        self.records.front().map_or(0, |record| record.timestamp)
    }

    /// Appends a record. What it was decoded to is taken, and replaced by an empty batch.
    pub(super) fn push(&mut self, record: &Record<'_>, told: Option<Millis>, fate: Fate, decoded: Option<&mut Batch>) {
        let Record { offset, timestamp, tenant, value } = *record;
        let decoded = decoded.and_then(|batch| self.keep(batch, value.len().saturating_mul(DECODED)));
        let tenant = tenant.map(Into::into);
        let doubted = Doubted { offset, timestamp, tenant, value: value.into(), told, fate, decoded };
        self.bytes += doubted.heap();
        self.records.push_back(doubted);
    }

    /// Takes what a record was decoded to, if it is not larger than `most`.
    fn keep(&mut self, batch: &mut Batch, most: usize) -> Option<Batch> {
        if batch.heap() > most {
            // Its memory may be from larger ones before.
            batch.shrink();
        }
        (batch.heap() <= most).then(|| std::mem::replace(batch, self.spare.pop().unwrap_or_default()))
    }

    pub(super) fn pop(&mut self) -> Option<Doubted> {
        let doubted = self.records.pop_front()?;
        self.bytes -= doubted.heap();
        Some(doubted)
    }

    /// Takes a batch whose memory may be used again, as long as records wait.
    pub(super) fn reuse(&mut self, batch: Batch) {
        if self.records.is_empty() {
            self.spare.clear();
        } else if self.spare.len() < SPARE && batch.heap() <= SPARE_BYTES {
            self.spare.push(batch);
        }
    }

    /// Whether a time is so far ahead of `stream_time` that it is doubtful.
    #[inline]
    pub(super) fn is_far(&self, told: Millis, stream_time: Millis) -> bool {
        told > stream_time.saturating_add(self.slack)
    }

    /// What stream time becomes with the first record, if that is clear: it is `stream_time` now, and no accepted time
    /// is later than `ceiling`.
    pub(super) fn decide(
        &mut self,
        stream_time: Option<Millis>,
        ceiling: Millis,
        patience: Patience,
    ) -> Option<Option<Millis>> {
        let Some(now) = stream_time else { return self.begin(ceiling, patience) };
        let told = self.records.front()?.told;
        let Some(told) = told.filter(|&told| self.is_far(told, now)) else { return Some(told.max(stream_time)) };
        let right = self.verdict(0, told, stream_time, ceiling, patience)?;
        Some(if right { Some(told) } else { stream_time })
    }

    /// The time at the beginning: that of the first record with a time, unless later records contradict it.
    fn begin(&mut self, ceiling: Millis, patience: Patience) -> Option<Option<Millis>> {
        let mut times = self.records.iter().enumerate().filter_map(|(at, record)| Some((at, record.told?)));
        let Some((at, told)) = times.next() else {
            // No record has a time. More of them cost memory and do not help.
            let enough = self.records.len() > MOST || self.bytes >= MOST_BYTES;
            return (patience.is_last() || enough).then_some(None);
        };
        if self.verdict(at, told, None, ceiling, patience)? {
            return Some(Some(told));
        }
        let mut others = self.records.iter().filter_map(|record| record.told);
        let against = others.find(|&other| !self.agrees(other, told) && other <= ceiling);
        match against {
            None if !patience.is_last() => None,
            against => Some(Some(against.unwrap_or(told.min(ceiling)))),
        }
    }

    /// Whether a record at `other` is as late as one with the time `told`.
    fn agrees(&self, other: Millis, told: Millis) -> bool {
        other >= told.saturating_sub(self.slack)
    }

    /// Whether the time `told` of the record `at` is right, if that is clear.
    fn verdict(
        &mut self,
        at: usize,
        told: Millis,
        stream_time: Option<Millis>,
        ceiling: Millis,
        patience: Patience,
    ) -> Option<bool> {
        if told > ceiling {
            return Some(false);
        }
        let doubted = self.records.get(at)?;
        let about = (doubted.offset, stream_time);
        let asked = self.asked.filter(|asked| asked.about == about);
        let asked = asked.unwrap_or_else(|| Asked::about(about, doubted.bytes()));
        let asked = self.ask(at, told, asked);
        self.asked = Some(asked);
        let Asked { as_late, earlier, .. } = asked;
        if asked.is_enough() {
            return Some(as_late >= earlier);
        }
        match patience {
            Patience::More => None,
            Patience::Clear => (earlier == 0).then_some(true),
            Patience::Over => Some(as_late >= earlier),
            Patience::Decided(time) => Some(earlier == 0 || told <= time),
        }
    }
}

impl Doubt {
    /// Compares the time `told` of the record `at` with the records after it, as far as needed.
    fn ask(&self, at: usize, told: Millis, mut asked: Asked) -> Asked {
        let (_, stream_time) = asked.about;
        // A record that would have been late before, too, is no evidence.
        let speaks = |time: &Millis| stream_time.is_none_or(|now| *time >= now.saturating_sub(self.slack));
        for record in self.records.iter().skip(at + 1 + asked.records) {
            if asked.is_enough() {
                break;
            }
            if let Some(other) = record.told.filter(speaks) {
                let goes_on = asked.without.is_some_and(|time| other <= time.saturating_add(self.slack / 2));
                if goes_on || !self.agrees(other, told) {
                    asked.earlier += 1;
                    asked.without = asked.without.max(Some(other));
                } else {
                    asked.as_late += 1;
                }
            }
            asked.records += 1;
            asked.bytes += record.bytes();
        }
        asked
    }
}

// === impl Asked ===

impl Asked {
    /// No records were compared with one of so many bytes.
    fn about(about: (i64, Option<Millis>), bytes: usize) -> Self {
        let (_, without) = about;
        Self { about, records: 0, bytes, as_late: 0, earlier: 0, without }
    }

    /// Whether no further record needs to be compared.
    fn is_enough(&self) -> bool {
        let far = self.as_late.abs_diff(self.earlier) >= LEAD;
        self.records > 0 && (far || self.records >= MOST || self.bytes >= MOST_BYTES)
    }
}

// === impl Doubted ===

impl Doubted {
    /// How much it counts for [`MOST_BYTES`]. Without its decoded form, whose size depends on earlier records.
    fn bytes(&self) -> usize {
        RECORD + self.value.len() + self.tenant.as_ref().map_or(0, |tenant| tenant.len())
    }

    /// The memory that it takes.
    fn heap(&self) -> usize {
        size_of::<Self>() + self.bytes() + self.decoded.as_ref().map_or(0, Batch::heap)
    }

    /// The record as it was offered.
    pub(super) fn record(&self) -> Record<'_> {
        let Self { offset, timestamp, .. } = *self;
        Record { offset, timestamp, tenant: self.tenant.as_deref(), value: &self.value }
    }
}

#[cfg(test)]
mod tests;
