//! The obvious way: full `prost` decoding, `String` keys, and the maps of the standard library.
#![allow(dead_code, reason = "every benchmark takes what it needs")]

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message as _;

/// Service, name, kind, status, dimensions.
type SetKey = (String, String, i32, i32, Vec<String>);
/// Calls, bytes, and latency in buckets.
type Counts = (u64, u64, [u64; 15]);
type HalfKey = (Vec<u8>, Vec<u8>);

/// All that the obvious way keeps.
#[derive(Default)]
pub(crate) struct Naive {
    sets: HashMap<SetKey, Counts>,
    halves: HashMap<HalfKey, (String, bool)>,
    edges: HashMap<(String, String), u64>,
}

/// Everything: the number of label sets, edges and half edges.
pub(crate) fn count(records: &[(i64, Vec<u8>)], dimensions: &[&str], unwanted: Option<(&str, &str)>) -> usize {
    let mut naive = Naive::default();
    for (_, value) in records {
        for resource_spans in decode(value).resource_spans {
            let service = service_of(&resource_spans);
            let attributes = resource_spans.resource.map(|r| r.attributes).unwrap_or_default();
            for mut span in resource_spans.scope_spans.into_iter().flat_map(|s| s.spans) {
                let is_unwanted = |(key, value)| text(&span.attributes, key).as_deref() == Some(value);
                if !unwanted.is_some_and(is_unwanted) {
                    let name = std::mem::take(&mut span.name);
                    naive.count(&service, name, &attributes, &span, dimensions);
                }
                naive.pair(&service, span.kind, span.trace_id, [span.span_id, span.parent_span_id]);
            }
        }
    }
    naive.len()
}

/// Decodes a record.
pub(crate) fn decode(value: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(value).expect("a record")
}

/// Only the span metrics of decoded records.
pub(crate) fn count_decoded(requests: &[ExportTraceServiceRequest]) -> usize {
    let mut naive = Naive::default();
    each(requests, |service, span| naive.count(service, span.name.clone(), &[], span, &[]));
    naive.len()
}

/// Only the service graph of decoded records.
pub(crate) fn pair_decoded(requests: &[ExportTraceServiceRequest]) -> usize {
    let mut naive = Naive::default();
    each(requests, |service, span| {
        let ids = [span.span_id.clone(), span.parent_span_id.clone()];
        naive.pair(service, span.kind, span.trace_id.clone(), ids);
    });
    naive.len()
}

fn each(requests: &[ExportTraceServiceRequest], mut work: impl FnMut(&str, &Span)) {
    for resource_spans in requests.iter().flat_map(|request| &request.resource_spans) {
        let service = service_of(resource_spans);
        resource_spans.scope_spans.iter().flat_map(|s| &s.spans).for_each(|span| work(&service, span));
    }
}

fn service_of(resource_spans: &ResourceSpans) -> String {
    resource_spans.resource.as_ref().and_then(|r| text(&r.attributes, "service.name")).unwrap_or_default()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|kv| kv.key == key)?.value.as_ref()?.value.as_ref()?;
    match value {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(n) => Some(n.to_string()),
        Value::BoolValue(b) => Some(b.to_string()),
        Value::DoubleValue(x) => Some(x.to_string()),
        _ => None,
    }
}

impl Naive {
    fn len(&self) -> usize {
        self.sets.len() + self.edges.len() + self.halves.len()
    }

    fn count(&mut self, service: &str, name: String, resource: &[KeyValue], span: &Span, dimensions: &[&str]) {
        let size = span.encoded_len() as u64;
        let code = span.status.as_ref().map_or(0, |s| s.code);
        let value = |key: &&str| text(resource, key).or_else(|| text(&span.attributes, key)).unwrap_or_default();
        let key = (service.to_owned(), name, span.kind, code, dimensions.iter().map(value).collect());
        let set = self.sets.entry(key).or_default();
        set.0 += 1;
        set.1 += size;
        let ns = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        set.2[(64 - (ns / 1_000_000).leading_zeros() as usize).min(14)] += 1;
    }

    fn pair(&mut self, service: &str, kind: i32, trace_id: Vec<u8>, [span_id, parent_span_id]: [Vec<u8>; 2]) {
        let (key, is_client) = match kind {
            3 => ((trace_id, span_id), true),
            2 => ((trace_id, parent_span_id), false),
            _ => return,
        };
        match self.halves.remove(&key) {
            Some((other, was_client)) if was_client != is_client => {
                let edge = if is_client { (service.to_owned(), other) } else { (other, service.to_owned()) };
                *self.edges.entry(edge).or_default() += 1;
            }
            _ => drop(self.halves.insert(key, (service.to_owned(), is_client))),
        }
    }
}
