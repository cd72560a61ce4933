//! Span metrics: calls, latency and size of every span, the events of spans, and the info metrics of their resources.
//!
//! *In:* the spans of a record. *Out:* deltas in a [`DeltaTable`], and one counter for each span. *Owner:* one span
//! task. *Never:* an allocation for a label set that is known, a label that is not UTF-8. *Next:*
//! [`crate::core::deltas`].
//!
//! A span finds its label set by a raw key: the bytes of everything that becomes a label. Labels are built, and their
//! text is checked, only when the key is new. A key that cannot become labels stays unknown, so that every one of its
//! spans is dropped and counted.
//!
//! A filter rejects a span before anything else; then its name is sanitized, its attributes are walked once, and its
//! label set is found. Where dimensions of calls and of latency differ, it has two. All labels of a span are found
//! before anything is counted: a span counts everywhere or nowhere.

mod attribute_label;
mod buckets;
mod events;
mod plan;
mod spec;
mod target_info;
mod wanted;

use std::str::Utf8Error;
use std::sync::Arc;

pub(crate) use self::attribute_label::{AttributeLabel, Labeling, Sources};
use self::buckets::Buckets;
use self::events::Events;
pub(crate) use self::plan::set_enum;
use self::plan::{Extra, LabelPlan, SpanKey, Subject};
use self::target_info::{NoInfo, TargetInfo};
pub(crate) use self::wanted::{Found, Wanted};
use crate::core::deltas::{Define, DeltaTable, Growing, Prefix, SetId};
use crate::core::filter::{Filter, ResourceVerdict};
use crate::core::model::wire::put_bytes;
use crate::core::model::{Counter, LabelBuilder, Layout, Ledger, Millis, Weight};
use crate::core::otlp::{ResourceSpans, Span};
use crate::core::sampling::Sampling;
use crate::core::sanitize::NameCache;
use crate::core::settings::{Profile, Settings};

/// The first byte of this room's raw keys in the delta table: of spans, of latency where it has labels of its own, of
/// events. Resources have `t`.
const SPANS: u8 = b's';
const LATENCIES: u8 = b'l';
const EVENTS: u8 = b'e';
/// Counters and histograms of the families, in cell order.
const CALLS: usize = 0;
const SIZE: usize = 1;
const LATENCY: usize = 0;
const EVENT_COUNT: usize = 0;
const INFO: usize = 0;

/// Counts spans.
#[derive(Debug)]
pub struct SpanMetrics {
    plan: LabelPlan,
    buckets: Buckets,
    events: Option<Events>,
    target_info: Option<TargetInfo>,
    origin: Option<JobInstance>,
    names: NameCache,
    filter: Filter,
    sampling: Sampling,
    /// Which of calls, latency and size are counted.
    calls: bool,
    latency: bool,
    size: bool,
    exemplars: bool,
    exemplars_on_counters: bool,
    of_resource: Found,
    of_span: Found,
    /// What the raw keys of the block begin with.
    prefix: Prefix,
    /// A raw key under construction.
    key: Vec<u8>,
    /// The filter's verdict on the block's resource; `None`: there is no filter.
    verdict: Option<ResourceVerdict>,
    /// Whether the block's resource has been described.
    described: bool,
    /// Whether the resource part of the labels is text. Used where labels are repaired.
    is_text: bool,
    /// The longest plausible duration in nanoseconds; longer ones are observed as 0.
    longest: u64,
}

/// The labels `job` and `instance`, for the block that was started last.
#[derive(Debug)]
struct JobInstance {
    wanted: Wanted,
    found: Found,
    namespace: usize,
    /// `None`: there is no label `instance`.
    id: Option<usize>,
    /// In the Collector, a namespace that is there but empty is one, too.
    empty_namespace: bool,
    job: Vec<u8>,
    instance: Vec<u8>,
}

/// The spans of one resource.
#[derive(Debug, Clone, Copy)]
pub struct SpanBlock<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The resource's `service.name`; empty if it has none.
    pub service: &'a [u8],
    /// The resource.
    pub spans: ResourceSpans<'a>,
}

