//! Attribute metrics: counters of spans, and sums and histograms of the numbers that spans carry.
//!
//! *In:* the spans of a record. *Out:* one counter, sum or histogram per entry and label set in a [`DeltaTable`]. *Owner:* one
//! span task. *Never:* a float that is added up, a value that is not finite or below zero. *Next:* [`crate::core::deltas`].
//!
//! An entry is about a span that has its value and that its policies keep. Values are counted in billionths of their own unit
//! (see `value.rs`), times the weight of the span, as the calls of span metrics are. What is no such number is counted in the
//! ledger and in no metric of the user's.
//!
//! Metrics with one name are one metric to receivers, so the name is part of what a label set is: its block has it under
//! [`METRIC_LABEL`], which is never written. Two entries never share a label set, whatever their labels are.

mod value;

use std::ops::ControlFlow;
use std::str::Utf8Error;
use std::sync::Arc;

use self::value::{NoValue, Number, billionths, weighed};
use crate::core::deltas::{Define, DeltaTable, Pieces as _};
use crate::core::filter::Matcher;
use crate::core::model::labels::{METRIC_LABEL, cut_bytes};
use crate::core::model::span::{KINDS, STATUSES};
use crate::core::model::wire::{put_bytes, put_u64};
use crate::core::model::{Counter, Family, LabelBuilder, Layout, Ledger, Millis, Naming, Spec, Weight};
use crate::core::otlp::{AttributeValue, Attributes, Keys, Span};
use crate::core::sampling::Sampling;
use crate::core::sanitize::NameCache;
use crate::core::settings::labels::attribute_metric_label;
use crate::core::settings::{AttributeMetric, AttributeMetricKind, Dimension, MetricValue, Settings, ValueScope};
use crate::core::spanmetrics::{AttributeLabel, Found, Labeling, Sources, SpanBlock, Wanted, set_enum};

/// The first byte of this room's raw keys in the delta table.
const KEY_SPACE: u8 = b'a';
/// The one counter, sum or histogram of a family.
const ONLY: usize = 0;

/// Counts by all attribute metrics of a tenant.
#[derive(Debug)]
pub struct AttributeMetrics {
    metrics: Vec<Metric>,
    sampling: Sampling,
    /// The attributes that are values, by number.
    values: Keys,
    /// Which of them the resource has.
    resource_has: Presence,
    wanted: Wanted,
    of_resource: Found,
    of_span: Found,
    labeling: Labeling,
    names: NameCache,
    exemplars: bool,
    exemplars_on_counters: bool,
    /// A raw key under construction.
    key: Vec<u8>,
}

/// One entry.
#[derive(Debug)]
struct Metric {
    name: String,
    kind: AttributeMetricKind,
    layout: Arc<Layout>,
    spans: Matcher,
    value: Option<ValueSource>,
    labels: MetricLabels,
}

/// Where the value of a span is.
#[derive(Debug)]
enum ValueSource {
    Duration,
    Attribute {
        /// The first of these that there is counts.
        names: Vec<Box<[u8]>>,
        /// The lists of attributes, in this order.
        sides: &'static [Side],
        /// Any of them.
        any: Presence,
    },
}

/// A bit for each attribute that is a value; the last one is for all that have no bit of their own.
type Presence = u64;

/// A list of attributes.
#[derive(Debug, Clone, Copy)]
enum Side {
    Span,
    Resource,
}

/// The labels of an entry.
#[derive(Debug)]
struct MetricLabels {
    service: bool,
    span_name: bool,
    span_kind: bool,
    status_code: bool,
    attributes: Vec<AttributeLabel>,
}

/// A span with what its labels are made from.
#[derive(Clone, Copy)]
struct Subject<'a> {
    block: &'a SpanBlock<'a>,
    span: &'a Span<'a>,
    /// The span's name, or what the sanitizer made of it, as much as a label has of it.
    name: &'a [u8],
    sources: Sources<'a>,
}

// === impl AttributeMetrics ===

impl AttributeMetrics {
    /// Counts by the settings of a tenant.
    ///
    /// # Panics
    /// When a filter policy or a rule for names cannot be understood. Reading a configuration refuses such a one.
    #[must_use]
    pub fn new(config: &Settings) -> Self {
        let spans = &config.span_metrics;
        let sampling =
            Sampling::new(&spans.multiplier_key, spans.tracestate_multiplier).of_text(spans.multiplier_of_text);
        let mut wanted = Wanted::new(config);
        let labeling = Labeling::new(config);
        let entries = config.all_attribute_metrics();
        let weighted = !sampling.is_off();
        let (span_first, mut values) = (labeling.is_span_first(), Keys::default());
        let metric = |entry| Metric::new(entry, config, (weighted, span_first), &mut values, &mut wanted);
        Self {
            metrics: entries.iter().map(metric).collect(),
            sampling,
            values,
            resource_has: 0,
            wanted,
            of_resource: Found::default(),
            of_span: Found::default(),
            labeling,
            names: NameCache::new(&config.span_names),
            exemplars: config.series.exemplars,
            exemplars_on_counters: config.series.exemplars_on_counters,
            key: Vec::new(),
        }
    }

