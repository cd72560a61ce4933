//! The source records and what a span task makes of them: plain counts, and halves that are paired in stream time.

use std::collections::BTreeMap;

use super::rng::Rng;
use spanmill::core::model::wire::{Malformed, Reader, put_i64, put_u64};

/// The width of a step, and how long a half waits.
pub(crate) const STEP: i64 = 5;
const WAIT: i64 = 7;

pub(crate) type Deltas = BTreeMap<u64, u64>;

#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) ts: i64,
    pub(crate) series: u64,
    pub(crate) amount: u64,
    /// The edge that this record is a half of.
    pub(crate) half: Option<u64>,
}

/// The state of a span task.
#[derive(Default)]
pub(crate) struct Pairing {
    pub(crate) stream_time: Option<i64>,
    /// Per edge, where its half lies and when it came, in stream time.
    waiting: BTreeMap<u64, (i64, i64)>,
}

/// The records of a source partition. Some halves never meet their other.
pub(crate) fn records(rng: &mut Rng, n: usize) -> Vec<Record> {
    let mut ts = 1;
    let mut open: Vec<u64> = Vec::new();
    let mut edges = 0;
    (0..n)
        .map(|_| {
            ts += i64::try_from(rng.below(3)).expect("small");
            let half = rng.chance(50).then(|| {
                if !open.is_empty() && rng.chance(55) {
                    open.swap_remove(rng.below(open.len()))
                } else {
                    edges += 1;
                    open.push(edges);
                    edges
                }
            });
            // Record timestamps may step back; stream time does not.
            let ts = ts - i64::try_from(rng.below(3)).expect("small");
            Record { ts, series: rng.next() % 6, amount: 1 + rng.next() % 9, half }
        })
        .collect()
}

/// The end of the step that holds `at`.
pub(crate) fn step_of(at: i64) -> i64 {
    (at.div_euclid(STEP) + 1) * STEP
}

// === impl Pairing ===

impl Pairing {
    /// Stream time once this record is read.
    pub(crate) fn time_with(&self, record: &Record) -> i64 {
        self.stream_time.map_or(record.ts, |t| t.max(record.ts))
    }

    pub(crate) fn read(&mut self, offset: i64, record: &Record, deltas: &mut Deltas) {
        let now = self.time_with(record);
        self.advance(now, deltas);
        *deltas.entry(record.series).or_default() += record.amount;
        if let Some(edge) = record.half {
            if self.waiting.remove(&edge).is_some() {
                *deltas.entry(100 + edge % 2).or_default() += 1;
            } else {
                self.waiting.insert(edge, (offset, now));
            }
        }
    }

    pub(crate) fn advance(&mut self, now: i64, deltas: &mut Deltas) {
        self.stream_time = self.stream_time.max(Some(now));
        self.waiting.retain(|edge, &mut (_, came)| {
            let alive = came + WAIT > now;
            if !alive {
                *deltas.entry(200 + edge % 2).or_default() += 1;
            }
            alive
        });
    }

    /// Gives up all halves: an operator has moved the task, and their others may never come.
    pub(crate) fn give_up(&mut self, deltas: &mut Deltas) {
        for (edge, _) in std::mem::take(&mut self.waiting) {
            *deltas.entry(200 + edge % 2).or_default() += 1;
        }
    }

    /// Where re-reading starts when the task has read up to `to`.
    pub(crate) fn reread_from(&self, to: i64) -> i64 {
        self.waiting.values().map(|&(offset, _)| offset).min().unwrap_or(to)
    }

    /// Which halves wait: offsets, and when they came. The latter cannot be found out again, because of ticks.
    pub(crate) fn live(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u64(&mut out, self.waiting.len() as u64);
        for &(offset, came) in self.waiting.values() {
            put_i64(&mut out, offset);
            put_i64(&mut out, came);
        }
        out
    }

    /// The state of the old owner, from its list and the source.
    pub(crate) fn rebuild(stream_time: Option<i64>, live: &[u8], reread: &[(i64, Record)]) -> Result<Self, Malformed> {
        let mut pairing = Self { stream_time, ..Self::default() };
        let mut r = Reader::new(live);
        let mut came = BTreeMap::new();
        for _ in 0..if live.is_empty() { 0 } else { r.u64()? } {
            came.insert(r.i64()?, r.i64()?);
        }
        for (offset, record) in reread {
            if let (Some(edge), Some(&came)) = (record.half, came.get(offset)) {
                pairing.waiting.insert(edge, (*offset, came));
            }
        }
        Ok(pairing)
    }
}
