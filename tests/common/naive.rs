//! The processors once more, written plainly from the rules: owned strings, standard maps, the generated OTLP types.
//! Shares no code with the library but the settings and the ledger's names.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use spanmill::config::settings::{Dimension, FilterPolicy, PolicyMatch, PolicyValue};
use spanmill::model::Tally;
use spanmill::tasks::span::SpanSettings;

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

#[derive(Debug, Clone, Default)]
struct Edge {
    key: (String, Vec<u8>, Vec<u8>),
    created: i64,
    kind: i32,
    connection: &'static str,
    client: String,
    server: String,
    peer: String,
    failed: bool,
    client_span: Option<(u64, i64)>,
    server_span: Option<(u64, i64)>,
}

#[derive(Debug)]
pub(crate) struct Naive {
    settings: SpanSettings,
    stream_time: Option<i64>,
    edges: Vec<Edge>,
    pub(crate) added: BTreeMap<Key, Added>,
    pub(crate) tallies: BTreeMap<&'static str, u64>,
}

impl Naive {
    pub(crate) fn new(settings: &SpanSettings) -> Self {
        let (added, tallies) = (BTreeMap::new(), BTreeMap::new());
        Self { settings: settings.clone(), stream_time: None, edges: Vec::new(), added, tallies }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Record(record) => self.record(record),
            Event::Tick(to) if self.stream_time.is_none_or(|st| self.step(st) <= *to) => self.advance(*to),
            Event::Tick(_) => {}
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.edges.len()
    }

    fn step(&self, at: i64) -> i64 {
        let width = self.settings.step.ms();
        at / width * width + width
    }

    fn tally(&mut self, tally: Tally, n: u64) {
        *self.tallies.entry(tally.name()).or_default() += n;
    }

    fn advance(&mut self, to: i64) {
        self.stream_time = Some(to);
        let wait = self.settings.tenants.defaults().service_graphs.wait.max(1);
        let (expired, rest) = std::mem::take(&mut self.edges).into_iter().partition(|e: &Edge| e.created + wait <= to);
        self.edges = rest;
        let expired: Vec<Edge> = expired;
        expired.into_iter().for_each(|edge| self.expire(edge));
    }

    fn expire(&mut self, mut edge: Edge) {
        edge.connection = "virtual_node";
        if edge.client.is_empty() && edge.key.2.is_empty() {
            edge.client = if edge.peer.is_empty() { "user".to_owned() } else { edge.peer.clone() };
            self.emit(&edge, Tally::EdgesVirtual);
        } else if !edge.client.is_empty() && edge.server.is_empty() && !edge.peer.is_empty() {
            edge.server = edge.peer.clone();
            self.emit(&edge, Tally::EdgesVirtual);
        } else {
            let kinds = [
                Tally::EdgesExpiredServer,
                Tally::EdgesExpiredClient,
                Tally::EdgesExpiredProducer,
                Tally::EdgesExpiredConsumer,
            ];
            self.tally(kinds[edge.kind as usize - 2], 1);
        }
    }

    fn add(&mut self, tenant: &str, mut labels: Labels) -> Option<&mut Added> {
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort();
        if labels.iter().any(|(_, value)| value.contains(BAD)) {
            return None;
        }
        let step = self.step(self.stream_time.expect("known once anything is counted"));
        Some(self.added.entry((step, tenant.to_owned(), labels)).or_default())
    }

    fn emit(&mut self, edge: &Edge, outcome: Tally) {
        let label = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let labels = vec![
            label("client", &edge.client),
            label("server", &edge.server),
            label("connection_type", edge.connection),
        ];
        let Some(added) = self.add(&edge.key.0, labels) else { return self.tally(Tally::EdgesDroppedInvalidUtf8, 1) };
        added.counters[0] += 1;
        added.counters[1] += u64::from(edge.failed);
        let sides = [(edge.server_span, edge.client_span), (edge.client_span, edge.server_span)];
        for (observed, (own, other)) in added.observed.iter_mut().zip(sides) {
            let (_, end) = own.or(other).expect("one side is there");
            observed.push((own.map_or(0, |(ns, _)| ns), Some((end, edge.key.1.clone()))));
        }
        self.tally(outcome, 1);
    }