/// What is counted of a span.
#[derive(Clone, Copy)]
struct CountedSpan {
    weight: Weight,
    took: u64,
    /// It took longer than the plausible maximum.
    too_long: bool,
    /// The span's end and trace ID; `None` without exemplars.
    example: Option<(Millis, [u8; 16])>,
    /// The same for counters.
    counter_example: Option<(Millis, [u8; 16])>,
}

/// The label sets of a span. Without dimensions of its own, latency is in the first.
#[derive(Clone, Copy)]
struct Sets {
    calls: SetId,
    latency: SetId,
}

// === impl SpanMetrics ===

impl SpanMetrics {
    /// Counts by the settings of a tenant.
    ///
    /// # Panics
    /// When a filter policy or a rule for names cannot be understood. Reading a configuration refuses such a one.
    #[must_use]
    pub fn new(config: &Arc<Settings>) -> Self {
        let settings = &config.span_metrics;
        let filter =
            Filter::new(&settings.filter_policies).expect("policies are checked when the configuration is read");
        let sampling = Sampling::new(&settings.multiplier_key, settings.tracestate_multiplier)
            .of_text(settings.multiplier_of_text);
        let weighted = !sampling.is_off();
        let mut plan = LabelPlan::new(config);
        Self {
            buckets: Buckets::new(config, weighted),
            events: settings.events.then(|| Events::new(config, &mut plan, weighted)),
            target_info: settings.target_info.then(|| TargetInfo::new(config)),
            origin: settings.target_info.then(|| JobInstance::new(config)),
            plan,
            names: NameCache::new(&config.span_names),
            filter,
            sampling,
            calls: settings.calls,
            latency: settings.latency,
            size: settings.size,
            exemplars: config.series.exemplars,
            exemplars_on_counters: config.series.exemplars_on_counters,
            of_resource: Found::default(),
            of_span: Found::default(),
            prefix: Prefix::default(),
            key: Vec::new(),
            verdict: None,
            described: false,
            is_text: true,
            longest: config.histograms.longest_ns(),
        }
    }

    /// Starts with the spans of one resource, which are counted in `table`.
    pub fn block(&mut self, block: &SpanBlock<'_>, table: &DeltaTable) {
        self.described = false;
        self.verdict = (!self.filter.is_empty()).then(|| self.filter.resource(&block.spans.resource));
        self.buckets.block(block.service);
        self.plan.wanted.read(block.spans.resource, &mut self.of_resource);
        self.key.clear();
        self.key.push(SPANS);
        put_bytes(&mut self.key, block.tenant.as_bytes());
        if self.plan.intrinsic.service {
            put_bytes(&mut self.key, self.plan.cut(block.service));
        }
        // If the service is cut, or is no label, the key does not determine the buckets.
        self.buckets.put_choice(&mut self.key);
        if let Some(origin) = &mut self.origin {
            origin.read(block);
            put_bytes(&mut self.key, self.plan.cut(&origin.job));
            put_bytes(&mut self.key, self.plan.cut(&origin.instance));
        }
        table.begin(&mut self.prefix, &self.key);
        if self.plan.repairs {
            let service = if self.plan.intrinsic.service { block.service } else { &[] };
            let [job, instance] = origin_of(self.origin.as_ref());
            self.is_text = [service, job, instance].into_iter().all(|part| std::str::from_utf8(part).is_ok());
        }
    }

    /// Brings the label sets of the block that was started last into the cache, if there are so many that they are not there.
    pub fn fetch(&mut self, block: &SpanBlock<'_>, table: &mut DeltaTable) {
        if !table.is_scattered() || self.plan.splits() {
            return;
        }
        for span in block.spans.spans() {
            self.plan.wanted.read(span.attributes, &mut self.of_span);
            let [job, instance] = origin_of(self.origin.as_ref());
            let (of_resource, of_span) = (&self.of_resource, &self.of_span);
            let name = self.plan.cut(self.names.of(span.name).name);
            let subject = Subject { block, span: &span, name, of_resource, of_span, job, instance };
            table.announce(&self.prefix, &SpanKey { plan: &self.plan, subject: &subject });
        }
        table.fetch();
    }

