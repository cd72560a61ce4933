//! A closed step as requests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::candidates::Candidates;
use super::fold::Turn;
use super::layouts::Layouts;
use super::metrics::{Metrics, SampleValue, SeriesRef};
use super::set::LabelSet;
use super::since;
use super::starts::{Start, Starts};
use super::tenant::TenantSeries;
use super::tenants::TenantNames;
use super::{SeriesSettings, TenantBook};
use crate::core::model::labels::{self, Cuts, put_label};
use crate::core::model::{Millis, StepWidth};
use crate::core::remotewrite::StepBatch;
use crate::core::remotewrite::encode::{Point, STALE, SeriesLabels, SeriesWriter};

/// So many characters of labels are shown.
const MAX_SHOWN: usize = 512;

/// The output of a series task for one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedStep {
    /// The step, named by its end: the timestamp of its samples.
    pub step: Millis,
    /// One batch per tenant that has samples, sorted by tenant, marked as fresh.
    pub batches: Vec<StepBatch>,
    /// All samples in the batches, including the next two.
    pub samples: u64,
    /// Samples that stand before the first value of a series: zeros, and the kept values of series that come back; and those
    /// before a value that changes after it was not written.
    pub start_samples: u64,
    /// Markers that end a series.
    pub stale_markers: u64,
    /// Exemplars in the batches.
    pub exemplars: u64,
    /// What is not in them because no receiver may take it.
    pub illegal: Option<IllegalSeries>,
}

/// Series that are not written: a name of their labels, or the name of the metric, is not legal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IllegalSeries {
    /// How many.
    pub series: u64,
    /// The tenant and the labels of the first. They are foreign text: escape them.
    pub first: (Arc<str>, String),
}

/// Writes the sets of one step, which come in their final order.
pub(super) struct Emitter<'a> {
    stale_after: Millis,
    tenants: &'a TenantBook,
    names: &'a TenantNames,
    writer: &'a mut SeriesWriter,
    start_at: Option<Millis>,
    /// When series that begin in this step began to count.
    began_at: Millis,
    /// The step before.
    last: Option<Millis>,
    width: StepWidth,
    tenant: Option<u32>,
    /// The settings of the tenant, and the labels that all its series get.
    own: &'a TenantSeries,
    labels: Cow<'a, BTreeMap<String, String>>,
    /// The label block as it is written, where it is another one than that of the set.
    merged: Vec<u8>,
    is_merged: bool,
    live: usize,
    active_series: u64,
    closed: ClosedStep,
}

// === impl ClosedStep ===

impl ClosedStep {
    pub(super) fn empty(step: Millis) -> Self {
        Self { step, batches: Vec::new(), samples: 0, start_samples: 0, stale_markers: 0, exemplars: 0, illegal: None }
    }
}

// === impl Emitter ===

impl<'a> Emitter<'a> {
    pub(super) fn new(
        settings: &'a SeriesSettings,
        names: &'a TenantNames,
        writer: &'a mut SeriesWriter,
        (step, last): (Millis, Option<Millis>),
    ) -> Self {
        // After the last step in any case, whose marker of the same series may be its last sample.
        let before = if settings.zero_offset > 0 { settings.zero_offset } else { settings.step.ms() };
        let start_at = last.map_or(0, |last| last + 1).max(step - before);
        let began_at = start_at.min(step - 1).max(0);
        let start_at = Some(start_at).filter(|&at| settings.zero_offset > 0 && at > 0 && at < step);
        let closed = ClosedStep::empty(step);
        let (tenants, stale_after) = (&settings.tenants, settings.stale_after);
        Self {
            stale_after,
            tenants,
            names,
            writer,
            start_at,
            began_at,
            last,
            width: settings.step,
            tenant: None,
            own: tenants.of(""),
            labels: Cow::Owned(BTreeMap::new()),
            merged: Vec::new(),
            is_merged: false,
            live: 0,
            active_series: 0,
            closed,
        }
    }

