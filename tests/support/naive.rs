//! The processors once more, written plainly from the rules: owned strings, standard maps, the generated OTLP types.
//! Shares no code with the library but the settings and the ledger's names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use spanmill::core::model::Counter;
use spanmill::core::settings::{Dimension, FilterPolicy, PolicyMatch, PolicyValue};
use spanmill::core::tasks::span::SpanSettings;

use super::graph::Graph;
use super::streams::{BAD, Event, Rec};

type Labels = Vec<(String, String)>;
/// Step, tenant, labels; the labels tell span metrics and edges apart.
pub(crate) type Key = (i64, String, Labels);

/// The end of a span in milliseconds, and its trace ID.
type Example = Option<(i64, Vec<u8>)>;

/// What one step adds to one label set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) counters: [u64; 2],
    /// Per histogram: observed nanoseconds and the example.
    pub(crate) observed: [Vec<(u64, Example)>; 2],
}

#[derive(Debug)]
pub(crate) struct Naive {
    settings: SpanSettings,
    stream_time: Option<i64>,
    /// The step that what is counted belongs to.
    step: i64,
    pub(crate) graph: Graph,
    pub(crate) added: BTreeMap<Key, Added>,
    /// The label sets of edges, by step.
    pub(crate) edges: BTreeSet<Key>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
}

impl Naive {
    pub(crate) fn new(settings: &SpanSettings) -> Self {
        let (added, counters) = (BTreeMap::new(), BTreeMap::new());
        let graph = Graph::new(settings.tenants.defaults());
        Self { settings: settings.clone(), stream_time: None, step: 0, edges: BTreeSet::new(), graph, added, counters }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Record(record) => self.record(record),
            Event::Tick(to) if self.stream_time.is_none_or(|st| self.step_of(st) <= *to) => self.advance(*to),
            Event::Tick(_) => {}
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.graph.pending()
    }

    fn step_of(&self, at: i64) -> i64 {
        let width = self.settings.step.ms();
        at / width * width + width
    }

    /// The time that a record holds.
    fn time_of(&self, record: &Rec) -> Option<i64> {
        let Some(lateness) = self.settings.lateness else { return Some(record.timestamp) };
        let request = record.request.as_ref().filter(|_| record.tenant.is_some())?;
        let scopes = request.resource_spans.iter().flat_map(|block| &block.scope_spans);
        let mut ends: Vec<i64> = scopes.flat_map(|scope| &scope.spans).map(end_ms).filter(|&end| end > 0).collect();
        ends.sort_unstable();
        Some((ends.get(ends.len() / 10)? - lateness).max(0))
    }

    /// A span comes: it says where it belongs, if it is asked.
    fn turn_to(&mut self, span: &Span) {
        if self.settings.lateness.is_some() {
            let (own, open) = (self.step_of(end_ms(span)), self.step_of(self.stream_time.expect("a record told it")));
            self.counter(Counter::SpansLate, u64::from(own < open));
            self.step = own.max(open);
        }
    }

    fn counter(&mut self, counter: Counter, n: u64) {
        *self.counters.entry(counter.name()).or_default() += n;
    }

    pub(crate) fn advance(&mut self, to: i64) {
        while let Some((begun, ended)) = self.graph.expire_next(to) {
            // By the ends of spans, the wait is one after the span.
            let from = if self.settings.lateness.is_some() { ended.max(begun) } else { begun };
            self.step = self.step_of(from + self.graph.wait());
            self.take_graph();
        }
        self.stream_time = Some(to);
        self.step = self.step_of(to);
        self.graph.advance(to);
    }

    /// Edges belong to the step in which they were emitted, or in which their wait ended.
    fn take_graph(&mut self) {
        for (tenant, labels) in std::mem::take(&mut self.graph.touched) {
            self.edges.insert((self.step, tenant, labels));
        }
        for (name, n) in std::mem::take(&mut self.graph.counters) {
            *self.counters.entry(name).or_default() += n;
        }
    }

    fn add(&mut self, tenant: &str, mut labels: Labels) -> Option<&mut Added> {
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort();
        if labels.iter().any(|(_, value)| value.contains(BAD)) {
            return None;
        }
        Some(self.added.entry((self.step, tenant.to_owned(), labels)).or_default())
    }

    fn record(&mut self, record: &Rec) {
        self.counter(Counter::RecordsRead, 1);
        self.counter(Counter::BytesRead, record.value.len() as u64);
        let behind = self.settings.lateness.unwrap_or(0);
        let at_first = || (record.timestamp - behind).max(0);
        let time = self.time_of(record).max(self.stream_time).unwrap_or_else(at_first);
        self.advance(time);
        let Some(tenant) = record.tenant else { return self.counter(Counter::RecordsWithoutTenant, 1) };
        let Some(request) = &record.request else { return self.counter(Counter::RecordsUndecodable, 1) };
        for block in &request.resource_spans {
            let resource = block.resource.as_ref().map(|r| r.attributes.as_slice()).unwrap_or_default();
            let service = find(resource, "service.name");
            for span in block.scope_spans.iter().flat_map(|s| &s.spans) {
                self.counter(Counter::SpansRead, 1);
                self.turn_to(span);
                self.count(tenant, service.clone().unwrap_or_default(), resource, span);
                self.graph.span(tenant, resource, span);
                self.take_graph();
            }
        }
    }

