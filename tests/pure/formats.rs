//! Records in other formats than OTLP protobuf: what they become, value by value, and that the same spans give the same series.
//!
//! `tests/files/formats` has records as Jaeger's and Zipkin's own libraries write them (`*.jaeger.*`, `*.zipkin.*`), and what
//! the Collector's translators of version 0.165 make of each (`*.otlp.json`).
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::samples::{
    Sample, everything, framed, gzip, jaeger_proto, otlp_proto, push_bytes, samples, zipkin_span, zstd,
};
use spanmill::config::Config;
use spanmill::core::formats::{FormatError, MAX_UNWRAPPED, is_otlp_proto, to_otlp, to_proto};
use spanmill::core::model::{Counter, Ledger};
use spanmill::core::settings::Encoding;
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use spanmill::tools::totals::Totals;

const START: i64 = 1_700_000_000_000;
const AT: i64 = START + 5_000;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../files/formats/", $name)).as_slice()
    };
}

/// What one span is, whatever it lies with: its resource, its scope, and itself with its attributes in order.
type Flat = BTreeMap<Vec<u8>, (Vec<KeyValue>, InstrumentationScope, Span)>;

fn flat(otlp: &[u8]) -> Flat {
    let request = ExportTraceServiceRequest::decode(otlp).expect("a request");
    let mut all = Flat::new();
    for resource_spans in request.resource_spans {
        let resource = sorted(resource_spans.resource.unwrap_or_default().attributes);
        for scope_spans in resource_spans.scope_spans {
            let scope = scope_spans.scope.unwrap_or_default();
            for mut span in scope_spans.spans {
                span.attributes = sorted(span.attributes);
                span.events.iter_mut().for_each(|e| e.attributes = sorted(std::mem::take(&mut e.attributes)));
                span.status = Some(span.status.unwrap_or_default());
                all.insert(span.span_id.clone(), (resource.clone(), scope.clone(), span));
            }
        }
    }
    all
}

fn sorted(mut attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    attributes
}

fn read(encoding: Encoding, value: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    to_otlp(encoding, value, &mut out).map(|_| out)
}

/// The same records with the encoding named, and detected.
fn read_twice(encoding: Encoding, value: &[u8]) -> Vec<u8> {
    assert!(!is_otlp_proto(Encoding::Auto, value), "{encoding:?}");
    let named = read(encoding, value).expect("it can be read");
    assert_eq!(read(Encoding::Auto, value).as_ref(), Ok(&named), "{encoding:?}");
    named
}

#[test]
fn jaeger_spans_become_what_the_collector_makes_of_them() {
    for (proto, json, expected) in [
        (file!("client-error.jaeger.pb"), file!("client-error.jaeger.json"), file!("client-error.otlp.json")),
        (file!("server-404.jaeger.pb"), file!("server-404.jaeger.json"), file!("server-404.otlp.json")),
        (file!("consumer-ok.jaeger.pb"), file!("consumer-ok.jaeger.json"), file!("consumer-ok.otlp.json")),
        (file!("no-process.jaeger.pb"), file!("no-process.jaeger.json"), file!("no-process.otlp.json")),
    ] {
        let expected = flat(&to_proto(expected).expect("OTLP"));
        assert_eq!(flat(&read_twice(Encoding::JaegerProto, proto)), expected);
        assert_eq!(flat(&read_twice(Encoding::JaegerJson, json)), expected);
    }
}

