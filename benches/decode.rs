//! Nanoseconds per span: spanmill's decoder, the same with every field and attribute read, and `prost`'s full decode.
//!
//! `cargo bench --bench decode --no-default-features` prints one JSON line per case: the best of many rounds, cases
//! taking turns so that a noisy neighbor meets all of them.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]

use std::hint::black_box;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use spanmill::core::otlp::Batch;

const RESOURCES: u64 = 4;
const SPANS_PER_RESOURCE: u64 = 25;
const SPANS: u64 = RESOURCES * SPANS_PER_RESOURCE;
const RECORDS: u64 = 12;
const ROUNDS: usize = 200;

fn main() {
    let records: Vec<Vec<u8>> = (0..RECORDS).map(|seed| record(seed).encode_to_vec()).collect();
    let bytes_per_span = records.iter().map(Vec::len).sum::<usize>() as u64 / (RECORDS * SPANS);
    let mut batch = Batch::new();
    let mut best = [f64::INFINITY; 3];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(time(&records, |bytes| decode(&mut batch, bytes)));
        best[1] = best[1].min(time(&records, |bytes| decode_and_read(&mut batch, bytes)));
        best[2] = best[2].min(time(&records, decode_with_prost));
    }
    for (case, ns) in ["decode", "decode and read everything", "prost full decode"].iter().zip(best) {
        let ratio = best[2] / ns;
        println!(
            r#"{{"bench":"otlp","case":"{case}","ns_per_span":{ns:.1},"times_prost":{ratio:.1},"bytes_per_span":{bytes_per_span}}}"#
        );
    }
}

fn decode(batch: &mut Batch, bytes: &[u8]) -> usize {
    batch.decode(bytes).expect("a valid record");
    batch.len()
}

fn decode_and_read(batch: &mut Batch, bytes: &[u8]) -> usize {
    batch.decode(bytes).expect("a valid record");
    let mut sum = 0;
    for resource in batch.resources(bytes) {
        sum += resource
            .resource
            .iter()
            .map(|(key, value)| key.len() + value.as_str().map_or(0, <[u8]>::len))
            .sum::<usize>();
        for span in resource.spans() {
            black_box(&span);
            sum += span.size as usize;
            for (key, value) in span.attributes.iter() {
                sum += key.len() + value.as_str().map_or(1, <[u8]>::len);
            }
        }
    }
    sum
}

fn decode_with_prost(bytes: &[u8]) -> usize {
    let request = ExportTraceServiceRequest::decode(bytes).expect("a valid record");
    black_box(&request).resource_spans.len()
}

/// Nanoseconds per span of one pass over all records.
fn time(records: &[Vec<u8>], mut work: impl FnMut(&[u8]) -> usize) -> f64 {
    let start = Instant::now();
    for bytes in records {
        black_box(work(black_box(bytes)));
    }
    start.elapsed().as_secs_f64() * 1e9 / (RECORDS * SPANS) as f64
}

/// A record like those of an instrumented shop: about 570 bytes per span, 12 attributes each, 8 per resource.
fn record(seed: u64) -> ExportTraceServiceRequest {
    let resource_spans = (0..RESOURCES)
        .map(|r| {
            let spans = (0..SPANS_PER_RESOURCE).map(|s| span(((seed * RESOURCES + r) << 16) + s)).collect();
            ResourceSpans {
                resource: Some(Resource { attributes: resource_attributes(seed + r), ..Resource::default() }),
                scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }
        })
        .collect();
    ExportTraceServiceRequest { resource_spans }
}

fn resource_attributes(n: u64) -> Vec<KeyValue> {
    vec![
        text("service.name", format!("shop-service-{}", n % 50)),
        text("service.namespace", "shop".into()),
        text("service.version", "1.27.3".into()),
        text("service.instance.id", format!("{:032x}", u128::from(n) << 77)),
        text("k8s.pod.name", format!("shop-service-{n}-7d9f8b6c5-x2x4z")),
        text("k8s.namespace.name", "production".into()),
        text("telemetry.sdk.language", "java".into()),
        text("telemetry.sdk.version", "1.44.1".into()),
    ]
}

fn span(n: u64) -> Span {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let trace_id = [mixed.to_le_bytes(), mixed.rotate_left(29).to_le_bytes()].concat();
    let start = 1_760_000_000_000_000_000 + n * 1_000;
    Span {
        trace_id,
        span_id: mixed.rotate_left(11).to_le_bytes().to_vec(),
        parent_span_id: if n.is_multiple_of(8) { Vec::new() } else { mixed.rotate_left(41).to_le_bytes().to_vec() },
        name: format!("GET /api/v1/resource/{}", n % 500),
        kind: 1 + (n % 3) as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start + mixed % 1_000_000_000,
        attributes: vec![
            text("http.request.method", "GET".into()),
            text("http.route", format!("/api/v1/resource/{}", n % 500)),
            int("http.response.status_code", 200 + (n % 4) as i64 * 100),
            text("url.full", format!("https://shop.example.com/api/v1/resource/{}?session={mixed:x}", n % 500)),
            text("net.peer.name", format!("backend-{}.shop.svc.cluster.local", n % 20)),
            int("net.peer.port", 8_080),
            text("db.statement", "SELECT id, price FROM products WHERE category = ?".into()),
            int("thread.id", (n % 200) as i64),
            text("thread.name", format!("http-nio-8080-exec-{}", n % 200)),
            text("user_agent.original", "okhttp/4.12".into()),
            flag("app.cached", n.is_multiple_of(2)),
            text("enduser.id", format!("user-{}", mixed % 100_000)),
        ],
        status: Some(Status::default()),
        flags: 0x101,
        ..Span::default()
    }
}

fn text(key: &str, value: String) -> KeyValue {
    attribute(key, Value::StringValue(value))
}

fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn flag(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
