//! Service level objectives: of the events that an objective matches, how many there are and how many are good.
//!
//! *In:* the spans of a record; edges and closed traces with their labels. *Out:* two counters per objective and label set
//! in a [`DeltaTable`]. *Owner:* one span task. *Never:* a bucket. A duration is compared with the threshold in nanoseconds.
//! *Next:* [`crate::core::deltas`].
//!
//! A span is an event if the policies of the objective keep it. It is good unless it took longer than the threshold, or
//! the policies for failures keep it. Both counters grow by the weight of the span, as the calls of span metrics do. The
//! counter of good events exists as soon as there are events, so that a ratio is 0 where nothing is good.
//!
//! An edge is an event when it is counted, a trace when it closes: the rooms that compute them count them here, in the
//! step to which they belong. An edge weighs what its request counts.

mod labels;

use std::str::Utf8Error;
use std::sync::Arc;

use crate::core::deltas::{Define, DeltaTable, Pieces as _};
use crate::core::filter::Matcher;
use crate::core::model::labels::cut_bytes;
use crate::core::model::wire::{put_bytes, put_u64};
use crate::core::model::{Counter, Family, LabelBuilder, Layout, Ledger, Naming, Spec};
use crate::core::otlp::Span;
use crate::core::sampling::Sampling;
use crate::core::settings::labels::{SLO_LABEL, slo_label};
use crate::core::settings::{Dimension, Settings, Slo, SloSubject};
use crate::core::spanmetrics::{AttributeLabel, Found, Labeling, Sources, SpanBlock, Wanted};

pub(crate) use self::labels::{LabelSlos, LabeledEvent};

/// The first byte of this room's raw keys in the delta table.
const KEY_SPACE: u8 = b'o';
/// Counters of [`Family::Slo`], in cell order.
const EVENTS: usize = 0;
const GOOD: usize = 1;

/// Counts the events of all objectives of a tenant that are about spans.
#[derive(Debug)]
pub struct Slos {
    layout: Arc<Layout>,
    objectives: Vec<Objective>,
    sampling: Sampling,
    wanted: Wanted,
    of_resource: Found,
    of_span: Found,
    labeling: Labeling,
    /// A raw key under construction.
    key: Vec<u8>,
}

/// One objective.
#[derive(Debug)]
struct Objective {
    /// Its place in the settings.
    number: u64,
    name: String,
    events: Matcher,
    failures: Option<Matcher>,
    latency_ns: Option<u64>,
    by_service: bool,
    labels: Vec<AttributeLabel>,
}

// === impl Slos ===

impl Slos {
    /// Counts by the settings of a tenant; `None` if no objective is about spans.
    ///
    /// # Panics
    /// When a filter policy cannot be understood. Reading a configuration refuses such a one.
    #[must_use]
    pub fn new(config: &Settings) -> Option<Self> {
        if !config.slos.iter().any(|slo| slo.of == SloSubject::Spans) {
            return None;
        }
        let spans = &config.span_metrics;
        let sampling =
            Sampling::new(&spans.multiplier_key, spans.tracestate_multiplier).of_text(spans.multiplier_of_text);
        let weighted = !sampling.is_off();
        let spec = Spec { family: Family::Slo, naming: Naming::Tempo, weighted, histograms: Vec::new() };
        let mut wanted = Wanted::new(config);
        let numbered = (0..).zip(&config.slos).filter(|(_, slo)| slo.of == SloSubject::Spans);
        let objectives = numbered.map(|(number, slo)| Objective::new(number, slo, config, &mut wanted)).collect();
        Some(Self {
            layout: Arc::new(Layout::of(&spec)),
            objectives,
            sampling,
            wanted,
            of_resource: Found::default(),
            of_span: Found::default(),
            labeling: Labeling::new(config),
            key: Vec::new(),
        })
    }

    /// Starts with the spans of one resource.
    pub fn block(&mut self, block: &SpanBlock<'_>) {
        let resource = block.spans.resource;
        self.wanted.read(resource, &mut self.of_resource);
        for objective in &mut self.objectives {
            objective.events.begin(&resource);
            objective.failures.iter_mut().for_each(|failures| failures.begin(&resource));
        }
    }