#[test]
fn what_the_page_of_jaeger_downloads_is_the_same_span() {
    let api = br#"{"data":[{"traceID":"0123456789abcdeffedcba9876543210","spans":[{"traceID":"123456789abcdeffedcba9876543210",
        "spanID":"1122334455667788","flags":1,"operationName":"GET /cart","references":[
        {"refType":"CHILD_OF","traceID":"0123456789abcdeffedcba9876543210","spanID":"0000000000000099"},
        {"refType":"FOLLOWS_FROM","traceID":"0000000000000005","spanID":"0000000000000006"}],
        "startTime":1700000000123456,"duration":1500,"tags":[{"key":"span.kind","type":"string","value":"client"},
        {"key":"otel.scope.name","type":"string","value":"lib"},{"key":"otel.scope.version","type":"string","value":"1.2"},
        {"key":"error","type":"bool","value":true},{"key":"http.status_message","type":"string","value":"no way"},
        {"key":"http.status_code","type":"int64","value":503},{"key":"ratio","type":"float64","value":0.25},
        {"key":"blob","type":"binary","value":"AQID"},{"key":"peer.service","type":"string","value":"cart"},
        {"key":"w3c.tracestate","type":"string","value":"ot=th:8"},{"key":"twice","type":"string","value":"a"},
        {"key":"twice","type":"string","value":"b"}],"logs":[{"timestamp":1700000000124456,"fields":[
        {"key":"event","type":"string","value":"retry"},{"key":"attempt","type":"int64","value":2}]}],
        "processID":"p1","warnings":null}],"processes":{"p1":{"serviceName":"frontend","tags":[
        {"key":"hostname","type":"string","value":"box"},{"key":"jaeger.version","type":"string","value":"Go-2.30"},
        {"key":"pid","type":"int64","value":7}]}},"warnings":null}],"total":0,"limit":0,"offset":0,"errors":null}"#;
    let expected = flat(&to_proto(file!("client-error.otlp.json")).expect("OTLP"));
    assert_eq!(flat(&read_twice(Encoding::JaegerJson, api)), expected);
}

#[test]
fn zipkin_spans_become_what_the_collector_makes_of_them_and_keep_the_older_name_of_their_peer() {
    for (proto, json, expected) in [
        (file!("client.zipkin.pb"), file!("client.zipkin.json"), file!("client.otlp.json")),
        (file!("several.zipkin.pb"), file!("several.zipkin.json"), file!("several.otlp.json")),
    ] {
        let mut expected = flat(&to_proto(expected).expect("OTLP"));
        for (_, _, span) in expected.values_mut() {
            let peer = span.attributes.iter().find(|attribute| attribute.key == "service.peer.name").cloned();
            span.attributes.extend(peer.map(|peer| KeyValue { key: "peer.service".to_owned(), ..peer }));
            span.attributes = sorted(std::mem::take(&mut span.attributes));
        }
        assert_eq!(flat(&read_twice(Encoding::ZipkinProto, proto)), expected);
        assert_eq!(flat(&read_twice(Encoding::ZipkinJson, json)), expected);
    }
}

#[test]
fn every_zipkin_span_keeps_its_own_resource() {
    let span = |id: &str, host: &str| {
        format!(
            r#"{{"traceId":"1","id":"{id}","timestamp":5,"localEndpoint":{{"serviceName":"a"}},"tags":{{"host.name":"{host}"}}}}"#
        )
    };
    let value = format!("[{},{},{}]", span("1", "x"), span("2", "y"), span("3", "y"));
    let request =
        ExportTraceServiceRequest::decode(&*read_twice(Encoding::ZipkinJson, value.as_bytes())).expect("OTLP");
    let hosts: Vec<_> = request
        .resource_spans
        .iter()
        .map(|r| r.resource.as_ref().expect("a resource").attributes[1].value.clone().expect("a value").value)
        .collect();
    assert_eq!(hosts, ["x", "y"].map(|host| Some(Value::StringValue(host.to_owned()))));
    assert_eq!(request.resource_spans[1].scope_spans[0].spans.len(), 2, "equal ones share theirs");
}

// === through the task ===

fn settings(encoding: Encoding) -> SpanSettings {
    let mut config = Config::default();
    config.kafka.encoding = encoding;
    config.kafka.shards = 1;
    SpanSettings::from(&config)
}

fn task(encoding: Encoding, restored: Restored) -> SpanTask {
    SpanTask::new(&settings(encoding), "t".into(), 0, restored).expect("nothing is damaged")
}

fn offer(task: &mut SpanTask, offset: i64, value: &[u8]) -> Vec<StepCut> {
    let record = Record { offset, timestamp: AT, tenant: Some("t"), value };
    let mut cuts = Vec::new();
    while let Offer::CutFirst { cut } = task.offer(&record, AT) {
        cuts.push(*cut);
    }
    cuts
}