    /// Counts one span of the block that was started last.
    pub fn span(&mut self, block: &SpanBlock<'_>, span: &Span<'_>, table: &mut DeltaTable, ledger: &mut Ledger) {
        if self.verdict.is_some_and(|verdict| !self.filter.keeps(&verdict, span)) {
            return ledger.add(Counter::SpansDroppedFiltered, 1);
        }
        let seen = self.seen(block, span);
        self.plan.wanted.read(span.attributes, &mut self.of_span);
        let [job, instance] = origin_of(self.origin.as_ref());
        let (of_resource, of_span) = (&self.of_resource, &self.of_span);
        let named = self.names.of(span.name);
        let subject = Subject { block, span, name: self.plan.cut(named.name), of_resource, of_span, job, instance };
        let layout = self.buckets.of(span.kind);
        let Ok(sets) = find(&self.plan, &subject, layout, (&self.prefix, &mut self.key), table) else {
            return ledger.add(Counter::SpansDroppedInvalidUtf8, 1);
        };
        ledger.add(Counter::SpansCounted, 1);
        ledger.add(Counter::SpanNamesSanitized, u64::from(named.changed));
        if seen.too_long {
            ledger.add(Counter::SpansTooLong, 1);
        }
        if self.plan.repairs && !(self.is_text && self.plan.is_text(&subject)) {
            ledger.add(Counter::SpansRepairedUtf8, 1);
        }
        if let Some(events) = &mut self.events {
            count_events(events, &subject, &self.plan, (&self.prefix, &mut self.key, &seen), (table, ledger));
        }
        self.count(sets, span, &seen, table);
        self.describe(block, table, ledger);
    }

    fn count(&self, sets: Sets, span: &Span<'_>, seen: &CountedSpan, table: &mut DeltaTable) {
        let mut set = table.at(sets.calls);
        if self.calls {
            seen.count(&mut set, CALLS);
        }
        if self.size {
            set.add(SIZE, u64::from(span.size));
        }
        if self.latency {
            if sets.latency != sets.calls {
                set = table.at(sets.latency);
            }
            set.observe(LATENCY, seen.took, seen.weight, seen.example);
        }
    }

    /// Emits the info metric of a block's resource, once. A resource without a counted span has none.
    fn describe(&mut self, block: &SpanBlock<'_>, table: &mut DeltaTable, ledger: &mut Ledger) {
        let Some(info) = self.target_info.as_mut().filter(|_| !self.described) else { return };
        self.described = true;
        match info.find(block, origin_of(self.origin.as_ref()), &self.plan, table) {
            Ok((set, repaired)) => {
                table.mark(set, INFO);
                ledger.add(Counter::InfoRepairedUtf8, u64::from(repaired));
            }
            Err(NoInfo::InvalidUtf8) => ledger.add(Counter::InfoDroppedInvalidUtf8, 1),
            Err(NoInfo::Nothing) => {}
        }
    }

    fn seen(&self, block: &SpanBlock<'_>, span: &Span<'_>) -> CountedSpan {
        let id = <[u8; 16]>::try_from(span.trace_id).ok().filter(|id| self.exemplars && *id != [0; 16]);
        let example = id.map(|id| ((span.end_ns / 1_000_000) as Millis, id));
        let took = span.end_ns.saturating_sub(span.start_ns);
        let too_long = took > self.longest;
        CountedSpan {
            weight: self.sampling.weight(span, block.spans.resource),
            took: if too_long { 0 } else { took },
            too_long,
            example,
            counter_example: example.filter(|_| self.exemplars_on_counters),
        }
    }
}

