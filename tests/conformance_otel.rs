//! The Collector's own fixtures through the profile `otel`: what its servicegraph connector makes of a trace.
//!
//! The files lie beside the repository, in `../shared/conformance`, or where `TEST_CONFORMANCE` points; without them
//! there is nothing to compare and the tests pass.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Proto};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use saphyr::{LoadableYamlNode as _, Yaml};
use spanmill::config::Config;
use spanmill::config::settings::{Dimension, Profile};
use spanmill::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};
use spanmill::tasks::totals::{Series, Totals};

const TENANT: &str = "single-tenant";

/// The fixtures, or a note that there are none.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
fn fixtures() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance");
    #[allow(clippy::disallowed_methods, reason = "a test finds its data")]
    let root = std::env::var("TEST_CONFORMANCE").map_or_else(|_| beside(), PathBuf::from);
    let found = Some(root.join("otel/servicegraph")).filter(|dir| dir.is_dir());
    if found.is_none() {
        println!("skipped: there are no conformance files");
    }
    found
}

// === reading ===

fn items<'a, 'y>(node: &'a Yaml<'y>, key: &str) -> &'a [Yaml<'y>] {
    node.as_mapping_get(key).and_then(|node| node.as_sequence()).map_or(&[][..], Vec::as_slice)
}

fn text(node: &Yaml<'_>, key: &str) -> String {
    node.as_mapping_get(key).and_then(|node| node.as_str()).unwrap_or_default().to_owned()
}

/// A number, be it written as text.
fn number(node: &Yaml<'_>) -> f64 {
    let whole = node.as_integer().map(|n| n as f64);
    let parsed = || node.as_str().and_then(|text| text.parse().ok());
    whole.or_else(|| node.as_floating_point()).or_else(parsed).expect("a number")
}

fn nanoseconds(node: &Yaml<'_>, key: &str) -> u64 {
    text(node, key).parse().expect("a time")
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16).expect("hexadecimal") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

fn attributes(node: &Yaml<'_>) -> Vec<KeyValue> {
    let attribute = |node: &Yaml<'_>| {
        let value = text(node.as_mapping_get("value").expect("a value"), "stringValue");
        attribute(&text(node, "key"), &value)
    };
    items(node, "attributes").iter().map(attribute).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Proto::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn resource_spans(attributes: Vec<KeyValue>, spans: Vec<Span>) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

fn trace(text_of: &str) -> ExportTraceServiceRequest {
    let documents = Yaml::load_from_str(text_of).expect("it is YAML");
    let span = |node: &Yaml<'_>| Span {
        trace_id: hex(&text(node, "traceId")),
        span_id: hex(&text(node, "spanId")),
        parent_span_id: hex(&text(node, "parentSpanId")),
        kind: node.as_mapping_get("kind").map_or(0.0, number) as i32,
        start_time_unix_nano: nanoseconds(node, "startTimeUnixNano"),
        end_time_unix_nano: nanoseconds(node, "endTimeUnixNano"),
        attributes: attributes(node),
        ..Span::default()
    };
    let resource = |node: &Yaml<'_>| {
        let spans = items(node, "scopeSpans").iter().flat_map(|scope| items(scope, "spans")).map(span).collect();
        resource_spans(attributes(node.as_mapping_get("resource").expect("a resource")), spans)
    };
    ExportTraceServiceRequest { resource_spans: items(&documents[0], "resourceSpans").iter().map(resource).collect() }
}

/// The series that a file of expected metrics becomes in Prometheus.
fn expected(path: &Path) -> BTreeMap<Series, f64> {
    let text_of = std::fs::read_to_string(path).expect("a fixture");
    let documents = Yaml::load_from_str(&text_of).expect("it is YAML");
    let scopes = items(&documents[0], "resourceMetrics").iter().flat_map(|r| items(r, "scopeMetrics"));
    let mut out = BTreeMap::new();
    for metric in scopes.flat_map(|scope| items(scope, "metrics")) {
        let name = text(metric, "name");
        if let Some(sum) = metric.as_mapping_get("sum") {
            for point in items(sum, "dataPoints") {
                out.insert(series(&name, point), number(point.as_mapping_get("asInt").expect("a count")));
            }
        }
        if let Some(histogram) = metric.as_mapping_get("histogram") {
            // Older releases wrote the unit into the name themselves.
            let name = format!("{}_seconds", name.trim_end_matches("_seconds"));
            items(histogram, "dataPoints").iter().for_each(|point| put_histogram(&name, point, &mut out));
        }
    }
    out
}

/// Buckets that nothing has reached are left out.
fn put_histogram(name: &str, point: &Yaml<'_>, out: &mut BTreeMap<Series, f64>) {
    let bounds = items(point, "explicitBounds").iter().map(|bound| number(bound).to_string());
    let mut count = 0.0;
    for (le, bucket) in bounds.chain(["+Inf".to_owned()]).zip(items(point, "bucketCounts")) {
        count += number(bucket);
        if count > 0.0 {
            out.insert(series(&format!("{name}_bucket"), point).with("le", le), count);
        }
    }
    for part in ["count", "sum"] {
        out.insert(series(&format!("{name}_{part}"), point), number(point.as_mapping_get(part).expect("a number")));
    }
}

