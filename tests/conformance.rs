//! Tempo's own trace files through the span task, value by value against what Tempo made of them.
//!
//! The files lie beside the repository, in `../shared/conformance`, or where `TEST_CONFORMANCE` points; without them
//! there is nothing to compare and the test passes.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Proto};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use serde_json::Value;
use spanmill::config::Config;
use spanmill::config::settings::Dimension;
use spanmill::model::{Ledger, Tally};
use spanmill::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use spanmill::tasks::totals::{Series, Totals};

const TENANT: &str = "single-tenant";

fn files() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance");
    #[allow(clippy::disallowed_methods, reason = "a test finds its data")]
    let root = std::env::var("TEST_CONFORMANCE").map_or_else(|_| beside(), PathBuf::from);
    Some(root.join("tempo")).filter(|dir| dir.is_dir())
}

fn base64(text: &Value) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for c in text.as_str().unwrap_or_default().bytes().filter(|&c| c != b'=') {
        bits = bits << 6 | ALPHABET.iter().position(|&a| a == c).expect("base64") as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| text(value).parse().expect("a number"))
}

fn attributes(of: &Value) -> Vec<KeyValue> {
    let any = |v: &Value| {
        let value = match v.as_object().and_then(|o| o.iter().next()) {
            Some((k, v)) if k == "stringValue" => Some(Proto::StringValue(text(v))),
            Some((k, v)) if k == "intValue" => Some(Proto::IntValue(number(v).cast_signed())),
            other => panic!("unexpected attribute value {other:?}"),
        };
        AnyValue { value }
    };
    list(of, "attributes")
        .map(|a| KeyValue { key: text(&a["key"]), value: Some(any(&a["value"])), ..KeyValue::default() })
        .collect()
}

fn span(of: &Value) -> Span {
    let kinds = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
    let codes = ["UNSET", "OK", "ERROR"];
    let named = |names: &[&str], prefix: &str, value: &Value| {
        let name = text(value);
        names.iter().position(|n| name.strip_prefix(prefix) == Some(*n)).unwrap_or(0) as i32
    };
    Span {
        trace_id: base64(&of["traceId"]),
        span_id: base64(&of["spanId"]),
        parent_span_id: base64(&of["parentSpanId"]),
        name: text(&of["name"]),
        kind: named(&kinds, "SPAN_KIND_", &of["kind"]),
        start_time_unix_nano: number(&of["startTimeUnixNano"]),
        end_time_unix_nano: number(&of["endTimeUnixNano"]),
        attributes: attributes(of),
        status: of
            .get("status")
            .map(|s| Status { code: named(&codes, "STATUS_CODE_", &s["code"]), message: text(&s["message"]) }),
        ..Span::default()
    }
}

