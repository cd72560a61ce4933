//! Nanoseconds per span of a whole span task, from record bytes to shares, beside full `prost` decoding and the obvious
//! counting in hash maps of the same spans.
//!
//! `cargo bench --bench span_task --no-default-features` prints one JSON line per case: the best of many rounds, cases
//! taking turns so that a noisy neighbour meets all of them.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]
#![allow(clippy::disallowed_types, reason = "the obvious way uses the obvious map")]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use spanmill::config::Config;
use spanmill::loadgen::{Generator, Group, Options, Scale, Topology};
use spanmill::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};

const SPANS: u64 = 40_000;
const ROUNDS: usize = 20;

fn main() {
    let options = Options {
        start: 1_700_000_000_000,
        rate: 100_000,
        spans: Some(SPANS),
        spans_per_record: 100,
        group: Group::Partition(1),
        ..Options::default()
    };
    let topology = Topology::scaled(&Scale::default(), 7);
    let records: Vec<(i64, Vec<u8>)> = Generator::new(topology, 7, options).map(|r| (r.timestamp, r.value)).collect();
    let spans = plain(&records).0;
    let settings = SpanSettings::from(&Config::default());
    let mut best = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(time(spans, || task(&settings, &records)));
        best[1] = best[1].min(time(spans, || plain(&records).1));
    }
    for (case, ns) in ["span task", "prost and hash maps"].iter().zip(best) {
        let ratio = best[1] / ns;
        println!(r#"{{"bench":"span_task","case":"{case}","ns_per_span":{ns:.1},"times_plain":{ratio:.1}}}"#);
    }
}

fn time(spans: u64, work: impl FnOnce() -> usize) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64() * 1e9 / spans as f64
}

/// Everything that a span task does with the records; returns the bytes of its shares.
fn task(settings: &SpanSettings, records: &[(i64, Vec<u8>)]) -> usize {
    let restored = Restored { next: Some(0), ..Restored::default() };
    let mut task = SpanTask::new(settings, "spans".to_owned(), 0, restored).expect("an empty journal");
    let mut bytes = 0;
    for (offset, (timestamp, value)) in (0..).zip(records) {
        let record = Record { offset, timestamp: *timestamp, tenant: Some("t"), value };
        while let Offer::CutFirst { cut } = task.offer(&record, i64::MAX / 2) {
            bytes += cut.shares.iter().flatten().map(Vec::len).sum::<usize>();
        }
    }
    bytes + task.cut().map_or(0, |cut| cut.shares.iter().flatten().map(Vec::len).sum())
}

/// The spans, and the label sets of span metrics and edges that the obvious way of counting finds.
fn plain(records: &[(i64, Vec<u8>)]) -> (u64, usize) {
    let mut sets: HashMap<(String, String, i32, i32), (u64, u64, [u64; 15])> = HashMap::new();
    let mut halves: HashMap<(Vec<u8>, Vec<u8>), (String, bool)> = HashMap::new();
    let mut edges: HashMap<(String, String), u64> = HashMap::new();
    let mut spans = 0;
    for (_, value) in records {
        let request = ExportTraceServiceRequest::decode(value.as_slice()).expect("a record");
        for resource_spans in request.resource_spans {
            let attributes = resource_spans.resource.map(|r| r.attributes).unwrap_or_default();
            let service = attributes.iter().find(|kv| kv.key == "service.name").and_then(|kv| kv.value.as_ref());
            let service = match service.and_then(|v| v.value.as_ref()) {
                Some(Value::StringValue(text)) => text.clone(),
                _ => String::new(),
            };
            for span in resource_spans.scope_spans.into_iter().flat_map(|s| s.spans) {
                spans += 1;
                let size = span.encoded_len() as u64;
                let code = span.status.as_ref().map_or(0, |s| s.code);
                let set = sets.entry((service.clone(), span.name, span.kind, code)).or_default();
                set.0 += 1;
                set.1 += size;
                let ns = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
                set.2[(64 - (ns / 1_000_000).leading_zeros() as usize).min(14)] += 1;
                let (key, is_client) = match span.kind {
                    3 => ((span.trace_id, span.span_id), true),
                    2 => ((span.trace_id, span.parent_span_id), false),
                    _ => continue,
                };
                match halves.remove(&key) {
                    Some((other, was_client)) if was_client != is_client => {
                        let edge = if is_client { (service.clone(), other) } else { (other, service.clone()) };
                        *edges.entry(edge).or_default() += 1;
                    }
                    _ => drop(halves.insert(key, (service.clone(), is_client))),
                }
            }
        }
    }
    (spans, sets.len() + edges.len() + halves.len())
}
