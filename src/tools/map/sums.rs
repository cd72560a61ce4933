//! Counts → rates and quantiles.

use std::sync::Arc;

use serde::Serialize;

use crate::core::model::{Layout, NativeTotal, Numbers};

/// The histogram of each side of an edge in the layout.
pub(super) const SERVER: usize = 0;
pub(super) const CLIENT: usize = 1;
/// The only histogram of span metrics.
pub(super) const LATENCY: usize = 0;

/// Counts of one layout, or of several that were joined.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum(Option<(Arc<Layout>, Numbers)>);

/// The numbers that are shown: per second, and in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Values {
    /// Calls per second.
    pub rate: f64,
    /// The fraction of calls that failed, 0 to 1.
    pub errors: f64,
    /// The median of the latency in milliseconds; `None` without latencies.
    pub p50: Option<f64>,
    /// The 95th percentile.
    pub p95: Option<f64>,
    /// The median lies in the first bucket: it is known only to be at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_le: Option<f64>,
    /// The same for the 95th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_le: Option<f64>,
    /// The median lies above the last bound: it is known only to be more than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_gt: Option<f64>,
    /// The same for the 95th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_gt: Option<f64>,
}

/// Latencies of any origin: upper bounds in milliseconds with what lies below each and above the one before.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Latencies {
    buckets: Vec<(f64, f64)>,
    /// Bounds that follow one another by a factor; otherwise the first one is all that is known of what lies below it.
    native: Option<i8>,
}

/// Calls, failures and latencies, from whatever family.
#[derive(Debug, Clone, Default)]
pub(super) struct Red {
    pub(super) calls: f64,
    pub(super) failed: f64,
    pub(super) latencies: Latencies,
}

/// A quantile and its precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantile {
    pub(super) value: f64,
    pub(super) at_most: Option<f64>,
    pub(super) more_than: Option<f64>,
}

// === impl Sum ===