    fn count(&mut self, tenant: &str, service: String, resource: &[KeyValue], span: &Span) {
        let config = Arc::clone(self.settings.tenants.of(tenant));
        let metrics = &config.span_metrics;
        if !keeps(&metrics.filter_policies, resource, span) {
            return self.counter(Counter::SpansDroppedFiltered, 1);
        }
        let mut common = built_in_labels(service, span);
        common.extend(metrics.dimensions.iter().map(|d| dimension(d, resource, span)));
        for mapping in &metrics.dimension_mappings {
            let values = mapping.source_labels.iter().filter_map(|key| either(key, resource, span));
            let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
            common.push((label_name(&mapping.name), values.join(&mapping.join)));
        }
        let with = |more: &[Dimension]| {
            common.iter().cloned().chain(more.iter().map(|d| dimension(d, resource, span))).collect::<Labels>()
        };
        let (calls, latency) = (with(&metrics.calls_dimensions), with(&metrics.latency_dimensions));
        if calls.iter().chain(&latency).any(|(_, value)| value.contains(BAD)) {
            return self.counter(Counter::SpansDroppedInvalidUtf8, 1);
        }
        let added = self.add(tenant, calls).expect("no bad label");
        added.counters[0] += 1;
        added.counters[1] += span.encoded_len() as u64;
        let valid = span.trace_id.len() == 16 && span.trace_id.iter().any(|&b| b != 0);
        let example = valid.then(|| (end_ms(span), span.trace_id.clone()));
        self.add(tenant, latency).expect("no bad label").observed[0].push((duration(span), example));
        self.counter(Counter::SpansCounted, 1);
    }
}

fn built_in_labels(service: String, span: &Span) -> Labels {
    let kind = match span.kind {
        0 => "SPAN_KIND_UNSPECIFIED".to_owned(),
        1 => "SPAN_KIND_INTERNAL".to_owned(),
        2 => "SPAN_KIND_SERVER".to_owned(),
        3 => "SPAN_KIND_CLIENT".to_owned(),
        4 => "SPAN_KIND_PRODUCER".to_owned(),
        5 => "SPAN_KIND_CONSUMER".to_owned(),
        n => n.to_string(),
    };
    let status = match span.status.as_ref().map_or(0, |s| s.code) {
        0 => "STATUS_CODE_UNSET".to_owned(),
        1 => "STATUS_CODE_OK".to_owned(),
        2 => "STATUS_CODE_ERROR".to_owned(),
        n => n.to_string(),
    };
    let labels = [("service", service), ("span_name", span.name.clone()), ("span_kind", kind), ("status_code", status)];
    labels.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

fn label_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// The resource comes first.
fn either(key: &str, resource: &[KeyValue], span: &Span) -> Option<String> {
    find(resource, key).or_else(|| find(&span.attributes, key))
}

fn dimension(of: &Dimension, resource: &[KeyValue], span: &Span) -> (String, String) {
    let value = either(&of.name, resource, span).or_else(|| of.default.clone());
    (label_name(&of.name), value.unwrap_or_default())
}

/// Strict texts on attributes only; one block of each kind.
fn keeps(policies: &[FilterPolicy], resource: &[KeyValue], span: &Span) -> bool {
    let matches = |block: &PolicyMatch| {
        block.attributes.iter().all(|attribute| {
            let (of, key) = match attribute.key.split_once('.') {
                Some(("resource", key)) => (resource, key),
                Some((_, key)) => (span.attributes.as_slice(), key),
                None => return false,
            };
            let value = of.iter().find(|a| a.key == key).and_then(|a| a.value.as_ref()?.value.clone());
            matches!((value, &attribute.value), (Some(Value::StringValue(is)), PolicyValue::Text(wanted)) if is == *wanted)
        })
    };
    policies
        .iter()
        .all(|policy| policy.include.as_ref().is_none_or(matches) && !policy.exclude.as_ref().is_some_and(matches))
}

fn find(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|a| a.key == key)?.value.as_ref().and_then(|v| v.value.clone());
    Some(match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::BoolValue(b)) => b.to_string(),
        _ => String::new(),
    })
}

fn duration(span: &Span) -> u64 {
    span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)
}

fn end_ms(span: &Span) -> i64 {
    (span.end_time_unix_nano / 1_000_000) as i64
}