    /// Starts with the spans of one resource.
    pub fn block(&mut self, block: &SpanBlock<'_>) {
        let resource = block.spans.resource;
        self.wanted.read(resource, &mut self.of_resource);
        self.resource_has = presence(&self.values, resource);
        self.metrics.iter_mut().for_each(|metric| metric.spans.begin(&resource));
    }

    /// Counts one span of the block that was started last.
    pub fn span(&mut self, block: &SpanBlock<'_>, span: &Span<'_>, table: &mut DeltaTable, ledger: &mut Ledger) {
        let mut read = false;
        let there = self.resource_has | presence(&self.values, span.attributes);
        for number in 0..self.metrics.len() {
            let Some(found) = self.metrics[number].find(block, span, there) else { continue };
            if !read {
                self.wanted.read(span.attributes, &mut self.of_span);
                read = true;
            }
            let weight = self.sampling.weight(span, block.spans.resource);
            match found.and_then(|value| weighed(value, weight)) {
                Ok(value) => self.count(number, (block, span), (value, weight), (table, ledger)),
                Err(reason) => ledger.add(reason.counter(), 1),
            }
        }
    }

    fn count(
        &mut self,
        number: usize,
        (block, span): (&SpanBlock<'_>, &Span<'_>),
        (value, weight): (Number, Weight),
        (table, ledger): (&mut DeltaTable, &mut Ledger),
    ) {
        let Self { metrics, labeling, names, key, of_resource, of_span, exemplars, exemplars_on_counters, .. } = self;
        let metric = &metrics[number];
        let name = if metric.labels.span_name { names.of(span.name).name } else { &[] };
        let sources = labeling.sources(of_resource, of_span);
        let subject = Subject { block, span, name: cut_bytes(name, labeling.most), sources };
        key.clear();
        key.push(KEY_SPACE);
        put_bytes(key, block.tenant.as_bytes());
        put_u64(key, number as u64);
        metric.labels.put_key(key, &subject, labeling);
        let set = table.find(key, |labels| {
            labeling.begin(labels);
            metric.labels.set(labels, &subject, labeling)?;
            // Whatever the limits are: the name is no label of the series.
            labels.limit(0, 0);
            labels.set(METRIC_LABEL, &metric.name);
            Ok::<Define, Utf8Error>(Define { tenant: block.tenant.into(), layout: Arc::clone(&metric.layout) })
        });
        let Ok(set) = set else { return ledger.add(Counter::AttributeValuesDroppedInvalidUtf8, 1) };
        let example = example(span).filter(|_| *exemplars);
        let on_counter = example.filter(|_| *exemplars_on_counters);
        let mut set = table.at(set);
        match metric.kind {
            AttributeMetricKind::Counter => {
                set.count(ONLY, weight);
                set.exemplify(ONLY, duration(span), on_counter);
            }
            AttributeMetricKind::Sum => set.add_value(ONLY, value, weight, on_counter),
            AttributeMetricKind::Histogram => set.observe_value(ONLY, value, weight, example),
        }
        ledger.add(Counter::AttributeValuesCounted, 1);
        if labeling.repairs && !metric.labels.is_text(&subject) {
            ledger.add(Counter::AttributeValuesRepairedUtf8, 1);
        }
    }
}

/// Which values are among these attributes.
fn presence(values: &Keys, attributes: Attributes<'_>) -> Presence {
    let mut there = 0;
    values.visit(attributes, |number, _| {
        there |= bit(number);
        ControlFlow::Continue(())
    });
    there
}

fn bit(number: usize) -> Presence {
    1 << number.min(Presence::BITS as usize - 1)
}

/// In nanoseconds. A span that ends before it starts took no time.
fn duration(span: &Span<'_>) -> u64 {
    span.end_ns.saturating_sub(span.start_ns)
}

/// What an exemplar of the span has besides its value.
fn example(span: &Span<'_>) -> Option<(Millis, [u8; 16])> {
    let id = <[u8; 16]>::try_from(span.trace_id).ok().filter(|id| *id != [0; 16])?;
    Some(((span.end_ns / 1_000_000) as Millis, id))
}

// === impl Metric ===

impl Metric {
    fn new(
        entry: &AttributeMetric,
        config: &Settings,
        (weighted, span_first): (bool, bool),
        values: &mut Keys,
        wanted: &mut Wanted,
    ) -> Self {
        let (family, histograms) = match entry.kind {
            AttributeMetricKind::Counter => (Family::AttributeCounter, Vec::new()),
            AttributeMetricKind::Sum => (Family::AttributeSum, Vec::new()),
            AttributeMetricKind::Histogram => {
                (Family::AttributeHistogram, vec![Some(config.histograms.shape(&entry.bounds))])
            }
        };
        let spec = Spec { family, naming: Naming::Named(entry.name.clone()), weighted, histograms };
        Self {
            name: entry.name.clone(),
            kind: entry.kind,
            layout: Arc::new(Layout::of(&spec)),
            spans: Matcher::new(&entry.matching),
            value: entry.value.as_ref().map(|value| ValueSource::new(value, span_first, values)),
            labels: MetricLabels::new(&entry.labels, config, wanted),
        }
    }