impl Sum {
    pub(super) fn add(&mut self, layout: &Arc<Layout>, numbers: &Numbers) {
        match &mut self.0 {
            None => self.0 = Some((Arc::clone(layout), numbers.clone())),
            Some((own, total)) if Arc::ptr_eq(own, layout) || own == layout => {
                own.add(&mut total.cells, &mut total.natives, (&numbers.cells, &numbers.natives));
            }
            Some((own, total)) => {
                let joined = own.join(layout);
                let mut moved = joined.zeros();
                for (from, counted) in [(&*own, &*total), (layout, numbers)] {
                    let counted = (&*counted.cells, &counted.natives);
                    joined.add_from(&mut moved.cells, &mut moved.natives, from, counted);
                }
                self.0 = Some((Arc::new(joined), moved));
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if let Some((layout, numbers)) = &other.0 {
            self.add(layout, numbers);
        }
    }

    /// The parts, unless nothing was added.
    pub(super) fn get(&self) -> Option<(&Arc<Layout>, &Numbers)> {
        self.0.as_ref().map(|(layout, numbers)| (layout, numbers))
    }

    /// Counter `c` as it would be written.
    pub(super) fn counter(&self, c: usize) -> f64 {
        self.get().and_then(|(layout, numbers)| layout.counter_value(&numbers.cells, c)).unwrap_or(0.0)
    }

    /// The latencies of histogram `h`, if it counted any that is not zero: the side that a virtual edge lacks is observed
    /// as 0 s.
    pub(super) fn latencies(&self, h: usize) -> Option<Latencies> {
        let (layout, numbers) = self.get()?;
        layout.shape(h)?;
        let some = layout.sum_of(&numbers.cells, h) > 0;
        some.then(|| Latencies::of(layout, numbers, h))
    }
}

// === impl Latencies ===

impl Latencies {
    fn of(layout: &Layout, numbers: &Numbers, h: usize) -> Self {
        if layout.buckets(h) > 0 {
            let bounds = layout.bounds(h).iter().map(|&ns| ns as f64 / 1e6).chain([f64::INFINITY]);
            let count = |i| layout.count_value(layout.bucket_of(&numbers.cells, h, i));
            return Self { buckets: bounds.zip((0..layout.buckets(h)).map(count)).collect(), native: None };
        }
        let Some(total) = numbers.natives.get(h) else { return Self::default() };
        Self::of_native(layout, total)
    }

    fn of_native(layout: &Layout, total: &NativeTotal) -> Self {
        let (schema, to_ms) = (total.schema(), layout.unit().ns() / 1e6);
        let upper = |index: i32| (f64::from(index) * (-f64::from(schema)).exp2()).exp2() * to_ms;
        let zero = (total.zero() > 0).then(|| (0.0, layout.count_value(total.zero())));
        let others = total.buckets().map(|(index, count)| (upper(index), layout.count_value(count)));
        Self { buckets: zero.into_iter().chain(others).collect(), native: Some(schema) }
    }

    fn count(&self) -> f64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Adds latencies of another origin. Bounds that only one of them has stay: the counts below them are less precise.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.count() <= 0.0 {
            return;
        }
        if self.buckets.is_empty() {
            *self = other.clone();
            return;
        }
        for &(bound, count) in &other.buckets {
            match self.buckets.binary_search_by(|(own, _)| own.total_cmp(&bound)) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (bound, count)),
            }
        }
        self.native = self.native.zip(other.native).map(|(a, b)| a.min(b));
    }

    /// A quantile as `histogram_quantile` of Prometheus has it: linear inside of a classic bucket, exponential inside of a
    /// native one, and the greatest finite bound for what lies above it.
    pub(super) fn quantile(&self, q: f64) -> Option<Quantile> {
        let total = self.count();
        if total <= 0.0 {
            return None;
        }
        let rank = q * total;
        let (mut low, mut below) = (0.0, 0.0);
        for (i, &(high, count)) in self.buckets.iter().enumerate() {
            if count > 0.0 && below + count >= rank {
                if high.is_infinite() {
                    return Some(Quantile { value: low, at_most: None, more_than: Some(low) });
                }
                let part = (rank - below) / count;
                let value = match self.native {
                    Some(schema) => high * (-(1.0 - part) * (-f64::from(schema)).exp2()).exp2(),
                    None => low + (high - low) * part,
                };
                let at_most = (i == 0 && self.native.is_none()).then_some(high);
                return Some(Quantile { value, at_most, more_than: None });
            }
            (low, below) = (if high.is_finite() { high } else { low }, below + count);
        }
        None
    }
}

// === impl Red ===

impl Red {
    /// Of span metrics: all spans, and those that failed.
    pub(super) fn of_spans(all: &Sum, failed: &Sum) -> Self {
        Self { calls: all.counter(0), failed: failed.counter(0), latencies: all.latencies(LATENCY).unwrap_or_default() }
    }

    /// Of an edge, with the latencies that the wanted side has measured, or else the other one. Returns which one.
    pub(super) fn of_edge(sum: &Sum, wanted: usize) -> (Self, &'static str) {
        let sides = if wanted == CLIENT { [CLIENT, SERVER] } else { [SERVER, CLIENT] };
        let found = sides.into_iter().find_map(|h| Some((h, sum.latencies(h)?)));
        let side = if found.as_ref().map_or(wanted, |(h, _)| *h) == CLIENT { "client" } else { "server" };
        let latencies = found.map(|(_, latencies)| latencies).unwrap_or_default();
        (Self { calls: sum.counter(0), failed: sum.counter(1), latencies }, side)
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.latencies.merge(&other.latencies);
    }

    pub(super) fn values(&self, seconds: f64) -> Values {
        let (p50, p95) = (self.latencies.quantile(0.5), self.latencies.quantile(0.95));
        let share = if self.calls > 0.0 { (self.failed / self.calls).min(1.0) } else { 0.0 };
        Values {
            rate: if seconds > 0.0 { self.calls / seconds } else { 0.0 },
            errors: share,
            p50: p50.map(|q| q.value),
            p95: p95.map(|q| q.value),
            p50_le: p50.and_then(|q| q.at_most),
            p95_le: p95.and_then(|q| q.at_most),
            p50_gt: p50.and_then(|q| q.more_than),
            p95_gt: p95.and_then(|q| q.more_than),
        }
    }
}
