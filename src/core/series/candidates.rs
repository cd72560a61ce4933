//! Which exemplars go with a step.

use super::metrics::{COUNTER_TIME, Metrics, SeriesRef};
use crate::core::model::layout::MAX_HISTOGRAMS;
use crate::core::model::{Exemplar, Family, Millis, Owner, Unit};

/// An exemplar that lies further after its step than this is skipped: receivers refuse the far future, and it would
/// block all later ones of its series.
const MAX_LEAD: Millis = 300_000;
/// A native histogram carries this many at a step, the latest ones.
const MAX_NATIVE: usize = 10;
const TIMES: usize = 1 + MAX_HISTOGRAMS;

/// The candidates of one set and step, and how late the last exported ones were.
pub(super) struct Candidates<'a> {
    metrics: &'a Metrics,
    list: &'a [(u32, Exemplar)],
    on_counters: bool,
    until: Millis,
    told: [Millis; TIMES],
    latest: [Millis; TIMES],
}

// === impl Candidates ===

impl<'a> Candidates<'a> {
    /// `times` are those that the set keeps behind its cells.
    pub(super) fn new(
        metrics: &'a Metrics,
        list: &'a [(u32, Exemplar)],
        times: &[u64],
        step: Millis,
        on_counters: bool,
    ) -> Self {
        let mut told = [0; TIMES];
        told.iter_mut().zip(times).for_each(|(told, time)| *told = time.cast_signed());
        Self { metrics, list, on_counters, until: step.saturating_add(MAX_LEAD), told, latest: told }
    }

    /// The exemplar of a bucket or a counter, with its value in the unit of the metric.
    pub(super) fn of(&mut self, line: &SeriesRef<'_>) -> Option<Exemplar> {
        let cell = line.cell.filter(|_| !self.list.is_empty())?;
        let Some(h) = self.metrics.histogram_of(line.metric) else { return self.of_counter(line.metric, cell) };
        let at = self.list.binary_search_by_key(&cell, |(c, _)| *c).ok()?;
        self.tell(1 + h, self.list[at].1)
    }

    /// Only the first counter has exemplars. What the histogram of span metrics carries counts among the calls, too.
    fn of_counter(&mut self, counter: usize, cell: u32) -> Option<Exemplar> {
        if counter > 0 || !self.on_counters {
            return None;
        }
        let all = self.metrics.layout.family() == Family::SpanMetrics;
        let mine = self.list.iter().filter(|(c, e)| (all || *c == cell) && self.may_tell(COUNTER_TIME, e));
        let best = mine.map(|(_, e)| *e).max()?;
        self.tell(COUNTER_TIME, best)
    }

    /// The exemplars of a native histogram by strictly ascending time, the latest ones.
    pub(super) fn of_native(&mut self, metric: usize) -> Vec<Exemplar> {
        let Some(h) = self.metrics.histogram_of(metric) else { return Vec::new() };
        let layout = &self.metrics.layout;
        let mine = self.list.iter().filter(|(cell, _)| layout.owner(*cell as usize) == Some(Owner::Histogram(h)));
        let mut told: Vec<_> = mine.filter(|(_, e)| self.may_tell(1 + h, e)).map(|(_, e)| *e).collect();
        // Of several with the same time, the greatest.
        told.sort_unstable_by(|a, b| b.cmp(a));
        told.dedup_by_key(|e| e.at);
        told.truncate(MAX_NATIVE);
        told.reverse();
        told.into_iter().filter_map(|e| self.tell(1 + h, e)).collect()
    }

    fn may_tell(&self, time: usize, e: &Exemplar) -> bool {
        e.at > self.told[time] && e.at <= self.until
    }

    fn tell(&mut self, time: usize, mut e: Exemplar) -> Option<Exemplar> {
        if !self.may_tell(time, &e) {
            return None;
        }
        self.latest[time] = self.latest[time].max(e.at);
        // Writing turns nanoseconds into seconds. A thousandfold of them is milliseconds.
        if self.metrics.layout.unit() == Unit::Milliseconds {
            e.value_ns = e.value_ns.saturating_mul(1_000);
        }
        Some(e)
    }

    /// The times of the last exemplars from now on.
    pub(super) fn times(&self) -> impl Iterator<Item = u64> {
        self.latest.into_iter().map(Millis::cast_unsigned)
    }
}
