//! A closed step as requests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::candidates::Candidates;
use super::fold::Turn;
use super::layouts::Layouts;
use super::metrics::{Line, Metrics, Value};
use super::set::LabelSet;
use super::tenant::TenantSeries;
use super::tenants::Names;
use super::{SeriesSettings, TenantBook};
use crate::model::Millis;
use crate::model::labels::{self, Cuts, put_label};
use crate::remotewrite::StepBatch;
use crate::remotewrite::encode::{Point, STALE, SeriesLabels, SeriesWriter};

/// What a series task has to say about one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedStep {
    /// The step, named by its end: the timestamp of its samples.
    pub step: Millis,
    /// One batch per tenant that has samples, sorted by tenant, marked as fresh.
    pub batches: Vec<StepBatch>,
    /// All samples in the batches, including the next two.
    pub samples: u64,
    /// Zeros before the first value of a series.
    pub zero_samples: u64,
    /// Markers that end a series.
    pub stale_markers: u64,
    /// Exemplars in the batches.
    pub exemplars: u64,
}

/// Writes the sets of one step, which come in their final order.
pub(super) struct Emitter<'a> {
    stale_after: Millis,
    tenants: &'a TenantBook,
    names: &'a Names,
    writer: &'a mut SeriesWriter,
    zero_at: Option<Millis>,
    tenant: Option<u32>,
    /// The settings of the tenant, and the labels that all its series get.
    own: &'a TenantSeries,
    labels: Cow<'a, BTreeMap<String, String>>,
    /// The label block with the tenant's labels, when there are any.
    merged: Vec<u8>,
    live: usize,
    active_series: u64,
    closed: ClosedStep,
}

// === impl ClosedStep ===

impl ClosedStep {
    pub(super) fn empty(step: Millis) -> Self {
        Self { step, batches: Vec::new(), samples: 0, zero_samples: 0, stale_markers: 0, exemplars: 0 }
    }
}

// === impl Emitter ===

impl<'a> Emitter<'a> {
    pub(super) fn new(
        settings: &'a SeriesSettings,
        names: &'a Names,
        writer: &'a mut SeriesWriter,
        step: Millis,
    ) -> Self {
        let zero_at = (settings.zero_offset > 0).then(|| step - settings.zero_offset).filter(|&at| at > 0);
        let closed = ClosedStep::empty(step);
        let (tenants, stale_after) = (&settings.tenants, settings.stale_after);
        Self {
            stale_after,
            tenants,
            names,
            writer,
            zero_at,
            tenant: None,
            own: tenants.of(""),
            labels: Cow::Owned(BTreeMap::new()),
            merged: Vec::new(),
            live: 0,
            active_series: 0,
            closed,
        }
    }

    /// Writes the samples of a live set whose turn it is, or the markers that end it.
    pub(super) fn emit(&mut self, set: &mut LabelSet, layouts: &Layouts, turn: &mut Turn) {
        if self.tenant != Some(set.tenant) {
            self.end_batch();
            self.begin_batch(set.tenant);
        }
        let metrics = layouts.of(set.layout);
        let idle = self.closed.step.saturating_sub(set.touched);
        self.merged.clear();
        if !self.labels.is_empty() {
            merge(&mut self.merged, set.block(), &self.labels);
        }
        if let Some(replaced) = turn.replaced.filter(|_| self.own.is_told_ends()) {
            self.end_vanished(set, layouts.of(replaced), metrics);
        }
        if idle > 0 && idle >= self.stale_after {
            self.end_set(set, &turn.numbers, metrics);
        } else {
            self.live += 1;
            if self.own.write && self.own.is_due(self.closed.step) {
                self.emit_values(set, metrics, turn);
            } else {
                self.pass_over(set, &turn.numbers, metrics);
            }
        }
    }

    fn begin_batch(&mut self, tenant: u32) {
        let name = self.names.of(tenant);
        self.own = self.tenants.of(name);
        self.labels = self.own.labels(name);
        self.writer.set_limits(self.own.max_samples, self.own.max_bytes, &self.own.exemplar_label);
        self.tenant = Some(tenant);
    }

    /// Writes the markers of all series that have been written.
    fn end_set(&mut self, set: &mut LabelSet, numbers: &[u64], metrics: &Metrics) {
        set.live = false;
        if self.own.is_told_ends() {
            let mut writer = self.lines(set);
            metrics.each(numbers, &set.natives, |line| {
                if set.emitted & (1 << line.metric) != 0 {
                    writer.stale(&line);
                }
            });
        }
    }

    /// Writes nothing of a live set. See [`super::tenant`] for what counts as written.
    fn pass_over(&mut self, set: &mut LabelSet, numbers: &[u64], metrics: &Metrics) {
        let (mut all, mut series) = (0, 0);
        metrics.each(numbers, &set.natives, |line| {
            all |= 1 << line.metric;
            series += 1;
        });
        self.active_series += series;
        if !self.own.write {
            set.emitted |= all;
        }
    }