    fn record(&mut self, record: &Rec) {
        self.tally(Tally::RecordsRead, 1);
        self.tally(Tally::BytesRead, record.value.len() as u64);
        let time = self.stream_time.map_or(record.timestamp, |st| st.max(record.timestamp));
        self.advance(time);
        let Some(tenant) = record.tenant else { return self.tally(Tally::RecordsWithoutTenant, 1) };
        let Some(request) = &record.request else { return self.tally(Tally::RecordsUndecodable, 1) };
        for block in &request.resource_spans {
            let resource = block.resource.as_ref().map(|r| r.attributes.as_slice()).unwrap_or_default();
            let service = find(resource, "service.name");
            for span in block.scope_spans.iter().flat_map(|s| &s.spans) {
                self.tally(Tally::SpansRead, 1);
                self.count(tenant, service.clone().unwrap_or_default(), resource, span);
                if [2, 3, 4, 5].contains(&span.kind) {
                    self.tally(Tally::EdgeSpans, 1);
                    self.pair(tenant, service.clone(), resource, span);
                }
            }
        }
    }

    fn count(&mut self, tenant: &str, service: String, resource: &[KeyValue], span: &Span) {
        let config = Arc::clone(self.settings.tenants.of(tenant));
        let metrics = &config.span_metrics;
        if !keeps(&metrics.filter_policies, resource, span) {
            return self.tally(Tally::SpansDroppedFiltered, 1);
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
            return self.tally(Tally::SpansDroppedInvalidUtf8, 1);
        }
        let added = self.add(tenant, calls).expect("no bad label");
        added.counters[0] += 1;
        added.counters[1] += span.encoded_len() as u64;
        let valid = span.trace_id.len() == 16 && span.trace_id.iter().any(|&b| b != 0);
        let example = valid.then(|| (end_ms(span), span.trace_id.clone()));
        self.add(tenant, latency).expect("no bad label").observed[0].push((duration(span), example));
        self.tally(Tally::SpansCounted, 1);
    }

    fn pair(&mut self, tenant: &str, service: Option<String>, resource: &[KeyValue], span: &Span) {
        let Some(service) = service else { return self.tally(Tally::EdgeSpansWithoutService, 1) };
        let zero = |id: &[u8]| id.iter().all(|&b| b == 0);
        let is_client = span.kind == 3 || span.kind == 4;
        let other = if is_client { &span.span_id } else { &span.parent_span_id };
        let bad_length = other.len() != 8 && (is_client || !other.is_empty());
        if span.trace_id.len() != 16 || zero(&span.trace_id) || bad_length || (is_client && zero(other)) {
            return self.tally(Tally::EdgeSpansInvalidId, 1);
        }
        let root = Vec::new();
        let key = (tenant.to_owned(), span.trace_id.clone(), if zero(other) { root } else { other.clone() });
        let created = self.stream_time.expect("set by the record");
        let at = self.edges.iter().position(|e| e.key == key);
        let known = at.is_some();
        let mut edge = at.map_or_else(|| Edge { key, created, ..Edge::default() }, |at| self.edges[at].clone());
        self.update(&mut edge, service, resource, span);
        self.tally(Tally::EdgesOpened, u64::from(!known));
        if !edge.client.is_empty() && !edge.server.is_empty() {
            self.edges.retain(|e| e.key != edge.key);
            self.emit(&edge, Tally::EdgesCompleted);
        } else if let Some(at) = at {
            self.edges[at] = edge;
        } else if self.edges.len() >= self.settings.tenants.defaults().service_graphs.max_items {
            self.tally(Tally::EdgesDroppedFull, 1);
        } else {
            self.edges.push(edge);
        }
    }

    fn update(&self, edge: &mut Edge, service: String, resource: &[KeyValue], span: &Span) {
        let own = Some((duration(span), end_ms(span)));
        edge.kind = span.kind;
        edge.connection = if span.kind >= 4 { "messaging_system" } else { "" };
        edge.failed |= span.status.as_ref().is_some_and(|s| s.code == 2);
        let peers = &self.settings.tenants.defaults().service_graphs.peer_attributes;
        if let Some(peer) = peers.iter().find_map(|key| find(&span.attributes, key)) {
            edge.peer = peer;
        }
        if span.kind == 2 || span.kind == 5 {
            (edge.server, edge.server_span) = (service, own);
            return;
        }
        (edge.client, edge.client_span) = (service, own);
        let either = |key: &str| find(resource, key).or_else(|| find(&span.attributes, key));
        let names = &self.settings.tenants.defaults().service_graphs.database_name_attributes;
        let Some(fallback) = names.iter().find_map(|key| either(key)) else { return };
        edge.connection = "database";
        edge.server_span = own;
        if let Some(name) = either("peer.service").or_else(|| either("server.address")) {
            edge.server = name;
        } else if let Some(address) = either("network.peer.address") {
            edge.server =
                either("network.peer.port").map_or_else(|| address.clone(), |port| format!("{address}:{port}"));
        } else if !fallback.is_empty() {
            edge.server = fallback;
        }
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
