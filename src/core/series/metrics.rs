//! The series behind the cells of a label set: their names, `le`s and values.

use super::since;
use crate::core::model::labels::{is_legal_name, put_label};
use crate::core::model::{Layout, Natives};
use crate::core::remotewrite::encode::name_label;
use crate::core::remotewrite::native::NativeValue;

/// The times of last exemplars that a set keeps: one for its counters, then one per histogram.
pub(super) const COUNTER_TIME: usize = 0;

/// A layout with the wire form of its metric names and bounds.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) layout: Layout,
    counters: Vec<Box<[u8]>>,
    /// `None` for a histogram that the layout does not have.
    histograms: Vec<Option<HistogramText>>,
    /// See [`Layout::carries`].
    carries: Vec<bool>,
    /// Whether receivers take the names of its metrics.
    pub(super) legal: bool,
}

#[derive(Debug)]
struct HistogramText {
    sum: Box<[u8]>,
    count: Box<[u8]>,
    bucket: Box<[u8]>,
    native: Box<[u8]>,
    /// One per classic bucket, `+Inf` last.
    les: Vec<Box<[u8]>>,
}

/// One Prometheus series of a label set.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeriesRef<'a> {
    /// The counter, or the number of counters plus the histogram: the bit for whether it has been emitted.
    pub(super) metric: usize,
    /// The cell of its exemplar, for a bucket and a counter.
    pub(super) cell: Option<u32>,
    /// The `__name__` label in wire form.
    pub(super) name: &'a [u8],
    /// The `le` label in wire form, or nothing.
    pub(super) le: &'a [u8],
    /// The cumulative value.
    pub(super) value: SampleValue<'a>,
}

