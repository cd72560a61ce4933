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
use spanmill::config::settings::{Dimension, FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue};
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
        ("dropped_edges_total", get(Tally::EdgesDroppedCounterpart)),
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

/// The variants of the service graphs.
fn graph_variants() -> [(&'static str, Config); 3] {
    let mut full = Config::default();
    let graphs = &mut full.service_graphs;
    graphs.bounds_ns = vec![40_000_000];
    graphs.dimensions = ["beast", "god"].map(|name| Dimension { name: name.to_owned(), default: None }).to_vec();
    let mut prefix = full.clone();
    let graphs = &mut full.service_graphs;
    (graphs.messaging_latency, graphs.connection_info) = (true, true);
    let graphs = &mut prefix.service_graphs;
    (graphs.client_server_prefix, graphs.virtual_node_label) = (true, true);
    [("default", Config::default()), ("full", full), ("prefix", prefix)]
}

/// The series of a service graph; that an edge is there counts once.
fn graph(totals: &Totals) -> BTreeMap<Series, f64> {
    let is_info = |series: &Series| series.name.ends_with("connection_info");
    let all = family(totals, "traces_service_graph_").into_iter();
    all.map(|(series, value)| if is_info(&series) { (series, value.min(1.0)) } else { (series, value) }).collect()
}

/// The tables of the written expectations for one file and variant, after the push and after expiry.
fn tables(text: &str, name: &str, variant: &str) -> Option<[BTreeMap<Series, f64>; 2]> {
    let section = text.split("\n### ").find(|section| section.starts_with(&format!("`{name}.json`\n\nVariant")))?;
    let part = section
        .split("\nVariant ")
        .chain(section.split("Variant ").nth(1))
        .find(|part| part.starts_with(&format!("`{variant}`")))?;
    let (pushed, expired) = match part.split_once("after expiry\n") {
        Some((pushed, expired)) => (pushed, expired),
        // Nothing changes when edges expire.
        None => (part, part),
    };
    Some([table(pushed), table(expired)])
}

/// One table: a row for each edge, a column for each metric.
fn table(text: &str) -> BTreeMap<Series, f64> {
    let metrics = ["request_total", "request_failed_total", "request_client_seconds_sum", "request_server_seconds_sum"];
    let mut out = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let labels = [("client", cells[0]), ("server", cells[1]), ("connection_type", cells[2])];
        let more = cells[3].split(", ").filter_map(|pair| pair.split_once('='));
        let labels = labels.into_iter().chain(more).filter(|(_, value)| *value != "(absent)");
        for (metric, value) in metrics.iter().zip(&cells[4..]).filter(|(_, value)| **value != "-") {
            let bare = Series { name: format!("traces_service_graph_{metric}"), labels: Vec::new() };
            let series = labels.clone().fold(bare, |series, (n, v)| series.with(n, v.trim_matches('`')));
            out.insert(series, value.parse().expect("a number"));
        }
    }
    out
}

/// A service graph of one file in every variant, against the dumps, or where there are none against the tables.
fn compare_graphs(dir: &Path, name: &str, json: &Value) -> usize {
    let written = std::fs::read_to_string(dir.join("EXPECTED.md")).expect("the written expectations");
    let mut values = 0;
    for (variant, config) in graph_variants() {
        let (pushed, expired, ledger) = run(json, &config);
        let tables = tables(&written, name, variant);
        for (i, (stage, totals)) in [("1-after-push", pushed), ("2-after-expiry", expired)].iter().enumerate() {
            let path = dir.join("expected/servicegraphs").join(format!("{name}.{variant}.{stage}.prom"));
            let what = format!("{name}.{variant}.{stage}");
            if path.is_file() {
                let (series, comments) = dump(&path);
                values += compare(&what, &graph(totals), &series);
                values += if i == 1 { compare_counters(&what, &comments, &ledger) } else { 0 };
            } else {
                let expected = &tables.as_ref().unwrap_or_else(|| panic!("{what}: neither a dump nor a table"))[i];
                let mut got = graph(totals);
                got.retain(|s, _| s.name.ends_with("_total") || s.name.ends_with("_sum"));
                values += compare(&what, &got, expected);
            }
        }
    }
    values
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

/// The edges of a trace after the push: `client>server`, and how many.
fn edges(json: &Value, config: &Config) -> BTreeMap<String, f64> {
    let (pushed, ..) = run(json, config);
    let values = family(&pushed, "traces_service_graph_request_total").into_iter();
    let name = |series: &Series, label: &str| {
        let found = series.labels.iter().find(|(name, _)| name == label);
        found.map(|(_, value)| value.trim_start_matches("mythical-").to_owned()).unwrap_or_default()
    };
    values.map(|(series, n)| (format!("{}>{}", name(&series, "client"), name(&series, "server")), n)).collect()
}

#[test]
fn tempos_filters_and_database_names_do_the_same_here() {
    let Some(dir) = files() else { return };
    let text = std::fs::read(dir.join("trace-with-queue-database.json")).expect("readable");
    let json: Value = serde_json::from_slice(&text).expect("JSON");
    let all = |database: &str, n: f64| -> BTreeMap<String, f64> {
        [("requester>server", n), ("requester>recorder", n), (database, n)].map(|(e, n)| (e.to_owned(), n)).into()
    };
    assert_eq!(edges(&json, &Config::default()), all("server>postgres", 1.0));

    let block = |service: &str| {
        let value = PolicyValue::Text(format!("mythical-{service}"));
        let attributes = vec![PolicyAttribute { key: "resource.service.name".to_owned(), value }];
        Some(PolicyMatch { match_type: MatchType::Strict, attributes })
    };
    let only_database = BTreeMap::from([("server>postgres".to_owned(), 1.0)]);
    let filters = [
        (block("requester"), None, BTreeMap::new()),
        (block("server"), None, only_database.clone()),
        (None, block("requester"), only_database),
    ];
    for (include, exclude, expected) in filters {
        let mut config = Config::default();
        config.service_graphs.filter_policies = vec![FilterPolicy { include, include_any: None, exclude }];
        assert_eq!(edges(&json, &config), expected, "{config:?}");
    }

    let mut config = Config::default();
    config.service_graphs.database_name_attributes = vec!["db.system".to_owned()];
    assert_eq!(edges(&json, &config), all("server>postgresql", 1.0));
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
        values += compare_graphs(&dir, &name, &json);
        let (pushed, ..) = run(&json, &Config::default());
        let expect =
            |kind: &str, variant: &str| dump(&dir.join("expected").join(kind).join(format!("{name}.{variant}.prom")));
        let (series, _) = expect("spanmetrics", "default");
        values += compare(&format!("{name} span metrics"), &family(&pushed, "traces_spanmetrics_"), &series);
        let (pushed, ..) = run(&json, &target_info());
        let (series, _) = expect("spanmetrics", "targetinfo");
        let mut got = family(&pushed, "traces_spanmetrics_");
        got.extend(family(&pushed, "traces_target_info"));
        values += compare(&format!("{name} with target info"), &got, &series);
        inputs += 1;
    }
    assert!(inputs > 0, "no trace files in {}", dir.display());
    println!("{values} values of {inputs} files are Tempo's");
}
