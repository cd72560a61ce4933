//! The same spans in every format, written here by hand: nothing of the reader that is tested has a part in it.
#![allow(dead_code, reason = "each user needs a part of it")]
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::io::Write as _;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use serde_json::{Value as Json, json};
use spanmill::core::settings::Encoding;

/// A span that all formats can hold. Kinds are those of OTLP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) trace: u128,
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: i32,
    pub(crate) start_us: u64,
    pub(crate) duration_us: u64,
    pub(crate) error: bool,
}

const KINDS: [&str; 6] = ["", "internal", "server", "client", "producer", "consumer"];

/// Three traces of a small shop: a call, a message, a call that fails; and work inside.
pub(crate) fn samples(start_us: u64) -> Vec<Sample> {
    let mut spans = Vec::new();
    for trace in 1..=3_u64 {
        let span = |id: u64, parent: u64, service, name, kind, duration_us| Sample {
            trace: u128::from(trace) << 64 | 0x99,
            id: trace * 100 + id,
            parent: if parent == 0 { 0 } else { trace * 100 + parent },
            service,
            name,
            kind,
            start_us: start_us + trace * 1_000,
            duration_us,
            error: trace == 3 && kind == 3,
        };
        spans.push(span(1, 0, "front", "GET /", 2, 9_000));
        spans.push(span(2, 1, "front", "pay", 3, 5_000));
        spans.push(span(3, 2, "pay", "POST /pay", 2, 4_000));
        spans.push(span(4, 3, "pay", "work", 1, 700));
        spans.push(span(5, 3, "pay", "paid send", 4, 20));
        spans.push(span(6, 5, "mail", "paid receive", 5, 1_000_000));
    }
    spans
}

// === OTLP ===

fn request(spans: &[Sample]) -> ExportTraceServiceRequest {
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    let one = |s: &Sample| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![KeyValue { key: "service.name".to_owned(), value: text(s.service), key_strindex: 0 }],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans: vec![Span {
                trace_id: s.trace.to_be_bytes().to_vec(),
                span_id: s.id.to_be_bytes().to_vec(),
                parent_span_id: if s.parent == 0 { Vec::new() } else { s.parent.to_be_bytes().to_vec() },
                name: s.name.to_owned(),
                kind: s.kind,
                start_time_unix_nano: s.start_us * 1_000,
                end_time_unix_nano: (s.start_us + s.duration_us) * 1_000,
                status: s.error.then(|| Status { code: 2, ..Status::default() }),
                ..Span::default()
            }],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: spans.iter().map(one).collect() }
}

pub(crate) fn otlp_proto(spans: &[Sample]) -> Vec<u8> {
    request(spans).encode_to_vec()
}

pub(crate) fn otlp_json(spans: &[Sample]) -> Vec<u8> {
    serde_json::to_vec(&request(spans)).expect("JSON")
}

/// One trace of Tempo's per span, each with its ID.
pub(crate) fn push_bytes(spans: &[Sample], no_metrics: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for span in spans {
        bytes(&mut out, 2, &otlp_proto(std::slice::from_ref(span)));
    }
    for span in spans {
        bytes(&mut out, 3, &span.trace.to_be_bytes());
    }
    if no_metrics {
        out.extend_from_slice(&[5 << 3, 1]);
    }
    out
}

// === protobuf by hand ===

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

// === Jaeger ===

fn time(us: u64) -> Vec<u8> {
    message(|out| {
        number(out, 1, us / 1_000_000);
        number(out, 2, us % 1_000_000 * 1_000);
    })
}