/// The label sets of a span.
fn find(
    plan: &LabelPlan,
    subject: &Subject<'_>,
    layout: &Arc<Layout>,
    (prefix, key): (&Prefix, &mut Vec<u8>),
    table: &mut DeltaTable,
) -> Result<Sets, Utf8Error> {
    let define = |extra| {
        move |labels: &mut LabelBuilder| {
            plan.label(labels, subject, extra)?;
            Ok::<Define, Utf8Error>(subject.block.define(layout))
        }
    };
    if !plan.splits() {
        let set = table.find_pieces(prefix, &SpanKey { plan, subject }, define(Extra::None))?;
        return Ok(Sets { calls: set, latency: set });
    }
    let shared = write_key(plan, subject, prefix, key);
    let mut with = |space, extra| {
        plan.put_extra(extra, subject, key);
        key[0] = space;
        let set = table.find(key, define(extra));
        key.truncate(shared);
        set
    };
    Ok(Sets { calls: with(SPANS, Extra::Calls)?, latency: with(LATENCIES, Extra::Latency)? })
}

/// Writes what the raw keys of all label sets of a span share; returns its length.
fn write_key(plan: &LabelPlan, subject: &Subject<'_>, prefix: &Prefix, key: &mut Vec<u8>) -> usize {
    key.clear();
    key.extend_from_slice(prefix.bytes());
    plan.key(subject, key);
    key.len()
}

/// Counts the events of a span.
fn count_events(
    events: &mut Events,
    subject: &Subject<'_>,
    plan: &LabelPlan,
    (prefix, key, seen): (&Prefix, &mut Vec<u8>, &CountedSpan),
    (table, ledger): (&mut DeltaTable, &mut Ledger),
) {
    let shared = write_key(plan, subject, prefix, key);
    key[0] = EVENTS;
    for event in subject.span.events() {
        match events.find(&event, subject, plan, key, table) {
            Ok((set, repaired)) => {
                seen.count(&mut table.at(set), EVENT_COUNT);
                ledger.add(Counter::SpanEventsCounted, 1);
                ledger.add(Counter::SpanEventsRepairedUtf8, u64::from(repaired));
            }
            Err(_) => ledger.add(Counter::SpanEventsDroppedInvalidUtf8, 1),
        }
        key.truncate(shared);
    }
}

/// `job` and `instance`; both are empty when there are no such labels.
fn origin_of(origin: Option<&JobInstance>) -> [&[u8]; 2] {
    origin.map_or([&[], &[]], |origin| [&origin.job, &origin.instance])
}

// === impl CountedSpan ===

impl CountedSpan {
    fn count(&self, set: &mut Growing<'_>, counter: usize) {
        set.count(counter, self.weight);
        set.exemplify(counter, self.took, self.counter_example);
    }
}

// === impl JobInstance ===

impl JobInstance {
    fn new(config: &Settings) -> Self {
        let mut wanted = Wanted::new(config);
        let namespace = wanted.slot("service.namespace");
        let id = config.span_metrics.instance_label.then(|| wanted.slot("service.instance.id"));
        let empty_namespace = config.naming.profile == Profile::Otel;
        Self { wanted, found: Found::default(), namespace, id, empty_namespace, job: Vec::new(), instance: Vec::new() }
    }

    fn read(&mut self, block: &SpanBlock<'_>) {
        self.wanted.read(block.spans.resource, &mut self.found);
        self.job.clear();
        if !block.service.is_empty() {
            let counts = |namespace: &&[u8]| self.empty_namespace || !namespace.is_empty();
            if let Some(namespace) = self.found.get(self.namespace).filter(counts) {
                self.job.extend_from_slice(namespace);
                self.job.push(b'/');
            }
            self.job.extend_from_slice(block.service);
        }
        self.instance.clear();
        self.instance.extend_from_slice(self.id.and_then(|id| self.found.get(id)).unwrap_or_default());
    }
}

// === impl SpanBlock ===

impl SpanBlock<'_> {
    fn define(&self, layout: &Arc<Layout>) -> Define {
        let layout = Arc::clone(layout);
        Define { tenant: self.tenant.into(), layout }
    }
}