/// The value of a sample.
#[derive(Debug, Clone, Copy)]
pub(super) enum SampleValue<'a> {
    Float(f64),
    Native(NativeValue<'a>),
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn new(layout: Layout) -> Self {
        let family = layout.family();
        let counters = (0..family.counters().len()).map(|c| name_label(&layout.counter_name(c))).collect();
        let text = |h| layout.shape(h).map(|_| HistogramText::new(&layout, h));
        let histograms = (0..family.histograms().len()).map(text).collect();
        let mut names = (0..family.counters().len())
            .map(|c| layout.counter_name(c))
            .chain((0..family.histograms().len()).map(|h| layout.histogram_name(h)));
        let legal = names.all(|name| is_legal_name(&name, true));
        Self { carries: layout.carries(), layout, counters, histograms, legal }
    }

    /// Whether the labels of its sets hold a name that is not written.
    pub(super) fn is_named_by_label(&self) -> bool {
        self.layout.family().is_named_by_label()
    }

    /// The name of its first metric, for messages.
    pub(super) fn first_name(&self) -> String {
        if self.counters.is_empty() { self.layout.histogram_name(0) } else { self.layout.counter_name(0) }
    }

    /// Adds to one cell.
    pub(super) fn add_cell(&self, cells: &mut [u64], cell: usize, value: u64) {
        let (sum, overflows) = cells[cell].overflowing_add(value);
        cells[cell] = sum;
        if overflows && self.carries[cell] {
            cells[cell + 1] = cells[cell + 1].wrapping_add(1);
        }
    }

    /// The numbers that one set of this layout owns: its cells, the times of its last exemplars, and for each metric when
    /// it began to count.
    pub(super) fn numbers(&self) -> usize {
        self.numbers_before_starts() + since::numbers(self.counters.len() + self.histograms.len())
    }

    /// The numbers that stand before when metrics began; up to version 3 of the snapshot there were no others.
    pub(super) fn numbers_before_starts(&self) -> usize {
        self.layout.cells() + self.times()
    }

    /// See [`COUNTER_TIME`].
    pub(super) fn times(&self) -> usize {
        1 + self.histograms.len()
    }

    /// The histogram behind a metric's bit.
    pub(super) fn histogram_of(&self, metric: usize) -> Option<usize> {
        metric.checked_sub(self.counters.len())
    }

    /// Whether a series is no counter: no sample precedes its first value.
    pub(super) fn is_gauge(&self, line: &SeriesRef<'_>) -> bool {
        self.histogram_of(line.metric).is_none() && self.layout.family().is_gauge(line.metric)
    }

    /// Whether a cell is that of a gauge, whose value is the same however often it was counted.
    pub(super) fn is_gauge_cell(&self, cell: usize) -> bool {
        let family = self.layout.family();
        (0..self.counters.len()).any(|c| family.is_gauge(c) && self.layout.counter(c) == cell)
    }

    /// Whether any native histogram has an observation.
    pub(super) fn any_native(&self, natives: &Natives) -> bool {
        (0..self.histograms.len()).any(|h| natives.get(h).is_some_and(|total| total.count() > 0))
    }

    /// Whether this layout may have the series of `line`.
    pub(super) fn has(&self, line: &SeriesRef<'_>) -> bool {
        let Some(h) = self.histogram_of(line.metric) else { return *self.counters[line.metric] == *line.name };
        let Some(text) = &self.histograms[h] else { return false };
        match line.value {
            SampleValue::Native(_) => self.layout.native(h).is_some() && *text.native == *line.name,
            SampleValue::Float(_) if text.les.is_empty() => false,
            SampleValue::Float(_) if line.le.is_empty() => {
                [&text.sum, &text.count].iter().any(|name| ***name == *line.name)
            }
            SampleValue::Float(_) => *text.bucket == *line.name && text.les.iter().any(|le| **le == *line.le),
        }
    }

    /// Calls `line` for every series that exists, in a fixed order. A counter exists once it is above zero, or the counter that it belongs to is ([`companion`](crate::core::model::Family::companion)), and a
    /// histogram once it has an observation, so what a processor never counts (failures, a switched-off histogram) makes
    /// no series.
    pub(super) fn each(&self, cells: &[u64], natives: &Natives, mut line: impl FnMut(SeriesRef<'_>)) {
        for (metric, name) in self.counters.iter().enumerate() {
            if let Some(value) = self.layout.counter_value(cells, metric) {
                let cell = Some(self.layout.counter(metric) as u32);
                line(SeriesRef { metric, cell, name, le: &[], value: SampleValue::Float(value) });
            }
        }
        for (h, text) in self.histograms.iter().enumerate() {
            let Some(text) = text else { continue };
            let count = self.layout.count_of(cells, natives, h);
            if count > 0 {
                self.each_of_histogram(h, text, count, (cells, natives), &mut line);
            }
        }
    }

    fn each_of_histogram(
        &self,
        h: usize,
        text: &HistogramText,
        count: u128,
        (cells, natives): (&[u64], &Natives),
        line: &mut impl FnMut(SeriesRef<'_>),
    ) {
        let layout = &self.layout;
        let metric = self.counters.len() + h;
        let sum = layout.sum_value(cells, h);
        if !text.les.is_empty() {
            let mut put =
                |cell, name, le, value| line(SeriesRef { metric, cell, name, le, value: SampleValue::Float(value) });
            put(None, &text.sum, &[], sum);
            put(None, &text.count, &[], layout.count_value(count));
            let mut below = 0u128;
            for (i, le) in text.les.iter().enumerate() {
                below = below.wrapping_add(layout.bucket_of(cells, h, i));
                put(Some(layout.bucket_cell(h, i) as u32), &text.bucket, le, layout.count_value(below));
            }
        }
        if let (Some(_), Some(total)) = (layout.native(h), natives.get(h)) {
            let buckets: Vec<_> = total.buckets().collect();
            let (schema, weighted) = (total.schema(), layout.is_weighted());
            let value =
                SampleValue::Native(NativeValue { schema, weighted, zero: total.zero(), sum, buckets: &buckets });
            line(SeriesRef { metric, cell: None, name: &text.native, le: &[], value });
        }
    }

    /// Calls `line` with the metric, the name and the `le` of every series that this layout may have had and `new` has
    /// not, and whether it is a native histogram.
    pub(super) fn each_vanished(&self, new: &Self, mut line: impl FnMut(SeriesRef<'_>)) {
        let gone = SampleValue::Float(0.0);
        let empty = NativeValue { schema: 0, weighted: false, zero: 0, sum: 0.0, buckets: &[] };
        for (metric, name) in self.counters.iter().enumerate().filter(|(c, name)| new.counters[*c] != **name) {
            line(SeriesRef { metric, cell: None, name, le: &[], value: gone });
        }
        for (h, text) in self.histograms.iter().enumerate() {
            let Some(text) = text else { continue };
            let metric = self.counters.len() + h;
            let new_text = new.histograms[h].as_ref().filter(|new| new.native == text.native);
            let stays = |le: &[u8]| new_text.is_some_and(|new| new.les.iter().any(|l| **l == *le));
            if !text.les.is_empty() && new_text.is_none_or(|new| new.les.is_empty()) {
                line(SeriesRef { metric, cell: None, name: &text.sum, le: &[], value: gone });
                line(SeriesRef { metric, cell: None, name: &text.count, le: &[], value: gone });
            }
            for le in text.les.iter().filter(|le| !stays(le)) {
                line(SeriesRef { metric, cell: None, name: &text.bucket, le, value: gone });
            }
            if self.layout.native(h).is_some() && (new_text.is_none() || new.layout.native(h).is_none()) {
                line(SeriesRef { metric, cell: None, name: &text.native, le: &[], value: SampleValue::Native(empty) });
            }
        }
    }
}

// === impl HistogramText ===

impl HistogramText {
    fn new(layout: &Layout, h: usize) -> Self {
        let base = layout.histogram_name(h);
        let le = |le: String| {
            let mut out = Vec::new();
            put_label(&mut out, "le", &le);
            out.into_boxed_slice()
        };
        Self {
            sum: name_label(&format!("{base}_sum")),
            count: name_label(&format!("{base}_count")),
            bucket: name_label(&format!("{base}_bucket")),
            native: name_label(&base),
            les: layout.les(h).map(le).collect(),
        }
    }
}