    /// Series that the new layout no longer has (a bucket's `le`, a name, a native histogram) would stay behind, flat, for
    /// the receiver's look-back time. They end here. Those that are new in their place get no zero: the set is old, their
    /// first value holds its whole past, and a zero would turn that into an increase.
    fn end_vanished(&mut self, set: &LabelSet, old: &Metrics, new: &Metrics) {
        let emitted = set.emitted;
        let mut writer = self.lines(set);
        old.each_vanished(new, |line| {
            if emitted & (1 << line.metric) != 0 {
                writer.stale(&line);
            }
        });
    }

    fn emit_values(&mut self, set: &mut LabelSet, metrics: &Metrics, turn: &mut Turn) {
        let (step, zero_at, own) = (self.closed.step, self.zero_at, self.own);
        let exemplars = if own.exemplars { &*turn.exemplars } else { &[] };
        let (cells, times) = turn.numbers.split_at_mut(metrics.layout.cells());
        let mut told = Candidates::new(metrics, exemplars, times, step, own.exemplars_on_counters);
        let mut emitted = set.emitted;
        let mut series = 0;
        let mut writer = self.lines(set);
        metrics.each(cells, &set.natives, |line| {
            let zero_at = zero_at.filter(|_| set.emitted & (1 << line.metric) == 0);
            writer.value(&line, zero_at, &mut told);
            emitted |= 1 << line.metric;
            series += 1;
        });
        set.emitted = emitted;
        self.active_series += series;
        times.iter_mut().zip(told.times()).for_each(|(time, latest)| *time = latest);
    }

    fn lines<'b>(&'b mut self, set: &'b LabelSet) -> Lines<'b> {
        let (block, cuts) = if self.labels.is_empty() {
            (set.block(), set.cuts)
        } else {
            (self.merged.as_slice(), labels::cuts(&self.merged))
        };
        Lines { block, cuts, writer: self.writer, closed: &mut self.closed }
    }

    fn end_batch(&mut self) {
        let requests = self.writer.finish();
        if let Some(tenant) = self.tenant.take().filter(|_| !requests.is_empty()) {
            let tenant = Arc::clone(self.names.of(tenant));
            self.closed.batches.push(StepBatch { tenant, step: self.closed.step, resend: false, requests });
        }
    }

    /// The step, the number of live sets and the number of their series.
    pub(super) fn finish(mut self) -> (ClosedStep, usize, u64) {
        self.end_batch();
        (self.closed, self.live, self.active_series)
    }
}

/// Writes the lines of one set and counts them.
struct Lines<'a> {
    block: &'a [u8],
    cuts: Cuts,
    writer: &'a mut SeriesWriter,
    closed: &'a mut ClosedStep,
}

// === impl Lines ===

impl Lines<'_> {
    fn stale(&mut self, line: &Line<'_>) {
        self.closed.stale_markers += 1;
        self.closed.samples += 1;
        let (labels, at) = (labels_of(self.block, self.cuts, line), self.closed.step);
        match line.value {
            Value::Float(_) => self.writer.push(&labels, Point { zero_at: None, at, value: STALE }, None),
            Value::Native(_) => self.writer.push_native(&labels, at, None, None, &[]),
        }
    }

    fn value(&mut self, line: &Line<'_>, zero_at: Option<Millis>, told: &mut Candidates<'_>) {
        self.closed.zero_samples += u64::from(zero_at.is_some());
        self.closed.samples += 1 + u64::from(zero_at.is_some());
        let (labels, at) = (labels_of(self.block, self.cuts, line), self.closed.step);
        match &line.value {
            Value::Float(value) => {
                let exemplar = told.of(line);
                self.closed.exemplars += u64::from(exemplar.is_some());
                self.writer.push(&labels, Point { zero_at, at, value: *value }, exemplar.as_ref());
            }
            Value::Native(value) => {
                let exemplars = told.of_native(line.metric);
                self.closed.exemplars += exemplars.len() as u64;
                let exemplars: Vec<_> = exemplars.iter().collect();
                self.writer.push_native(&labels, at, zero_at, Some(value), &exemplars);
            }
        }
    }
}

fn labels_of<'l>(block: &'l [u8], cuts: Cuts, line: &Line<'l>) -> SeriesLabels<'l> {
    SeriesLabels { block, cuts, name: line.name, le: line.le }
}

/// Appends `block` with the external labels in their places. They replace labels of the same name; an empty value
/// removes one.
fn merge(out: &mut Vec<u8>, block: &[u8], external: &BTreeMap<String, String>) {
    let mut external = external.iter().peekable();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            put_label(out, name, value);
        }
    };
    for (name, value) in labels::iter(block) {
        while let Some((n, v)) = external.next_if(|(n, _)| n.as_str() < name) {
            put(n, v);
        }
        match external.next_if(|(n, _)| n.as_str() == name) {
            Some((n, v)) => put(n, v),
            None => put(name, value),
        }
    }
    for (n, v) in external {
        put(n, v);
    }
}