/// What records come to, and their ledger.
fn count(encoding: Encoding, records: &[Vec<u8>]) -> (Totals, Ledger) {
    let (mut task, mut totals) = (task(encoding, Restored::default()), Totals::default());
    let mut cuts: Vec<StepCut> = (0..).zip(records).flat_map(|(at, value)| offer(&mut task, at, value)).collect();
    cuts.extend(task.finish(true));
    cuts.iter()
        .flat_map(|cut| cut.delta_records.iter().flatten())
        .for_each(|delta_record| totals.add(delta_record).expect("a delta record"));
    (totals, task.ledger().clone())
}

/// What it holds besides records and bytes.
fn spans_and_edges(ledger: &Ledger) -> Vec<(Counter, u64)> {
    ledger.iter().filter(|(counter, _)| !matches!(counter, Counter::RecordsRead | Counter::BytesRead)).collect()
}

#[test]
fn the_same_spans_in_every_format_and_wrapping_give_the_same_series() {
    let spans = samples(START as u64 * 1_000);
    let (expected, ledger) = count(Encoding::OtlpProto, &[otlp_proto(&spans)]);
    assert_eq!(ledger.get(Counter::SpansCounted), 18);
    assert_eq!((ledger.get(Counter::EdgesCompleted), ledger.get(Counter::EdgesVirtual)), (6, 3));
    for (name, encoding, records) in everything(&spans) {
        let wrap = |wrap: &dyn Fn(&[u8]) -> Vec<u8>| records.iter().map(|value| wrap(value)).collect::<Vec<_>>();
        for records in [
            records.clone(),
            wrap(&|value| framed(value, &[0])),
            wrap(&|value| framed(value, &[4, 2, 0])),
            wrap(&gzip),
            wrap(&zstd),
            wrap(&|value| framed(&gzip(value), &[0])),
            wrap(&|value| gzip(&framed(value, &[0]))),
        ] {
            for encoding in [encoding, Encoding::Auto] {
                let (totals, counted) = count(encoding, &records);
                assert_eq!(counted.get(Counter::RecordsUndecodable), 0, "{name}");
                assert_eq!(totals, expected, "{name} as {encoding:?}");
                assert_eq!(spans_and_edges(&counted), spans_and_edges(&ledger), "{name}");
            }
        }
    }
}

#[test]
fn several_formats_on_one_topic_are_told_apart_record_by_record() {
    let spans = samples(START as u64 * 1_000);
    let (expected, _) = count(Encoding::OtlpProto, &[otlp_proto(&spans)]);
    let mut records = Vec::new();
    for (turn, span) in spans.iter().enumerate() {
        let all = everything(std::slice::from_ref(span));
        records.push(all[turn % all.len()].2[0].clone());
    }
    assert_eq!(count(Encoding::Auto, &records).0, expected);
}

#[test]
fn records_that_tempo_excludes_from_metrics_are_counted_and_nothing_else() {
    let spans = samples(START as u64 * 1_000);
    for encoding in [Encoding::TempoPushBytes, Encoding::Auto] {
        let (totals, ledger) = count(encoding, &[push_bytes(&spans, true), gzip(&push_bytes(&spans, true))]);
        assert_eq!(totals, Totals::default());
        let counters =
            [Counter::RecordsRead, Counter::RecordsNotForMetrics, Counter::SpansRead, Counter::RecordsUndecodable];
        assert_eq!(counters.map(|counter| ledger.get(counter)), [2, 2, 0, 0]);
    }
}

#[test]
fn pending_edges_of_other_formats_are_rebuilt_by_a_new_owner() {
    let spans = samples(START as u64 * 1_000);
    let (client, server) = (jaeger_proto(&spans[1]), gzip(&jaeger_proto(&spans[2])));
    let mut first = task(Encoding::Auto, Restored::default());
    assert!(offer(&mut first, 0, &client).is_empty());
    let cut = first.cut().expect("a commit");
    let restored = Restored {
        next: Some(cut.to),
        next_commit_number: cut.commit_number + 1,
        stream_time: Some(cut.stream_time),
        step: Some(cut.step),
        reread_from: cut.reread_from,
        live: cut.live,
        ledger: cut.ledger,
    };
    let mut second = task(Encoding::Auto, restored);
    assert_eq!(second.start_offset(), Some(0));
    assert!(offer(&mut second, 0, &client).is_empty() && offer(&mut second, 1, &server).is_empty());
    assert_eq!(second.ledger().get(Counter::EdgesCompleted), 1);
    assert_eq!(second.pending_edges(), 0);
}

