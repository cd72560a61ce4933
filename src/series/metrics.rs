//! The series behind the cells of a label set: their names, `le`s and values.

use crate::model::Layout;
use crate::remotewrite::encode::{le_label, name_label};

/// A layout with the wire form of its metric names and bounds.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) layout: Layout,
    counters: Vec<Box<[u8]>>,
    histograms: Vec<HistogramText>,
}

#[derive(Debug)]
struct HistogramText {
    sum: Box<[u8]>,
    count: Box<[u8]>,
    bucket: Box<[u8]>,
    /// One per bucket, `+Inf` last.
    les: Vec<Box<[u8]>>,
}

/// One Prometheus series of a label set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// The counter, or the number of counters plus the histogram: the bit that says whether it has been emitted.
    pub(super) metric: usize,
    /// The bucket cell, for a bucket.
    pub(super) bucket: Option<usize>,
    /// The `__name__` label in wire form.
    pub(super) name: &'a [u8],
    /// The `le` label in wire form, or nothing.
    pub(super) le: &'a [u8],
    /// The cumulative value.
    pub(super) value: f64,
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn new(layout: Layout) -> Self {
        let family = layout.family();
        let counters = family.counters().iter().map(|name| name_label(name)).collect();
        let histograms = (0..family.histograms().len()).map(|h| HistogramText::new(&layout, h)).collect();
        Self { layout, counters, histograms }
    }

    /// The numbers that one set of this layout owns: its cells, then per histogram the time of its last exemplar.
    pub(super) fn numbers(&self) -> usize {
        self.layout.cells() + self.histograms.len()
    }

    /// The bit of histogram `h` among the metrics.
    pub(super) fn metric_of(&self, h: usize) -> usize {
        self.counters.len() + h
    }

    /// Calls `line` for every series that exists, in a fixed order. A counter exists once it is above zero and a
    /// histogram once it has an observation, so what a processor never counts (failures, a switched-off histogram) makes
    /// no series.
    pub(super) fn each<'a>(&'a self, numbers: &[u64], mut line: impl FnMut(Line<'a>)) {
        for (metric, name) in self.counters.iter().enumerate().filter(|(c, _)| numbers[*c] > 0) {
            line(Line { metric, bucket: None, name, le: &[], value: numbers[metric] as f64 });
        }
        for (h, text) in self.histograms.iter().enumerate() {
            let first = self.layout.histogram(h);
            let buckets = &numbers[first..first + text.les.len()];
            let count = buckets.iter().fold(0u64, |n, b| n.wrapping_add(*b));
            if count == 0 {
                continue;
            }
            let metric = self.metric_of(h);
            let sum = self.layout.sum_of(numbers, h) as f64 / 1e9;
            line(Line { metric, bucket: None, name: &text.sum, le: &[], value: sum });
            line(Line { metric, bucket: None, name: &text.count, le: &[], value: count as f64 });
            let mut below = 0u64;
            for (i, (le, n)) in text.les.iter().zip(buckets).enumerate() {
                below = below.wrapping_add(*n);
                line(Line { metric, bucket: Some(first + i), name: &text.bucket, le, value: below as f64 });
            }
        }
    }

    /// Calls `line` for every bucket series that this layout has and `new` has not.
    pub(super) fn each_vanished<'a>(&'a self, new: &Layout, mut line: impl FnMut(Line<'a>)) {
        for (h, text) in self.histograms.iter().enumerate() {
            for (i, (bound, le)) in self.layout.bounds(h).iter().zip(&text.les).enumerate() {
                if new.bounds(h).binary_search(bound).is_err() {
                    let bucket = Some(self.layout.histogram(h) + i);
                    line(Line { metric: self.metric_of(h), bucket, name: &text.bucket, le, value: 0.0 });
                }
            }
        }
    }

    /// A fixed order of layouts of one family.
    pub(super) fn rank(&self) -> impl Iterator<Item = &[u64]> {
        (0..self.histograms.len()).map(|h| self.layout.bounds(h))
    }
}

// === impl HistogramText ===

impl HistogramText {
    fn new(layout: &Layout, h: usize) -> Self {
        let base = layout.family().histograms()[h];
        let bounds = layout.bounds(h).iter().map(|&b| Some(b)).chain([None]);
        Self {
            sum: name_label(&format!("{base}_sum")),
            count: name_label(&format!("{base}_count")),
            bucket: name_label(&format!("{base}_bucket")),
            les: bounds.map(le_label).collect(),
        }
    }
}
