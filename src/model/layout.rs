//! What the numbers behind one label set mean: families, metrics, buckets, and the cells they live in.
//!
//! A label set owns one flat slice of `u64` **cells**, laid out by its [`Layout`]:
//!
//! ```text
//! | counter 0 | counter 1 | ... | histogram 0: bucket 0 .. bucket n (+Inf) | sum low | sum high | histogram 1 ...
//! ```
//!
//! Bucket cells are *not* cumulative over `le`; a histogram's count is the sum of its buckets; its sum is a 128-bit
//! number of nanoseconds in two cells. Cells only ever add up, so merging is associative and exact.

use super::wire::{Malformed, Reader, put_u64};

/// A group of metrics that share one label set. Metric names of different families differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// `traces_spanmetrics_*`: calls, size; latency.
    SpanMetrics = 0,
    /// `traces_service_graph_*`: total, failed, connection info; server, client and messaging latency.
    ServiceGraph = 1,
    /// `traces_spanmetrics_events_total`
    SpanEvents = 2,
    /// `traces_target_info`
    TargetInfo = 3,
    /// `traces_host_info`
    HostInfo = 4,
}

/// How metrics are named, and in which unit durations are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Naming {
    /// As Tempo's metrics-generator: seconds.
    Tempo,
    /// As the Collector's spanmetrics connector behind a Prometheus exporter.
    Otel {
        /// Such as `traces_span_metrics`; a metric's name is this, `_`, and `calls_total` and so on. May be empty.
        namespace: String,
        /// The unit of durations.
        unit: Unit,
    },
    /// The one metric of the family has this name.
    Named(String),
}

/// The unit of durations in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unit {
    /// `s`, `_seconds`
    Seconds = 0,
    /// `ms`, `_milliseconds`
    Milliseconds = 1,
}

/// How one histogram counts: classic buckets, a native histogram, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Upper bounds of the classic buckets in nanoseconds, strictly ascending, without `+Inf`; `None`: no classic buckets.
    pub bounds_ns: Option<Vec<u64>>,
    /// `None`: no native histogram.
    pub native: Option<Native>,
}

/// A native (exponential) histogram, as Prometheus defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Native {
    /// The finest resolution: bucket bounds grow by the factor `2^(2^-schema)`.
    pub schema: i8,
    /// With more buckets than this the resolution is halved.
    pub max_buckets: u16,
}

/// What a [`Layout`] is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The family.
    pub family: Family,
    /// The names of its metrics.
    pub naming: Naming,
    /// Whether counts are weights, with a fraction.
    pub weighted: bool,
    /// One per histogram of the family, in its order; `None`: it is never observed and takes no room.
    pub histograms: Vec<Option<Shape>>,
}

impl Family {
    /// The metric names of the counters and gauges, in cell order.
    #[must_use]
    pub fn counters(self) -> &'static [&'static str] {
        match self {
            Self::SpanMetrics => &["traces_spanmetrics_calls_total", "traces_spanmetrics_size_total"],
            Self::ServiceGraph => &[
                "traces_service_graph_request_total",
                "traces_service_graph_request_failed_total",
                "traces_service_graph_connection_info",
            ],
            Self::SpanEvents => &["traces_spanmetrics_events_total"],
            Self::TargetInfo => &["traces_target_info"],
            Self::HostInfo => &["traces_host_info"],
        }
    }

    /// The base names of the histograms, in cell order. Their unit is seconds.
    #[must_use]
    pub fn histograms(self) -> &'static [&'static str] {
        match self {
            Self::SpanMetrics => &["traces_spanmetrics_latency"],
            Self::ServiceGraph => &[
                "traces_service_graph_request_server_seconds",
                "traces_service_graph_request_client_seconds",
                "traces_service_graph_request_messaging_system_seconds",
            ],
            Self::SpanEvents | Self::TargetInfo | Self::HostInfo => &[],
        }
    }

    fn from_u8(v: u8) -> Result<Self, Malformed> {
        match v {
            0 => Ok(Self::SpanMetrics),
            1 => Ok(Self::ServiceGraph),
            2 => Ok(Self::SpanEvents),
            3 => Ok(Self::TargetInfo),
            4 => Ok(Self::HostInfo),
            _ => Err(Malformed("unknown metric family")),
        }
    }
}

/// A family with its bucket bounds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    family: Family,
    /// One list of upper bounds in nanoseconds per histogram, strictly ascending, without `+Inf`.
    bounds: Vec<Vec<u64>>,
}