fn request(file: &Value) -> ExportTraceServiceRequest {
    let scope = |s: &Value| ScopeSpans { spans: list(s, "spans").map(span).collect(), ..ScopeSpans::default() };
    let resource_spans = list(file, "resourceSpans").map(|r| ResourceSpans {
        resource: r.get("resource").map(|r| Resource { attributes: attributes(r), ..Resource::default() }),
        scope_spans: list(r, "scopeSpans").map(scope).collect(),
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

/// The values after the push and after expiry, and the ledger at the end.
fn run(file: &Value, config: &Config) -> (Totals, Totals, Ledger) {
    let settings = SpanSettings::from(config);
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
    let value = request(file).encode_to_vec();
    let record = Record { offset: 0, timestamp: 1_000, tenant: Some(TENANT), value: &value };
    assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    let mut totals = Totals::default();
    let mut add = |cut: Option<StepCut>| {
        for share in cut.expect("something to cut").shares.iter().flatten() {
            totals.add(share).expect("shares add up");
        }
        totals.clone()
    };
    let pushed = add(task.cut());
    add(task.tick(20_000));
    let expired = task.cut().map_or_else(|| pushed.clone(), |cut| add(Some(cut)));
    assert_eq!(task.pending_edges(), 0);
    assert_eq!((task.ledger().unaccounted_spans(), task.ledger().pending_edges()), (0, 0));
    (pushed, expired, task.ledger().clone())
}

/// The series of a dump, and the lines that start with `#`.
fn dump(path: &Path) -> (BTreeMap<Series, f64>, Vec<String>) {
    let text = std::fs::read_to_string(path).expect("a dump");
    let (comments, series): (Vec<_>, Vec<_>) =
        text.lines().filter(|l| !l.trim().is_empty()).partition(|l| l.starts_with('#'));
    let parse = |line: &str| {
        let (key, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = key.split_once('{').expect("labels");
        let labels = labels.trim_end_matches('}').split("\", ").map(|l| l.split_once("=\"").expect("a label"));
        let bare = Series { name: name.to_owned(), labels: Vec::new() };
        let series = labels.fold(bare, |series, (n, v)| series.with(n, v.trim_end_matches('"')));
        (series, value.parse().expect("a number"))
    };
    (series.into_iter().map(parse).collect(), comments.into_iter().map(str::to_owned).collect())
}

fn compare(what: &str, got: &BTreeMap<Series, f64>, expected: &BTreeMap<Series, f64>) -> usize {
    for (key, value) in expected {
        let found = got.get(key).unwrap_or_else(|| panic!("{what}: no {key}"));
        assert!((found - value).abs() <= 1e-12, "{what}: {key} is {found}, Tempo says {value}");
    }
    for key in got.keys() {
        assert!(expected.contains_key(key), "{what}: {key} is not in the dump");
    }
    expected.len()
}

fn family(totals: &Totals, prefix: &str) -> BTreeMap<Series, f64> {
    totals.values(TENANT).into_iter().filter(|(series, _)| series.name.starts_with(prefix)).collect()
}

/// Tempo counts as an edge what was stored or complete at once; what did not fit is a dropped span there.
fn compare_counters(what: &str, comments: &[String], ledger: &Ledger) -> usize {
    let get = |tally| ledger.get(tally);
    let known = [
        ("edges", get(Tally::EdgesOpened) - get(Tally::EdgesDroppedFull)),
        ("dropped_spans", get(Tally::EdgesDroppedFull)),
        ("dropped_edges_total", 0),
        ("expired_edges{unmatched_span_kind=\"SPAN_KIND_CLIENT\"}", get(Tally::EdgesExpiredClient)),
        ("expired_edges{unmatched_span_kind=\"SPAN_KIND_SERVER\"}", get(Tally::EdgesExpiredServer)),
        ("expired_edges{unmatched_span_kind=\"SPAN_KIND_PRODUCER\"}", get(Tally::EdgesExpiredProducer)),
        ("expired_edges{unmatched_span_kind=\"SPAN_KIND_CONSUMER\"}", get(Tally::EdgesExpiredConsumer)),
    ];
    for (name, value) in known {
        let line = format!("# {name} {value}");
        assert!(comments.contains(&line), "{what}: {line} is not among {comments:?}");
    }
    known.len()
}

/// The variant `targetinfo` of the span metrics.
fn target_info() -> Config {
    let mut config = Config::default();
    config.span_metrics.target_info = true;
    config.span_metrics.bounds_ns = vec![40_000_000];
    config.span_metrics.dimensions =
        ["beast", "god"].map(|name| Dimension { name: name.to_owned(), default: None }).to_vec();
    config
}

#[test]
fn the_trace_files_give_the_values_that_tempo_gives() {
    let Some(dir) = files() else {
        println!("skipped: there are no conformance files");
        return;
    };
    let (mut inputs, mut values) = (0, 0);
    for entry in std::fs::read_dir(&dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let json: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
        let (pushed, expired, ledger) = run(&json, &Config::default());
        let expect =
            |kind: &str, variant: &str| dump(&dir.join("expected").join(kind).join(format!("{name}.{variant}.prom")));
        let stages =
            [("servicegraphs", "default.1-after-push", &pushed), ("servicegraphs", "default.2-after-expiry", &expired)];
        for (kind, variant, totals) in stages {
            let (series, comments) = expect(kind, variant);
            values += compare(&format!("{name}.{variant}"), &family(totals, "traces_service_graph_"), &series);
            if variant.ends_with("expiry") {
                values += compare_counters(&name, &comments, &ledger);
            }
        }
        let (series, _) = expect("spanmetrics", "default");
        values += compare(&format!("{name} span metrics"), &family(&pushed, "traces_spanmetrics_"), &series);
        let (pushed, ..) = run(&json, &target_info());
        let (series, _) = expect("spanmetrics", "targetinfo");
        let mut got = family(&pushed, "traces_spanmetrics_");
        got.extend(family(&pushed, "traces_target_info").into_iter().map(|(s, v)| (s, v.min(1.0))));
        values += compare(&format!("{name} with target info"), &got, &series);
        inputs += 1;
    }
    assert!(inputs > 0, "no trace files in {}", dir.display());
    println!("{values} values of {inputs} files are Tempo's");
}