    /// Writes the samples of a live set, or the markers that end it.
    pub(super) fn emit(&mut self, set: &mut LabelSet, layouts: &Layouts, turn: &mut Turn) {
        if self.tenant != Some(set.tenant) {
            self.end_batch();
            self.begin_batch(set.tenant);
        }
        let metrics = layouts.of(set.layout);
        let idle = self.closed.step.saturating_sub(set.touched);
        self.merged.clear();
        self.is_merged = !self.labels.is_empty() || metrics.is_named_by_label();
        if self.is_merged {
            merge(&mut self.merged, &labels::written_block(metrics.layout.family(), set.block()), &self.labels);
        }
        if !(set.legal && metrics.legal) {
            return self.leave_out(set, idle, metrics, turn);
        }
        if let Some(replaced) = turn.replaced.filter(|_| self.own.is_told_ends()) {
            self.end_vanished(set, layouts.of(replaced), metrics);
        }
        if idle > 0 && idle >= self.stale_after {
            self.end_set(set, &turn.numbers, metrics);
        } else {
            self.live += 1;
            if self.own.write && self.own.is_due(self.closed.step) {
                if self.skips(set, metrics, turn) {
                    return;
                }
                self.emit_values(set, metrics, layouts, turn);
            } else {
                self.pass_over(set, metrics, turn);
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
        (set.live, set.skipped) = (false, false);
        if self.own.is_told_ends() {
            let mut writer = self.lines(set);
            metrics.each(numbers, &set.natives, |line| {
                if set.emitted & (1 << line.metric) != 0 {
                    writer.stale(&line);
                }
            });
        }
    }

    /// Writes nothing of a set that has not changed, and whose receiver has all of it, if it is not time to send it again.
    fn skips(&mut self, set: &mut LabelSet, metrics: &Metrics, turn: &mut Turn) -> bool {
        let has_starts = turn.before.as_ref().is_some_and(|before| before.seen != Some(set.layout));
        let changed = turn.changed || has_starts || turn.replaced.is_some();
        let own = self.own;
        if !own.skips_unchanged() || changed || own.is_resent(set.name, self.closed.step, self.width) {
            return false;
        }
        let (mut all, mut series) = (0, 0);
        metrics.each(&turn.numbers, &set.natives, |line| {
            all |= 1 << line.metric;
            series += 1;
        });
        if all & !set.emitted != 0 {
            return false;
        }
        set.skipped = true;
        turn.before = None;
        self.active_series += series;
        true
    }

    /// Writes nothing of a live set. See [`super::tenant`] for what counts as written.
    fn pass_over(&mut self, set: &mut LabelSet, metrics: &Metrics, turn: &mut Turn) {
        let (mut all, mut series) = (0, 0);
        let (numbers, starts) = turn.numbers.split_at_mut(metrics.numbers_before_starts());
        metrics.each(numbers, &set.natives, |line| {
            all |= 1 << line.metric;
            series += 1;
            if !self.own.write && set.emitted & (1 << line.metric) == 0 {
                turn.touched |= since::begin(starts, line.metric, self.began_at);
            }
        });
        self.active_series += series;
        set.skipped &= self.own.write && !turn.changed;
        if !self.own.write {
            set.emitted |= all;
            turn.before = None;
        } else if turn.before.as_ref().is_some_and(|before| before.seen == Some(set.layout)) {
            // There is no change after all.
            turn.before = None;
        }
    }

    /// Writes nothing of a set that receivers would refuse, so that it spoils no request.
    fn leave_out(&mut self, set: &mut LabelSet, idle: Millis, metrics: &Metrics, turn: &mut Turn) {
        set.live = idle <= 0 || idle < self.stale_after;
        self.live += usize::from(set.live);
        turn.before = None;
        let mut series = 0;
        metrics.each(&turn.numbers, &set.natives, |_| series += 1);
        match &mut self.closed.illegal {
            _ if !set.live || !self.own.write => {}
            Some(illegal) => illegal.series += series,
            none => {
                let label = |(name, value): (&str, &str)| format!("{name}={value:?}");
                let labels: Vec<String> = labels::written(metrics.layout.family(), set.block()).map(label).collect();
                let text = format!("{}{{{}}}", metrics.first_name(), labels.join(","));
                let first = (Arc::clone(self.names.of(set.tenant)), text.chars().take(MAX_SHOWN).collect());
                *none = Some(IllegalSeries { series, first });
            }
        }
    }

    /// Series that the new layout no longer has (a bucket's `le`, a name, a native histogram) would stay behind, flat,
    /// for the receiver's look-back time. They end here. Series that are new in their place begin with the kept values
    /// of the set: their first value holds its whole past, and a zero would turn that into an increase.
    fn end_vanished(&mut self, set: &LabelSet, old: &Metrics, new: &Metrics) {
        let emitted = set.emitted;
        let mut writer = self.lines(set);
        old.each_vanished(new, |line| {
            if emitted & (1 << line.metric) != 0 {
                writer.stale(&line);
            }
        });
    }

    fn emit_values(&mut self, set: &mut LabelSet, metrics: &Metrics, layouts: &Layouts, turn: &mut Turn) {
        let (step, own) = (self.closed.step, self.own);
        let skipped = std::mem::take(&mut set.skipped);
        // The sample before a first value, and that before a value that changes after it was not written.
        let (first_at, changed_at) = (self.start_at, self.last.filter(|_| skipped && turn.changed));
        let before = turn.before.take();
        let mut kept = before.as_ref().map(|before| Starts::of(before, metrics));
        let exemplars = if own.exemplars { &*turn.exemplars } else { &[] };
        let (numbers, starts) = turn.numbers.split_at_mut(metrics.numbers_before_starts());
        let (cells, times) = numbers.split_at_mut(metrics.layout.cells());
        let (began_at, mut begun) = (self.began_at, false);
        let mut told = Candidates::new(metrics, exemplars, times, step, own.exemplars_on_counters);
        let mut emitted = set.emitted;
        let mut series = 0;
        let mut writer = self.lines(set);
        metrics.each(cells, &set.natives, |line| {
            let is_new = set.emitted & (1 << line.metric) == 0;
            let had = kept.as_mut().and_then(|kept| kept.next(&line));
            let seen = before.as_ref().is_some_and(|b| b.has_seen(&line, |id| layouts.of(id)));
            let start = if is_new { Some(Start::zero(&line.value)) } else { had };
            let start = start.filter(|_| !metrics.is_gauge(&line));
            let start_at = if seen && !is_new { changed_at } else { first_at };
            if is_new {
                begun |= since::begin(starts, line.metric, began_at);
            }
            let since = if metrics.is_gauge(&line) { 0 } else { since::of(starts, line.metric) };
            writer.value(&line, since, start_at.zip(start.as_ref()), &mut told);
            emitted |= 1 << line.metric;
            series += 1;
        });
        set.emitted = emitted;
        turn.touched |= begun;
        self.active_series += series;
        times.iter_mut().zip(told.times()).for_each(|(time, latest)| *time = latest);
    }

    fn lines<'b>(&'b mut self, set: &'b LabelSet) -> Lines<'b> {
        let (block, cuts) =
            if self.is_merged { (self.merged.as_slice(), labels::cuts(&self.merged)) } else { (set.block(), set.cuts) };
        Lines { block, cuts, writer: self.writer, closed: &mut self.closed }
    }

    fn end_batch(&mut self) {
        let requests = self.writer.finish();
        if let Some(tenant) = self.tenant.take().filter(|_| !requests.is_empty()) {
            let tenant = Arc::clone(self.names.of(tenant));
            self.closed.batches.push(StepBatch {
                tenant,
                endpoint: None,
                step: self.closed.step,
                resend: false,
                requests,
            });
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
    fn stale(&mut self, line: &SeriesRef<'_>) {
        self.closed.stale_markers += 1;
        self.closed.samples += 1;
        let (labels, at) = (labels_of(self.block, self.cuts, line), self.closed.step);
        match line.value {
            SampleValue::Float(_) => self.writer.push(&labels, Point { start: None, at, value: STALE }, None),
            SampleValue::Native(_) => self.writer.push_native(&labels, at, None, None, &[]),
        }
    }

    /// Writes a series that has counted since `since`, 0 if that is not known.
    fn value(
        &mut self,
        line: &SeriesRef<'_>,
        since: Millis,
        start: Option<(Millis, &Start)>,
        told: &mut Candidates<'_>,
    ) {
        self.closed.start_samples += u64::from(start.is_some());
        self.closed.samples += 1 + u64::from(start.is_some());
        let (labels, at) = (labels_of(self.block, self.cuts, line), self.closed.step);
        self.writer.since(since);
        match &line.value {
            SampleValue::Float(value) => {
                let start = start.and_then(|(at, start)| Some((at, start.float()?)));
                let exemplar = told.of(line);
                self.closed.exemplars += u64::from(exemplar.is_some());
                self.writer.push(&labels, Point { start, at, value: *value }, exemplar.as_ref());
            }
            SampleValue::Native(value) => {
                let exemplars = told.of_native(line.metric);
                self.closed.exemplars += exemplars.len() as u64;
                let exemplars: Vec<_> = exemplars.iter().collect();
                let start = start.and_then(|(at, start)| Some((at, start.native()?)));
                let start = start.as_ref().map(|(at, native)| (*at, native));
                self.writer.push_native(&labels, at, start, Some(value), &exemplars);
            }
        }
    }
}

fn labels_of<'l>(block: &'l [u8], cuts: Cuts, line: &SeriesRef<'l>) -> SeriesLabels<'l> {
    SeriesLabels { block, cuts, name: line.name, le: line.le }
}

/// Appends `block` with the external labels in their places. They replace labels of the same name; an empty value
/// removes one.
pub(super) fn merge(out: &mut Vec<u8>, block: &[u8], external: &BTreeMap<String, String>) {
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