impl Layout {
    /// A layout that uses the same bounds (nanoseconds, strictly ascending) for every histogram of the family.
    #[must_use]
    pub fn new(family: Family, bounds_ns: &[u64]) -> Self {
        debug_assert!(bounds_ns.is_sorted_by(|a, b| a < b));
        Self { family, bounds: vec![bounds_ns.to_vec(); family.histograms().len()] }
    }

    /// The layout of a specification.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let bounds = |h: &Option<Shape>| h.as_ref().and_then(|h| h.bounds_ns.clone()).unwrap_or_default();
        Self { family: spec.family, bounds: spec.histograms.iter().map(bounds).collect() }
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The upper bounds of histogram `h` in nanoseconds, without `+Inf`.
    #[must_use]
    pub fn bounds(&self, h: usize) -> &[u64] {
        &self.bounds[h]
    }

    /// The number of cells of one label set.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.family.counters().len() + self.bounds.iter().map(|b| b.len() + 3).sum::<usize>()
    }

    /// The most Prometheus series that one label set can have.
    #[must_use]
    pub fn series(&self) -> usize {
        self.family.counters().len() + self.bounds.iter().map(|b| b.len() + 3).sum::<usize>()
    }

    /// The first cell of histogram `h`.
    #[must_use]
    pub fn histogram(&self, h: usize) -> usize {
        self.family.counters().len() + self.bounds[..h].iter().map(|b| b.len() + 3).sum::<usize>()
    }

    /// The cells that hold the sum of histogram `h` (low, high).
    #[must_use]
    pub fn sum(&self, h: usize) -> (usize, usize) {
        let low = self.histogram(h) + self.bounds[h].len() + 1;
        (low, low + 1)
    }

    /// The cell of the bucket into which `value_ns` falls: the first whose bound is not below it.
    #[must_use]
    pub fn bucket(&self, h: usize, value_ns: u64) -> usize {
        self.histogram(h) + self.bounds[h].partition_point(|&b| b < value_ns)
    }

    /// Counts one observation; returns its bucket's cell.
    pub fn observe(&self, cells: &mut [u64], h: usize, value_ns: u64) -> usize {
        let bucket = self.bucket(h, value_ns);
        cells[bucket] += 1;
        self.add_sum(cells, h, u128::from(value_ns));
        bucket
    }

    /// The sum of histogram `h` in nanoseconds.
    #[must_use]
    pub fn sum_of(&self, cells: &[u64], h: usize) -> u128 {
        let (low, high) = self.sum(h);
        u128::from(cells[low]) | (u128::from(cells[high]) << 64)
    }

    fn add_sum(&self, cells: &mut [u64], h: usize, ns: u128) {
        let (low, high) = self.sum(h);
        let total = self.sum_of(cells, h).wrapping_add(ns);
        cells[low] = total as u64;
        cells[high] = (total >> 64) as u64;
    }

    /// Adds `delta` (cells of this layout) to `total` (cells of this layout).
    pub fn add(&self, total: &mut [u64], delta: &[u64]) {
        let counters = self.family.counters().len();
        for (t, d) in total[..counters].iter_mut().zip(delta) {
            *t = t.wrapping_add(*d);
        }
        for h in 0..self.bounds.len() {
            let first = self.histogram(h);
            for i in first..=first + self.bounds[h].len() {
                total[i] = total[i].wrapping_add(delta[i]);
            }
            self.add_sum(total, h, self.sum_of(delta, h));
        }
    }

    /// Re-expresses cells of layout `from` in this layout (same family). Counters, counts and sums stay exact; an
    /// observation moves to the first bucket of this layout whose bound is not below its old bound. Every `le` that
    /// both layouts have keeps its cumulative count, so no counter falls.
    #[must_use]
    pub fn rebucket(&self, from: &Layout, cells: &[u64]) -> Vec<u64> {
        let mut out = vec![0; self.cells()];
        let counters = self.family.counters().len();
        out[..counters].copy_from_slice(&cells[..counters]);
        for h in 0..self.bounds.len() {
            let first = from.histogram(h);
            for (i, count) in cells[first..=first + from.bounds[h].len()].iter().enumerate() {
                let cell = &mut out[self.rebucket_cell(from, h, first + i)];
                *cell = cell.wrapping_add(*count);
            }
            self.add_sum(&mut out, h, from.sum_of(cells, h));
        }
        out
    }

    /// The bucket cell of this layout that takes over bucket cell `cell` of histogram `h` of `from`.
    #[must_use]
    pub fn rebucket_cell(&self, from: &Layout, h: usize, cell: usize) -> usize {
        match from.bounds[h].get(cell - from.histogram(h)) {
            Some(&bound) => self.bucket(h, bound),
            None => self.histogram(h) + self.bounds[h].len(),
        }
    }

    /// The histogram that owns bucket cell `cell`, if it is a bucket.
    #[must_use]
    pub fn histogram_of(&self, cell: usize) -> Option<usize> {
        (0..self.bounds.len()).find(|&h| (self.histogram(h)..=self.histogram(h) + self.bounds[h].len()).contains(&cell))
    }

    /// Appends the layout's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.family as u8);
        put_u64(out, self.bounds.len() as u64);
        for bounds in &self.bounds {
            put_u64(out, bounds.len() as u64);
            let mut last = 0;
            for &b in bounds {
                put_u64(out, b - last);
                last = b;
            }
        }
    }

    /// Reads what [`Layout::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are malformed, the family is unknown or its number of histograms is another one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let family = Family::from_u8(r.u8()?)?;
        if r.uint::<usize>()? != family.histograms().len() {
            return Err(Malformed("number of histograms does not fit the family"));
        }
        let mut bounds = Vec::new();
        for _ in family.histograms() {
            bounds.push(decode_bounds(r)?);
        }
        Ok(Self { family, bounds })
    }
}