/// A span with its process, as the Collector and Jaeger's collector write a record each.
pub(crate) fn jaeger_proto(s: &Sample) -> Vec<u8> {
    message(|out| {
        bytes(out, 1, &s.trace.to_be_bytes());
        bytes(out, 2, &s.id.to_be_bytes());
        bytes(out, 3, s.name.as_bytes());
        if s.parent != 0 {
            let reference = message(|out| {
                bytes(out, 1, &s.trace.to_be_bytes());
                bytes(out, 2, &s.parent.to_be_bytes());
            });
            bytes(out, 4, &reference);
        }
        bytes(out, 6, &time(s.start_us));
        bytes(out, 7, &time(s.duration_us));
        let kind = message(|out| {
            bytes(out, 1, b"span.kind");
            bytes(out, 3, KINDS[s.kind as usize].as_bytes());
        });
        bytes(out, 8, &kind);
        if s.error {
            let error = message(|out| {
                bytes(out, 1, b"error");
                number(out, 2, 1);
                number(out, 4, 1);
            });
            bytes(out, 8, &error);
        }
        bytes(out, 10, &message(|out| bytes(out, 1, s.service.as_bytes())));
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let shown = digit <= chunk.len();
            out.push(if shown { DIGITS[(bits >> (18 - 6 * digit) & 63) as usize] as char } else { '=' });
        }
    }
    out
}

/// The same in protobuf's JSON.
pub(crate) fn jaeger_json(s: &Sample) -> Vec<u8> {
    let start = jiff_time(s.start_us);
    let (trace, span) = (base64(&s.trace.to_be_bytes()), base64(&s.id.to_be_bytes()));
    let mut tags = vec![json!({"key": "span.kind", "vStr": KINDS[s.kind as usize]})];
    if s.error {
        tags.push(json!({"key": "error", "vType": "BOOL", "vBool": true}));
    }
    let mut json = json!({
        "traceId": trace, "spanId": span, "operationName": s.name, "startTime": start,
        "duration": format!("{}.{:06}s", s.duration_us / 1_000_000, s.duration_us % 1_000_000),
        "tags": tags, "process": {"serviceName": s.service},
    });
    if s.parent != 0 {
        json["references"] = json!([{"traceId": trace, "spanId": base64(&s.parent.to_be_bytes())}]);
    }
    json.to_string().into_bytes()
}

/// An RFC 3339 time, by the calendar's own arithmetic.
fn jiff_time(us: u64) -> String {
    let (days, rest) = (us / 86_400_000_000, us % 86_400_000_000);
    let (era, z) = ((days + 719_468) / 146_097, (days + 719_468) % 146_097);
    let year_of_era = (z - z / 1_460 + z / 36_524 - z / 146_096) / 365;
    let day_of_year = z - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000_000, rest / 60_000_000 % 60, rest / 1_000_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", rest % 1_000_000)
}

/// What Jaeger's API answers and its page downloads.
pub(crate) fn jaeger_api(spans: &[Sample]) -> Vec<u8> {
    let span = |s: &Sample| {
        let mut tags = vec![json!({"key": "span.kind", "type": "string", "value": KINDS[s.kind as usize]})];
        if s.error {
            tags.push(json!({"key": "error", "type": "bool", "value": true}));
        }
        let trace = format!("{:x}", s.trace);
        let parent = json!({"refType": "CHILD_OF", "traceID": trace, "spanID": format!("{:016x}", s.parent)});
        let references = if s.parent == 0 { json!([]) } else { json!([parent]) };
        json!({
            "traceID": trace, "spanID": format!("{:016x}", s.id), "operationName": s.name, "references": references,
            "startTime": s.start_us, "duration": s.duration_us, "tags": tags, "logs": [], "processID": s.service,
            "warnings": null,
        })
    };
    let processes: serde_json::Map<String, Json> =
        spans.iter().map(|s| (s.service.to_owned(), json!({"serviceName": s.service, "tags": []}))).collect();
    let all: Vec<Json> = spans.iter().map(span).collect();
    let trace = json!({"traceID": "1", "spans": all, "processes": processes, "warnings": null});
    json!({"data": [trace], "total": 0, "limit": 0, "offset": 0, "errors": null}).to_string().into_bytes()
}

// === Zipkin ===