// === shared IDs ===

#[test]
fn client_and_server_of_a_zipkin_call_with_one_id_are_one_edge() {
    let span = |id, parent, service, kind| Sample {
        trace: 7,
        id,
        parent,
        service,
        name: "call",
        kind,
        start_us: START as u64 * 1_000,
        duration_us: 5,
        error: false,
    };
    let (client, server) = (span(2, 1, "a", 3), span(2, 1, "b", 2));
    let (child, next) = (span(3, 2, "b", 3), span(3, 2, "c", 2));
    let record = |spans: &[(Sample, bool)]| {
        let entry = |(s, shared): &(Sample, bool)| {
            let span = zipkin_span(s, *shared);
            [&[0x0a, span.len() as u8], span.as_slice()].concat()
        };
        spans.iter().flat_map(entry).collect::<Vec<u8>>()
    };
    let all = [(client, false), (server, true), (child, false), (next, true)];
    for records in [vec![record(&all)], all.iter().map(|one| record(std::slice::from_ref(one))).collect(), {
        vec![record(&all[..1]), record(&all[1..3]), record(&all[3..])]
    }] {
        let (_, ledger) = count(Encoding::Auto, &records);
        assert_eq!(ledger.get(Counter::EdgesCompleted), 2, "two calls");
        assert_eq!(ledger.get(Counter::EdgesOpened), 2, "and nothing else");
    }
    let ids = |bytes: &[u8]| -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let request = ExportTraceServiceRequest::decode(&*read(Encoding::Auto, bytes).expect("OTLP")).expect("OTLP");
        let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        spans.map(|span| (span.kind.to_string(), span.span_id, span.parent_span_id)).collect()
    };
    let together = ids(&record(&all[..3]));
    let shared = 2_u64.to_be_bytes().to_vec();
    assert_eq!((&together[0].1, &together[1].2), (&shared, &shared), "the server lies below its client");
    assert_ne!(together[1].1, shared, "and has an ID of its own");
    assert_eq!(together[2].2, together[1].1, "its child in the same record lies below it");
    assert_eq!(ids(&record(&all[1..2]))[0].1, together[1].1, "the ID is the same wherever it is made");
    assert_eq!(ids(&record(&all[2..3]))[0].2, shared, "elsewhere nothing tells whose child it is");
}

// === what cannot be read ===

#[test]
fn a_record_that_unpacks_to_more_than_the_limit_is_refused() {
    let bomb = vec![0x0a; MAX_UNWRAPPED + 1];
    for packed in [gzip(&bomb), zstd(&bomb)] {
        assert_eq!(read(Encoding::Auto, &packed), Err(FormatError::TooLarge));
        let (_, ledger) = count(Encoding::OtlpProto, &[packed]);
        assert_eq!(ledger.get(Counter::RecordsUndecodable), 1);
    }
    let nested = (0..5).fold(b"x".to_vec(), |value, _| gzip(&value));
    assert!(matches!(read(Encoding::Auto, &nested), Err(FormatError::Layers(_))));
}