/// No histogram has more buckets than this; it keeps cell numbers in 16 bits.
pub const MAX_BUCKETS: usize = 1_000;

fn decode_bounds(r: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    let n = r.uint::<usize>()?;
    if n > MAX_BUCKETS {
        return Err(Malformed("too many buckets"));
    }
    let mut bounds = Vec::with_capacity(n);
    let mut last = 0u64;
    for i in 0..n {
        let gap = r.u64()?;
        if gap == 0 && i > 0 {
            return Err(Malformed("bucket bounds do not ascend"));
        }
        last = last.checked_add(gap).ok_or(Malformed("bucket bound out of range"))?;
        bounds.push(last);
    }
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bounds: &[u64]) -> Layout {
        Layout::new(Family::ServiceGraph, bounds)
    }

    #[test]
    fn a_value_equal_to_a_bound_falls_into_that_bucket() {
        let l = layout(&[100, 200]);
        assert_eq!(l.bucket(0, 100), l.histogram(0));
        assert_eq!(l.bucket(0, 101), l.histogram(0) + 1);
        assert_eq!(l.bucket(0, 201), l.histogram(0) + 2);
    }

    #[test]
    fn the_cells_of_two_histograms_do_not_overlap() {
        let l = layout(&[100, 200]);
        assert_eq!(l.cells(), 2 + 5 + 5);
        assert_eq!(l.histogram(1), 7);
        assert_eq!(l.sum(1), (10, 11));
        assert_eq!(l.histogram_of(2), Some(0));
        assert_eq!(l.histogram_of(5), None);
        assert_eq!(l.histogram_of(9), Some(1));
    }

    #[test]
    fn sums_carry_over_64_bits() {
        let l = layout(&[100]);
        let mut total = vec![0; l.cells()];
        let mut delta = vec![0; l.cells()];
        l.observe(&mut delta, 0, u64::MAX);
        for _ in 0..3 {
            l.add(&mut total, &delta);
        }
        assert_eq!(l.sum_of(&total, 0), 3 * u128::from(u64::MAX));
        assert_eq!(total[l.histogram(0) + 1], 3);
    }

    #[test]
    fn rebucketing_keeps_counts_sums_and_shared_bounds() {
        let (old, new) = (layout(&[100, 200, 400]), layout(&[150, 200]));
        let mut cells = vec![0; old.cells()];
        for v in [50, 150, 150, 300, 900] {
            old.observe(&mut cells, 0, v);
        }
        let re = new.rebucket(&old, &cells);
        let first = new.histogram(0);
        assert_eq!(re[first..first + 3], [1, 2, 2]);
        assert_eq!(new.sum_of(&re, 0), 50 + 150 + 150 + 300 + 900);
    }

    #[test]
    fn a_layout_survives_the_round_trip_and_bad_bytes_are_errors() {
        let l = layout(&[0, 100, 200]);
        let mut out = Vec::new();
        l.encode(&mut out);
        assert_eq!(Layout::decode(&mut Reader::new(&out)), Ok(l));
        for cut in 0..out.len() {
            assert!(Layout::decode(&mut Reader::new(&out[..cut])).is_err());
        }
        assert!(Layout::decode(&mut Reader::new(&[9, 0])).is_err());
    }
}