    /// The value of a span that the entry is about. A counter has none, but looks whether there is one.
    fn find(&self, block: &SpanBlock<'_>, span: &Span<'_>, there: Presence) -> Option<Result<Number, NoValue>> {
        // Most spans lack the attribute, which is less work to see than what policies ask for.
        let found = match &self.value {
            None => None,
            Some(ValueSource::Attribute { any, .. }) if any & there == 0 => return None,
            Some(source) => Some(source.find(block.spans.resource, span)?),
        };
        if !self.spans.matches(span) {
            return None;
        }
        Some(match found {
            Some(found) if self.kind != AttributeMetricKind::Counter => found.read(),
            _ => Ok(0),
        })
    }
}

/// What there is before it is read.
enum Raw<'a> {
    Duration(u64),
    Attribute(AttributeValue<'a>),
}

// === impl Raw ===

impl Raw<'_> {
    fn read(&self) -> Result<Number, NoValue> {
        match self {
            Self::Duration(ns) => Ok((*ns).into()),
            Self::Attribute(value) => billionths(value.kind()),
        }
    }
}

// === impl ValueSource ===

impl ValueSource {
    fn new(value: &MetricValue, span_first: bool, values: &mut Keys) -> Self {
        match value {
            MetricValue::Duration => Self::Duration,
            MetricValue::Attribute(names, scope) => {
                let sides: &[Side] = match scope {
                    ValueScope::Span => &[Side::Span],
                    ValueScope::Resource => &[Side::Resource],
                    ValueScope::Any if span_first => &[Side::Span, Side::Resource],
                    ValueScope::Any => &[Side::Resource, Side::Span],
                };
                let any = names.iter().fold(0, |any, name| any | bit(values.number(name)));
                Self::Attribute { names: names.iter().map(|name| name.as_bytes().into()).collect(), sides, any }
            }
        }
    }

    fn find<'a>(&self, resource: Attributes<'a>, span: &Span<'a>) -> Option<Raw<'a>> {
        let (names, sides) = match self {
            Self::Duration => return Some(Raw::Duration(duration(span))),
            Self::Attribute { names, sides, .. } => (names, *sides),
        };
        let of = |name: &[u8]| {
            sides.iter().find_map(|side| match side {
                Side::Span => span.attributes.get(name),
                Side::Resource => resource.get(name),
            })
        };
        names.iter().find_map(|name| of(name)).map(Raw::Attribute)
    }
}

// === impl MetricLabels ===

impl MetricLabels {
    fn new(labels: &[Dimension], config: &Settings, wanted: &mut Wanted) -> Self {
        let has = |name| labels.iter().any(|label| label.name == name);
        let attributes = labels.iter().filter(|label| !AttributeMetric::INTRINSICS.contains(&label.name.as_str()));
        let label = |d: &Dimension| AttributeLabel::new(attribute_metric_label(config, &d.name), d, wanted);
        Self {
            service: has(AttributeMetric::SERVICE),
            span_name: has(AttributeMetric::SPAN_NAME),
            span_kind: has(AttributeMetric::SPAN_KIND),
            status_code: has(AttributeMetric::STATUS_CODE),
            attributes: attributes.map(label).collect(),
        }
    }

    /// Appends what the labels are made from.
    fn put_key(&self, key: &mut Vec<u8>, subject: &Subject<'_>, labeling: &Labeling) {
        let Subject { block, span, name, sources } = *subject;
        if self.service {
            key.text(Some(cut_bytes(block.service, labeling.most)));
        }
        if self.span_name {
            key.text(Some(name));
        }
        for (is_label, number) in [(self.span_kind, span.kind), (self.status_code, span.status_code)] {
            if is_label {
                put_u64(key, number.cast_unsigned().into());
            }
        }
        for label in &self.attributes {
            key.text(label.value(sources));
        }
    }

    fn set(&self, labels: &mut LabelBuilder, subject: &Subject<'_>, labeling: &Labeling) -> Result<(), Utf8Error> {
        let Subject { block, span, name, sources } = *subject;
        let [service, span_name, span_kind, status_code, _] = labeling.built_in;
        if self.service {
            labels.set_bytes(service, block.service)?;
        }
        if self.span_name {
            labels.set_bytes(span_name, name)?;
        }
        if self.span_kind {
            set_enum(labels, span_kind, span.kind, &KINDS);
        }
        if self.status_code {
            set_enum(labels, status_code, span.status_code, &STATUSES);
        }
        self.attributes.iter().try_for_each(|label| label.set(labels, sources))
    }

    /// Whether everything that becomes labels is text.
    fn is_text(&self, subject: &Subject<'_>) -> bool {
        let service = self.service.then_some(subject.block.service);
        let attributes = self.attributes.iter().filter_map(|label| label.value(subject.sources));
        let mut texts = service.into_iter().chain([subject.name]).chain(attributes);
        texts.all(|text| std::str::from_utf8(text).is_ok())
    }
}