fn series(name: &str, point: &Yaml<'_>) -> Series {
    let bare = Series { name: name.to_owned(), labels: Vec::new() };
    items(point, "attributes").iter().fold(bare, |series, attribute| {
        let value = attribute.as_mapping_get("value").expect("a value");
        let flag = value.as_mapping_get("boolValue").and_then(Yaml::as_bool).map(|flag| flag.to_string());
        let value = flag.unwrap_or_else(|| text(value, "stringValue"));
        let name = text(attribute, "key").replace('.', "_");
        if value.is_empty() { series } else { series.with(&name, value) }
    })
}

// === running ===

fn config(bounds_ns: &[u64], dimensions: &[&str]) -> Config {
    let mut config = Config::default();
    config.naming.profile = Profile::Otel;
    config.span_metrics.enabled = false;
    let graphs = &mut config.service_graphs;
    graphs.bounds_ns = bounds_ns.to_vec();
    (graphs.virtual_node_label, graphs.client_server_prefix) = (true, true);
    // The Collector's defaults.
    graphs.database_name_attributes = vec!["db.name".to_owned()];
    graphs.peer_attributes = ["peer.service", "db.name", "db.system"].map(str::to_owned).to_vec();
    graphs.dimensions = dimensions.iter().map(|&name| Dimension { name: name.to_owned(), default: None }).collect();
    config
}

fn run(request: &ExportTraceServiceRequest, config: &Config) -> BTreeMap<Series, f64> {
    let settings = SpanSettings::from(config);
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
    let value = request.encode_to_vec();
    let record = Record { offset: 0, timestamp: 1_000, tenant: Some(TENANT), value: &value };
    assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    let mut totals = Totals::default();
    for cut in [task.tick(20_000), task.cut()].into_iter().flatten() {
        cut.shares.iter().flatten().for_each(|share| totals.add(share).expect("shares add up"));
    }
    assert_eq!((task.pending_edges(), task.ledger().pending_edges()), (0, 0));
    totals.values(TENANT)
}

fn compare(got: &BTreeMap<Series, f64>, expected: &BTreeMap<Series, f64>) {
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (series, value) in expected {
        assert!((got[series] - value).abs() <= 1e-12, "{series} is {}, the Collector says {value}", got[series]);
    }
}

#[test]
fn both_sides_show_their_dimensions_as_in_the_collector() {
    let Some(dir) = fixtures() else { return };
    let read = std::fs::read_to_string(dir.join("extra-dimensions-queue-db-trace.yaml")).expect("a trace");
    let config = config(&[100_000_000, 1_000_000_000, 10_000_000_000], &["db.system", "messaging.system"]);
    let got = run(&trace(&read), &config);
    compare(&got, &expected(&dir.join("extra-dimensions-queue-db-expected-metrics.yaml")));
}

#[test]
fn virtual_nodes_are_named_as_in_the_collector() {
    let Some(dir) = fixtures() else { return };
    let read = std::fs::read_to_string(dir.join("virtual-node-label-trace.yaml")).expect("a trace");
    let mut got = run(&trace(&read), &config(&[100_000_000, 1_000_000_000, 10_000_000_000], &["peer.service"]));
    // One file for each edge of the trace.
    let mut all = BTreeMap::new();
    for side in ["client", "server"] {
        all.extend(expected(&dir.join(format!("virtual-node-label-{side}-expected-metrics.yaml"))));
    }
    assert_eq!(got.len(), all.len());
    // The release that wrote these files had mixed up the sides: what the client took stands with the server.
    for values in [&mut got, &mut all] {
        let sums: f64 = values.iter().filter(|(s, _)| s.name.ends_with("_sum")).map(|(_, v)| v).sum();
        assert!((sums - 2e-6).abs() < 1e-12, "two spans of 1 us took {sums}");
        values.retain(|s, _| !s.name.ends_with("_sum"));
    }
    compare(&got, &all);
}

#[test]
fn failed_edges_have_a_label_as_in_the_collector() {
    let Some(dir) = fixtures() else { return };
    let mut request = ExportTraceServiceRequest::default();
    for (trace_id, code) in [(1, 0), (2, 0), (3, 2)] {
        let span = |kind, span_id: u8, parent: Vec<u8>| Span {
            trace_id: vec![trace_id; 16],
            span_id: vec![span_id; 8],
            parent_span_id: parent,
            kind,
            start_time_unix_nano: 5_000_000_000,
            end_time_unix_nano: 6_000_000_000,
            status: Some(Status { code, ..Status::default() }),
            ..Span::default()
        };
        let of = |service: &str, span| resource_spans(vec![attribute("service.name", service)], vec![span]);
        request.resource_spans.extend([of("foo", span(3, 1, Vec::new())), of("bar", span(2, 2, vec![1; 8]))]);
    }
    let ms = [2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1_000, 1_400, 2_000, 5_000, 10_000, 15_000];
    let got = run(&request, &config(&ms.map(|ms| ms * 1_000_000), &[]));
    compare(&got, &expected(&dir.join("failed-label-not-work-expect-metrics.yaml")));
}
