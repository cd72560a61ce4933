//! A closed step as requests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::metrics::{Line, Metrics};
use super::registry::{LabelSet, News};
use super::tenant::{TenantSeries, newest};
use super::{SeriesSettings, TenantBook};
use crate::model::labels::{self, Cuts, put_label};
use crate::model::{Exemplar, Family, Millis};
use crate::remotewrite::StepBatch;
use crate::remotewrite::encode::{Point, STALE, SeriesLabels, SeriesWriter};

/// An exemplar that lies further after its step than this is left out: receivers refuse the far future, and it would
/// block all later ones of its series.
const MAX_EXEMPLAR_LEAD: Millis = 300_000;
/// No family has more metrics: each has a bit in [`LabelSet::emitted`].
const MAX_METRICS: usize = u8::BITS as usize;

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
    writer: &'a mut SeriesWriter,
    zero_at: Option<Millis>,
    tenant: Option<Arc<str>>,
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
    pub(super) fn new(settings: &'a SeriesSettings, writer: &'a mut SeriesWriter, step: Millis) -> Self {
        let zero_at = (settings.zero_offset > 0).then(|| step - settings.zero_offset).filter(|&at| at > 0);
        let closed = ClosedStep::empty(step);
        let (tenants, stale_after) = (&settings.tenants, settings.stale_after);
        Self {
            stale_after,
            tenants,
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

    /// Writes the samples of a live set, or the markers that end it.
    pub(super) fn emit(&mut self, set: &mut LabelSet, all: &[Metrics], news: Option<&News>) {
        if self.tenant.as_ref() != Some(&set.tenant) {
            self.end_batch();
            self.begin_batch(&set.tenant);
        }
        let metrics = &all[set.layout as usize];
        let idle = self.closed.step.saturating_sub(set.touched);
        self.merged.clear();
        if !self.labels.is_empty() {
            merge(&mut self.merged, &set.block, &self.labels);
        }
        if let Some(replaced) = news.and_then(|n| n.replaced).filter(|_| self.own.is_told_ends()) {
            self.end_vanished(set, &all[replaced as usize], metrics);
        }
        if idle > 0 && idle >= self.stale_after {
            self.end_set(set, metrics);
        } else {
            self.live += 1;
            if self.own.write && self.own.is_due(self.closed.step) {
                self.emit_values(set, metrics, news.map_or(&[], |n| &n.exemplars));
            } else {
                self.pass_over(set, metrics);
            }
        }
    }

    fn begin_batch(&mut self, tenant: &Arc<str>) {
        self.own = self.tenants.of(tenant);
        self.labels = self.own.labels(tenant);
        self.writer.set_limits(self.own.max_samples, self.own.max_bytes, &self.own.exemplar_label);
        self.tenant = Some(Arc::clone(tenant));
    }

    /// Writes the markers of all series that have been written.
    fn end_set(&mut self, set: &mut LabelSet, metrics: &Metrics) {
        set.live = false;
        if self.own.is_told_ends() {
            let mut writer = self.lines(set);
            metrics.each(&set.numbers, |line| {
                if set.emitted & (1 << line.metric) != 0 {
                    writer.stale(&line);
                }
            });
        }
    }

    /// Writes nothing of a live set. See [`super::tenant`] for what counts as written.
    fn pass_over(&mut self, set: &mut LabelSet, metrics: &Metrics) {
        let (mut all, mut series) = (0, 0);
        metrics.each(&set.numbers, |line| {
            all |= 1 << line.metric;
            series += 1;
        });
        self.active_series += series;
        if !self.own.write {
            set.emitted |= all;
        }
    }

    /// Buckets whose `le` the new layout no longer has would stay behind, flat, for the receiver's look-back time. They
    /// end here. The `le`s that are new get no zero: the set is old, their first value holds its whole past, and a
    /// zero would turn that into an increase.
    fn end_vanished(&mut self, set: &LabelSet, old: &Metrics, new: &Metrics) {
        let emitted = set.emitted;
        let mut writer = self.lines(set);
        old.each_vanished(&new.layout, |line| {
            if emitted & (1 << line.metric) != 0 {
                writer.stale(&line);
            }
        });
    }

    fn emit_values(&mut self, set: &mut LabelSet, metrics: &Metrics, exemplars: &[(u16, Exemplar)]) {
        let times = metrics.layout.cells();
        let (step, zero_at, own) = (self.closed.step, self.zero_at, self.own);
        let exemplars = if own.exemplars { exemplars } else { &[] };
        // The calls go with the first histogram, and so does the time of the last exemplar.
        let with_calls = own.exemplars_on_counters && metrics.layout.family() == Family::SpanMetrics;
        let told = set.numbers.get(times).filter(|_| with_calls);
        let until = step.saturating_add(MAX_EXEMPLAR_LEAD);
        let on_calls = told.and_then(|told| newest(exemplars, told.cast_signed(), until));
        let mut latest = [0u64; MAX_METRICS];
        let mut emitted = set.emitted;
        let mut series = 0;
        let mut writer = self.lines(set);
        metrics.each(&set.numbers, |line| {
            let zero_at = zero_at.filter(|_| set.emitted & (1 << line.metric) == 0);
            let on_calls = on_calls.filter(|_| line.metric == 0 && line.bucket.is_none());
            let exemplar = line.bucket.map_or(on_calls, |cell| {
                let at = exemplars.binary_search_by_key(&cell, |(c, _)| usize::from(*c)).ok()?;
                let h = line.metric - metrics.metric_of(0);
                let e = &exemplars[at].1;
                let after = set.numbers[times + h].cast_signed();
                (e.at > after && e.at <= until).then(|| {
                    latest[h] = latest[h].max(e.at.cast_unsigned());
                    e
                })
            });
            writer.value(&line, zero_at, exemplar);
            emitted |= 1 << line.metric;
            series += 1;
        });
        set.emitted = emitted;
        self.active_series += series;
        for (time, latest) in set.numbers[times..].iter_mut().zip(latest) {
            *time = latest.max(*time);
        }
    }

    fn lines<'b>(&'b mut self, set: &'b LabelSet) -> Lines<'b> {
        let (block, cuts) = if self.labels.is_empty() {
            (&*set.block, set.cuts)
        } else {
            (self.merged.as_slice(), labels::cuts(&self.merged))
        };
        Lines { block, cuts, writer: self.writer, closed: &mut self.closed }
    }

    fn end_batch(&mut self) {
        let requests = self.writer.finish();
        if let Some(tenant) = self.tenant.take().filter(|_| !requests.is_empty()) {
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
        self.put(line, None, STALE, None);
    }

    fn value(&mut self, line: &Line<'_>, zero_at: Option<Millis>, exemplar: Option<&Exemplar>) {
        self.closed.zero_samples += u64::from(zero_at.is_some());
        self.closed.exemplars += u64::from(exemplar.is_some());
        self.put(line, zero_at, line.value, exemplar);
    }

    fn put(&mut self, line: &Line<'_>, zero_at: Option<Millis>, value: f64, exemplar: Option<&Exemplar>) {
        self.closed.samples += 1 + u64::from(zero_at.is_some());
        let labels = SeriesLabels { block: self.block, cuts: self.cuts, name: line.name, le: line.le };
        self.writer.push(&labels, Point { zero_at, at: self.closed.step, value }, exemplar);
    }
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