pub(crate) fn zipkin_proto(spans: &[Sample]) -> Vec<u8> {
    message(|out| spans.iter().for_each(|s| bytes(out, 1, &zipkin_span(s, false))))
}

/// One span of the list.
pub(crate) fn zipkin_span(s: &Sample, shared: bool) -> Vec<u8> {
    let tag = |key: &str, value: &str| {
        message(|out| {
            bytes(out, 1, key.as_bytes());
            bytes(out, 2, value.as_bytes());
        })
    };
    message(|out| {
        bytes(out, 1, &s.trace.to_be_bytes());
        if s.parent != 0 {
            bytes(out, 2, &s.parent.to_be_bytes());
        }
        bytes(out, 3, &s.id.to_be_bytes());
        let kind = [0, 0, 2, 1, 3, 4][s.kind as usize];
        if kind != 0 {
            number(out, 4, kind);
        }
        bytes(out, 5, s.name.as_bytes());
        out.push(6 << 3 | 1);
        out.extend_from_slice(&s.start_us.to_le_bytes());
        number(out, 7, s.duration_us);
        bytes(out, 8, &message(|out| bytes(out, 1, s.service.as_bytes())));
        if s.kind == 1 {
            bytes(out, 11, &tag("span.kind", "internal"));
        }
        if s.error {
            bytes(out, 11, &tag("error", "true"));
        }
        if shared {
            number(out, 13, 1);
        }
    })
}

pub(crate) fn zipkin_json(spans: &[Sample]) -> Vec<u8> {
    let kinds = [Json::Null, Json::Null, json!("SERVER"), json!("CLIENT"), json!("PRODUCER"), json!("CONSUMER")];
    let span = |s: &Sample| {
        let mut tags = serde_json::Map::new();
        if s.kind == 1 {
            tags.insert("span.kind".to_owned(), json!("internal"));
        }
        if s.error {
            tags.insert("error".to_owned(), json!("true"));
        }
        let mut json = json!({
            "traceId": format!("{:032x}", s.trace), "id": format!("{:016x}", s.id), "name": s.name,
            "timestamp": s.start_us, "duration": s.duration_us, "localEndpoint": {"serviceName": s.service}, "tags": tags,
        });
        if s.parent != 0 {
            json["parentId"] = json!(format!("{:016x}", s.parent));
        }
        if !kinds[s.kind as usize].is_null() {
            json["kind"] = kinds[s.kind as usize].clone();
        }
        json
    };
    Json::Array(spans.iter().map(span).collect()).to_string().into_bytes()
}

// === what they may be wrapped in ===

/// The framing of a schema registry; `index` is the path to the message.
pub(crate) fn framed(value: &[u8], index: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 4, 210], index, value].concat()
}

pub(crate) fn gzip(value: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(value).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

pub(crate) fn zstd(value: &[u8]) -> Vec<u8> {
    zstd::encode_all(value, 1).expect("memory takes everything")
}

/// The records that hold these spans, in each format.
pub(crate) fn everything(spans: &[Sample]) -> Vec<(&'static str, Encoding, Vec<Vec<u8>>)> {
    vec![
        ("OTLP protobuf", Encoding::OtlpProto, vec![otlp_proto(spans)]),
        ("OTLP JSON", Encoding::OtlpJson, vec![otlp_json(spans)]),
        ("Tempo", Encoding::TempoPushBytes, vec![push_bytes(spans, false)]),
        ("Jaeger protobuf", Encoding::JaegerProto, spans.iter().map(jaeger_proto).collect()),
        ("Jaeger JSON", Encoding::JaegerJson, spans.iter().map(jaeger_json).collect()),
        ("Jaeger's API", Encoding::JaegerJson, vec![jaeger_api(spans)]),
        ("Zipkin protobuf", Encoding::ZipkinProto, vec![zipkin_proto(spans)]),
        ("Zipkin JSON", Encoding::ZipkinJson, vec![zipkin_json(spans)]),
    ]
}