#[test]
fn a_small_record_that_would_take_much_memory_is_refused_before_it_does() {
    let many = |field: &[u8]| field.repeat(1 << 20);
    for (encoding, value) in [
        (Encoding::JaegerProto, many(&[0x42, 0])),
        (Encoding::JaegerProto, [&[0x4a, 0x80, 0x80, 0x80, 1][..], &many(&[0x12, 0])].concat()),
        (Encoding::ZipkinProto, [&[0x0a, 0x80, 0x80, 0x80, 1][..], &many(&[0x5a, 0])].concat()),
    ] {
        assert!(matches!(read(encoding, &value), Err(FormatError::TooManyFields(_))), "{encoding:?}");
    }
    let no_span = read(Encoding::ZipkinProto, &many(&[0x0a, 0]));
    assert!(matches!(no_span, Err(FormatError::Id(_))), "{no_span:?}");
    for (encoding, begin, end) in [
        (Encoding::ZipkinJson, "[", "{}]"),
        (Encoding::JaegerJson, "{\"data\":[{\"spans\":[", "{}]}]}"),
        (Encoding::JaegerJson, "{\"operationName\":\"x\",\"tags\":[", "{}]}"),
    ] {
        let value = [begin, &"{},".repeat(1 << 20), end].concat();
        let error = read(encoding, value.as_bytes());
        assert!(matches!(error, Err(FormatError::Json { column: ..100, .. })), "the first one ends it: {error:?}");
    }
}

#[test]
fn what_is_wrong_with_a_record_is_said() {
    let spans = samples(START as u64 * 1_000);
    let torn = |value: Vec<u8>| value[..value.len() - 3].to_vec();
    let error = |encoding, value: &[u8]| read(encoding, value).expect_err("it is damaged").to_string();
    let cases: [(Encoding, Vec<u8>, &str); 11] = [
        (Encoding::Auto, torn(gzip(&otlp_proto(&spans))), "compressed by gzip, but cannot be decompressed"),
        (Encoding::Auto, torn(zstd(&otlp_proto(&spans))), "compressed by zstd, but cannot be decompressed"),
        (Encoding::Auto, framed(b"x", &[0x80]), "message index is damaged"),
        (Encoding::JaegerProto, torn(jaeger_proto(&spans[0])), "not protobuf of a Jaeger span"),
        (Encoding::JaegerProto, b"\x0a\x01\x00".to_vec(), "a trace ID that has neither 16 nor 8 bytes"),
        (Encoding::TempoPushBytes, b"\x12\x05\x00".to_vec(), "not protobuf of Tempo's push-bytes"),
        (Encoding::ZipkinProto, b"\x0a\x01\x00".to_vec(), "not protobuf of a list of Zipkin spans"),
        (Encoding::ZipkinJson, b"[{\"traceId\":\"1\",\n\"id\":5}]".to_vec(), "a field has another type"),
        (Encoding::ZipkinJson, b"hello".to_vec(), "the record is not JSON"),
        (Encoding::JaegerJson, b"{\"operationName\":\"x\",\"traceId\":\"?\"}".to_vec(), "an ID that is not base64"),
        (Encoding::Auto, b"{\"resourceMetrics\":[]}".to_vec(), "it holds metrics, not traces"),
    ];
    for (encoding, value, what) in cases {
        let error = error(encoding, &value);
        assert!(error.contains(what), "{error}");
    }
    assert!(
        error(Encoding::ZipkinJson, b"[{\"traceId\":\"1\",\n\"id\":5}]").contains("line 2, column"),
        "with its place"
    );
}

#[test]
fn otlp_protobuf_is_never_taken_for_anything_else() {
    use crate::scramble::Dice;
    let mut dice = Dice(1);
    for _ in 0..3_000 {
        let message = crate::otlp_files::request(&mut dice).encode_to_vec();
        assert!(is_otlp_proto(Encoding::Auto, &message), "{message:02x?}");
        assert!(is_otlp_proto(Encoding::OtlpProto, &message), "{message:02x?}");
    }
    for length in 0..400_usize {
        // Resources of any length, with a scope and a schema as long as IDs behind them.
        let resource = [&[0x0a, length.min(127) as u8][..], &vec![b'x'; length.min(127)]].concat();
        let inside = [resource.as_slice(), &[0x12, 8, 0x0a, 6, 0x0a, 4, 1, 2, 3, 4], &[0x1a, 8], b"12345678"].concat();
        let message = [&[0x0a, inside.len() as u8 | 0x80, (inside.len() >> 7) as u8][..], &inside].concat();
        assert!(is_otlp_proto(Encoding::Auto, &message), "{length}");
    }
}