    /// Counts one span of the block that was started last.
    pub fn span(&mut self, block: &SpanBlock<'_>, span: &Span<'_>, table: &mut DeltaTable, ledger: &mut Ledger) {
        let Self { layout, objectives, sampling, wanted, of_resource, of_span, labeling, key } = self;
        let mut read = false;
        for objective in objectives {
            if !objective.events.matches(span) {
                continue;
            }
            if !read {
                wanted.read(span.attributes, of_span);
                read = true;
            }
            let sources = labeling.sources(of_resource, of_span);
            objective.put_key(key, block, sources, labeling);
            let set = table.find(key, |labels| {
                objective.label(labels, block, sources, labeling)?;
                Ok::<Define, Utf8Error>(Define { tenant: block.tenant.into(), layout: Arc::clone(layout) })
            });
            let Ok(set) = set else {
                ledger.add(Counter::SloEventsDroppedInvalidUtf8, 1);
                continue;
            };
            let weight = sampling.weight(span, block.spans.resource);
            let mut set = table.at(set);
            set.count(EVENTS, weight);
            if objective.is_good(span) {
                set.count(GOOD, weight);
            }
            ledger.add(Counter::SloEventsCounted, 1);
            if labeling.repairs && !objective.is_text(block, sources) {
                ledger.add(Counter::SloEventsRepairedUtf8, 1);
            }
        }
    }
}

// === impl Objective ===

impl Objective {
    fn new(number: u64, slo: &Slo, config: &Settings, wanted: &mut Wanted) -> Self {
        let is_service = |d: &&Dimension| d.name == Slo::SERVICE;
        let label = |d: &Dimension| AttributeLabel::new(slo_label(config, &d.name), d, wanted);
        Self {
            number,
            name: slo.name.clone(),
            events: Matcher::new(&slo.matching),
            failures: (!slo.failed.is_empty()).then(|| Matcher::new(&slo.failed)),
            latency_ns: slo.latency_ns,
            by_service: slo.labels.iter().any(|d| is_service(&d)),
            labels: slo.labels.iter().filter(|d| !is_service(d)).map(label).collect(),
        }
    }

    /// A span that takes exactly as long as the threshold is good; one that ends before it starts took no time.
    fn is_good(&self, span: &Span<'_>) -> bool {
        let took = span.end_ns.saturating_sub(span.start_ns);
        self.latency_ns.is_none_or(|most| took <= most)
            && self.failures.as_ref().is_none_or(|failures| !failures.matches(span))
    }

    fn put_key(&self, key: &mut Vec<u8>, block: &SpanBlock<'_>, sources: Sources<'_>, labeling: &Labeling) {
        key.clear();
        key.push(KEY_SPACE);
        put_bytes(key, block.tenant.as_bytes());
        put_u64(key, self.number);
        if self.by_service {
            key.text(Some(cut_bytes(block.service, labeling.most)));
        }
        for label in &self.labels {
            key.text(label.value(sources));
        }
    }

    fn label(
        &self,
        labels: &mut LabelBuilder,
        block: &SpanBlock<'_>,
        sources: Sources<'_>,
        labeling: &Labeling,
    ) -> Result<(), Utf8Error> {
        labeling.begin(labels);
        labels.set(SLO_LABEL, &self.name);
        if self.by_service {
            let [service, ..] = labeling.built_in;
            labels.set_bytes(service, block.service)?;
        }
        self.labels.iter().try_for_each(|label| label.set(labels, sources))
    }

    /// Whether everything that becomes labels is text.
    fn is_text(&self, block: &SpanBlock<'_>, sources: Sources<'_>) -> bool {
        let service = self.by_service.then_some(block.service);
        let mut texts = service.into_iter().chain(self.labels.iter().filter_map(|label| label.value(sources)));
        texts.all(|text| std::str::from_utf8(text).is_ok())
    }
}
