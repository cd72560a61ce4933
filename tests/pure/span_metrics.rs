//! What spans become with each setting of span metrics and host info, in the numbers that a span task hands on.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod target_info;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event};
use prost::Message as _;
use spanmill::config::{Config, Tenants};
use spanmill::core::model::{Counter, Ledger};
use spanmill::core::settings::{
    BucketSet, Dimension, DimensionMapping, FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue, Profile,
};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};
use spanmill::tools::totals::{Series, Totals};

const TENANT: &str = "single-tenant";
const CALLS: &str = "traces_spanmetrics_calls_total";
const SIZE: &str = "traces_spanmetrics_size_total";
const LATENCY: &str = "traces_spanmetrics_latency";
const EVENTS: &str = "traces_spanmetrics_events_total";
const TARGET: &str = "traces_target_info";
const SECOND: u64 = 1_000_000_000;

/// What came of some requests.
struct Outcome {
    values: BTreeMap<Series, f64>,
    ledger: Ledger,
}

impl Outcome {
    /// All series of a metric, as `{label=value ...} value`, without the labels of the ordinary span.
    fn of(&self, metric: &str) -> Vec<String> {
        let known =
            ["service=test-service", "span_name=test", "span_kind=SPAN_KIND_CLIENT", "status_code=STATUS_CODE_OK"];
        let line = |(series, value): (&Series, &f64)| {
            let labels = series.labels.iter().map(|(n, v)| format!("{n}={v}"));
            let labels: Vec<_> = labels.filter(|label| !known.contains(&label.as_str())).collect();
            format!("{{{}}} {value}", labels.join(" "))
        };
        self.values.iter().filter(|(series, _)| series.name == metric).map(line).collect()
    }
}

fn run(config: &Config, requests: &[ExportTraceServiceRequest]) -> Outcome {
    let settings = SpanSettings::from(config);
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
    for (offset, request) in (0..).zip(requests) {
        let value = request.encode_to_vec();
        let record = Record { offset, timestamp: 1_000, tenant: Some(TENANT), value: &value };
        assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    }
    let mut totals = Totals::default();
    for delta_record in task.cut().expect("something to cut").delta_records.iter().flatten() {
        totals.add(delta_record).expect("delta records add up");
    }
    assert_eq!(task.ledger().unaccounted_spans(), 0);
    Outcome { values: totals.values(TENANT), ledger: task.ledger().clone() }
}

fn config() -> Config {
    let mut config = Config::default();
    config.core.service_graphs.enabled = false;
    config.core.span_metrics.bounds_ns = vec![SECOND / 2, SECOND];
    config
}

fn any(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: any(Value::StringValue(value.to_owned())), ..KeyValue::default() }
}

fn texts(all: &[(&str, &str)]) -> Vec<KeyValue> {
    all.iter().map(|(key, value)| text(key, value)).collect()
}

/// A client's span named `test` that went well and took a second.
fn ordinary(attributes: &[(&str, &str)]) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        name: "test".to_owned(),
        kind: 3,
        start_time_unix_nano: SECOND,
        end_time_unix_nano: 2 * SECOND,
        attributes: texts(attributes),
        status: Some(Status { code: 1, message: "OK".to_owned() }),
        ..Span::default()
    }
}

fn request(resource: Vec<KeyValue>, spans: Vec<Span>) -> ExportTraceServiceRequest {
    scoped(resource, vec![(None, spans)])
}

fn scoped(
    attributes: Vec<KeyValue>,
    scopes: Vec<(Option<InstrumentationScope>, Vec<Span>)>,
) -> ExportTraceServiceRequest {
    let scope_spans = scopes.into_iter().map(|(scope, spans)| ScopeSpans { scope, spans, ..ScopeSpans::default() });
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource_spans = ResourceSpans { resource, scope_spans: scope_spans.collect(), ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

/// Ten ordinary spans of `test-service`.
fn ten(resource: &[(&str, &str)], attributes: &[(&str, &str)]) -> ExportTraceServiceRequest {
    request([texts(&[("service.name", "test-service")]), texts(resource)].concat(), vec![ordinary(attributes); 10])
}

fn dimensions(names: &[&str]) -> Vec<Dimension> {
    names.iter().map(|name| Dimension { or: Vec::new(), name: (*name).to_owned(), default: None }).collect()
}

fn mapping(name: &str, sources: &[&str], join: &str) -> DimensionMapping {
    let source_labels = sources.iter().map(|&source| source.to_owned()).collect();
    DimensionMapping { name: name.to_owned(), source_labels, join: join.to_owned() }
}

/// Everything as it is by default, and the resource as a series.
fn target_info() -> Config {
    let mut config = config();
    config.core.span_metrics.target_info = true;
    config
}

// === Calls, latency, size ===

#[test]
fn ten_spans_of_a_second_are_ten_calls_in_the_bucket_of_a_second() {
    let out = run(&config(), &[ten(&[], &[])]);
    assert_eq!(out.of(CALLS), ["{} 10"]);
    assert_eq!(out.of("traces_spanmetrics_latency_bucket"), ["{le=+Inf} 10", "{le=1} 10"]);
    assert_eq!(out.of("traces_spanmetrics_latency_count"), ["{} 10"]);
    assert_eq!(out.of("traces_spanmetrics_latency_sum"), ["{} 10"]);
    assert_eq!(out.of(SIZE), [format!("{{}} {}", 10 * ordinary(&[]).encoded_len())]);
}

#[test]
fn calls_latency_and_size_can_be_switched_off_one_by_one() {
    let metrics = |switch: fn(&mut Config)| {
        let mut config = config();
        switch(&mut config);
        let out = run(&config, &[ten(&[], &[])]);
        assert_eq!(out.ledger.get(Counter::SpansCounted), 10);
        [CALLS, SIZE, "traces_spanmetrics_latency_count"].map(|metric| !out.of(metric).is_empty())
    };
    assert_eq!(metrics(|config| config.core.span_metrics.calls = false), [false, true, true]);
    assert_eq!(metrics(|config| config.core.span_metrics.size = false), [true, false, true]);
    assert_eq!(metrics(|config| config.core.span_metrics.latency = false), [true, true, false]);
}

#[test]
fn a_span_that_ends_before_it_starts_took_no_time() {
    let span = Span { name: String::new(), start_time_unix_nano: 1, end_time_unix_nano: 0, ..Span::default() };
    let out = run(&config(), &[request(Vec::new(), vec![span])]);
    assert_eq!(out.of(CALLS), ["{span_kind=SPAN_KIND_UNSPECIFIED status_code=STATUS_CODE_UNSET} 1"]);
    let observed = out.values.iter().filter(|(s, _)| s.name.starts_with(LATENCY));
    let observed: Vec<_> = observed.map(|(s, v)| format!("{} {v}", s.name.trim_start_matches(LATENCY))).collect();
    assert_eq!(observed, ["_bucket 1", "_bucket 1", "_bucket 1", "_count 1", "_sum 0"]);
}

// === Dimensions ===

#[test]
fn an_attribute_becomes_a_label_with_a_legal_name_and_a_missing_one_none() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["foo", "bar-x", "spaced out", "does-not-exist", "none.at_all"]);
    config.core.span_metrics.intrinsic.span_kind = false;
    config.core.span_metrics.intrinsic.status_message = true;
    let out = run(&config, &[ten(&[], &[("foo", "foo-value"), ("bar-x", "bar-value"), ("spaced out", "")])]);
    assert_eq!(out.of(CALLS), ["{bar_x=bar-value foo=foo-value status_message=OK} 10"]);
}

#[test]
fn a_dimension_named_like_a_built_in_label_gets_underscores_in_front() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["span.kind", "span_name"]);
    config.core.span_metrics.intrinsic.span_kind = false;
    let out = run(&config, &[ten(&[], &[("span.kind", "colliding_kind"), ("span_name", "colliding_name")])]);
    assert_eq!(out.of(CALLS), ["{__span_kind=colliding_kind __span_name=colliding_name} 10"]);
}

#[test]
fn the_resource_comes_before_the_span_even_when_it_is_empty() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["a", "b"]);
    let out = run(&config, &[ten(&[("a", "of-resource"), ("b", "")], &[("a", "of-span"), ("b", "of-span")])]);
    assert_eq!(out.of(CALLS), ["{a=of-resource} 10"]);
}

#[test]
fn the_first_of_two_equal_keys_counts() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["a"]);
    let out = run(&config, &[ten(&[], &[("a", "first"), ("a", "second")])]);
    assert_eq!(out.of(CALLS), ["{a=first} 10"]);
}

#[test]
fn a_default_stands_in_for_a_missing_attribute_but_not_for_an_empty_one() {
    let mut config = config();
    config.core.span_metrics.dimensions =
        vec![Dimension { or: Vec::new(), name: "method".into(), default: Some("GET".into()) }];
    let spans = [&[][..], &[("method", "")], &[("method", "GET")], &[("method", "POST")]];
    let out = run(&config, &spans.map(|attributes| ten(&[], attributes)));
    assert_eq!(out.of(CALLS), ["{method=GET} 20", "{method=POST} 10", "{} 10"]);
}

#[test]
fn values_of_all_types_become_text() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["v"]);
    let spans =
        [Value::IntValue(-7), Value::BoolValue(true), Value::DoubleValue(1e21), Value::StringValue("-7".into())];
    let spans = spans.map(|value| {
        let attribute = KeyValue { key: "v".into(), value: any(value), ..KeyValue::default() };
        Span { attributes: vec![attribute], ..ordinary(&[]) }
    });
    let out = run(&config, &[request(texts(&[("service.name", "test-service")]), spans.to_vec())]);
    assert_eq!(out.of(CALLS), ["{v=-7} 2", "{v=1000000000000000000000} 1", "{v=true} 1"]);
}

#[test]
fn a_missing_dimension_and_its_neighbor_are_never_mistaken_for_each_other() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["a", "b"]);
    let out = run(&config, &[ten(&[], &[("a", "x")]), ten(&[], &[("b", "x")]), ten(&[], &[("a", "x"), ("b", "")])]);
    assert_eq!(out.of(CALLS), ["{a=x} 20", "{b=x} 10"]);
}

#[test]
fn text_that_is_not_utf8_in_a_dimension_drops_the_span() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["a"]);
    let mut bytes = ten(&[], &[("a", "MARK")]).encode_to_vec();
    while let Some(at) = bytes.windows(4).position(|w| w == b"MARK") {
        bytes[at] = 0xff;
    }
    let mut task = SpanTask::new(&SpanSettings::from(&config), "spans".into(), 0, Restored::default()).expect("starts");
    let record = Record { offset: 0, timestamp: 1_000, tenant: Some(TENANT), value: &bytes };
    assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    assert_eq!(task.ledger().get(Counter::SpansDroppedInvalidUtf8), 10);
    assert_eq!(task.label_sets(), 0);
}

#[test]
fn calls_and_latency_can_have_different_dimensions() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["both"]);
    config.core.span_metrics.calls_dimensions = dimensions(&["of_calls"]);
    config.core.span_metrics.latency_dimensions = dimensions(&["of_latency"]);
    let out = run(&config, &[ten(&[], &[("both", "b"), ("of_calls", "c"), ("of_latency", "l")]), ten(&[], &[])]);
    assert_eq!(out.of(CALLS), ["{both=b of_calls=c} 10", "{} 10"]);
    assert_eq!(out.of(SIZE).len(), 2);
    assert_eq!(out.of("traces_spanmetrics_latency_count"), ["{both=b of_latency=l} 10", "{} 10"]);
}

#[test]
fn a_span_that_is_dropped_for_its_latency_counts_nowhere() {
    let mut config = config();
    config.core.span_metrics.latency_dimensions = dimensions(&["a"]);
    let mut bytes = ten(&[], &[("a", "MARK")]).encode_to_vec();
    while let Some(at) = bytes.windows(4).position(|w| w == b"MARK") {
        bytes[at] = 0xff;
    }
    let mut task = SpanTask::new(&SpanSettings::from(&config), "spans".into(), 0, Restored::default()).expect("starts");
    let record = Record { offset: 0, timestamp: 1_000, tenant: Some(TENANT), value: &bytes };
    assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    let mut totals = Totals::default();
    for delta_record in task.cut().expect("a cut").delta_records.iter().flatten() {
        totals.add(delta_record).expect("delta records add up");
    }
    assert_eq!(totals.values(TENANT), BTreeMap::new());
    assert_eq!(task.ledger().get(Counter::SpansDroppedInvalidUtf8), 10);
}

#[test]
fn labels_are_cut_by_the_limits_of_the_tenant() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["very_lengthy_label"]);
    config.core.span_metrics.intrinsic.service = false;
    config.core.span_metrics.intrinsic.span_kind = false;
    config.core.span_metrics.intrinsic.status_code = false;
    (config.core.limits.max_label_name_length, config.core.limits.max_label_value_length) = (9, 5);
    let out = run(&config, &[ten(&[], &[("very_lengthy_label", "very_l"), ("x", "")])]);
    assert_eq!(out.of(CALLS), ["{very_leng=very_} 10"]);
}

// === Mappings ===

#[test]
fn a_mapping_joins_attributes_and_skips_those_that_are_empty_or_missing() {
    let mut config = config();
    config.core.span_metrics.dimension_mappings = vec![mapping("foo.bar", &["foo", "bar", "baz"], "->")];
    let spans = [
        &[("foo", "f"), ("bar", "b"), ("baz", "z")][..],
        &[("bar", "b")],
        &[("foo", "f"), ("bar", ""), ("baz", "z")],
        &[],
    ];
    let out = run(&config, &spans.map(|attributes| ten(&[], attributes)));
    assert_eq!(out.of(CALLS), ["{foo_bar=b} 10", "{foo_bar=f->b->z} 10", "{foo_bar=f->z} 10", "{} 10"]);
}

#[test]
fn sources_of_a_mapping_come_from_the_resource_and_from_the_span() {
    let mut config = config();
    config.core.span_metrics.dimension_mappings = vec![mapping("where", &["region", "zone"], "/")];
    let out = run(&config, &[ten(&[("region", "eu")], &[("zone", "1"), ("region", "us")])]);
    assert_eq!(out.of(CALLS), ["{where=eu/1} 10"]);
}

// === Scopes ===

#[test]
fn listed_scopes_become_labels_and_keep_spans_apart() {
    let mut config = config();
    config.core.span_metrics.scopes = vec!["jdbc".into(), "http".into()];
    let scope = |name: &str, version: &str| {
        Some(InstrumentationScope { name: name.into(), version: version.into(), ..InstrumentationScope::default() })
    };
    let block = |scope| (scope, vec![ordinary(&[])]);
    let scopes = vec![block(scope("jdbc", "1.0")), block(scope("http", "")), block(scope("other", "9")), block(None)];
    let out = run(&config, &[scoped(texts(&[("service.name", "test-service")]), scopes)]);
    let (name, version) = ("span_instrumentation_scope_name", "span_instrumentation_scope_version");
    assert_eq!(
        out.of(CALLS),
        [format!("{{{name}=http}} 1"), format!("{{{name}=jdbc {version}=1.0}} 1"), "{} 2".into()]
    );
}

// === Events ===

fn event(name: &str, attributes: &[(&str, &str)]) -> Event {
    Event { name: name.into(), attributes: texts(attributes), ..Event::default() }
}

#[test]
fn events_are_counted_with_their_own_dimensions() {
    let mut config = config();
    config.core.span_metrics.events = true;
    config.core.span_metrics.dimensions = dimensions(&["d"]);
    config.core.span_metrics.calls_dimensions = dimensions(&["c"]);
    let kind = Dimension { or: Vec::new(), name: "exception.type".into(), default: Some("none".into()) };
    config.core.span_metrics.event_dimensions =
        vec![Dimension { or: Vec::new(), name: "event.name".into(), default: None }, kind];
    let events = vec![event("exception", &[("exception.type", "IO")]), event("exception", &[]), event("log", &[])];
    let span = Span { events, ..ordinary(&[("d", "1"), ("c", "2")]) };
    let fallback = Span { events: vec![event("log", &[])], ..ordinary(&[("exception.type", "of-span")]) };
    let out = run(&config, &[request(texts(&[("service.name", "test-service")]), vec![span, fallback])]);
    assert_eq!(
        out.of(EVENTS),
        [
            "{d=1 event_name=exception exception_type=IO} 1",
            "{d=1 event_name=exception exception_type=none} 1",
            "{d=1 event_name=log exception_type=none} 1",
            "{event_name=log exception_type=of-span} 1",
        ]
    );
    assert_eq!(out.of(CALLS).len(), 2);
    assert_eq!(out.ledger.get(Counter::SpanEventsCounted), 4);
}

#[test]
fn an_event_knows_better_than_its_span() {
    let mut config = config();
    config.core.span_metrics.events = true;
    config.core.span_metrics.event_dimensions = dimensions(&["type"]);
    let span = Span { events: vec![event("e", &[("type", "of-event")])], ..ordinary(&[("type", "of-span")]) };
    let out = run(&config, &[request(texts(&[("service.name", "test-service")]), vec![span])]);
    assert_eq!(out.of(EVENTS), ["{type=of-event} 1"]);
}

#[test]
fn without_the_switch_there_are_no_events() {
    let span = Span { events: vec![event("e", &[])], ..ordinary(&[]) };
    let out = run(&config(), &[request(Vec::new(), vec![span])]);
    assert_eq!(out.of(EVENTS), Vec::<String>::new());
}

// === Bucket sets ===

#[test]
fn the_first_bucket_set_that_fits_service_and_kind_is_taken() {
    let mut config = config();
    let set = |services: &[&str], kinds: &[&str], bound: u64| BucketSet {
        services: services.iter().map(|&s| s.to_owned()).collect(),
        kinds: kinds.iter().map(|&s| s.to_owned()).collect(),
        bounds_ns: vec![bound * SECOND],
    };
    config.core.span_metrics.bucket_sets = vec![
        set(&["other"], &[], 2),
        set(&["test-service"], &["SPAN_KIND_SERVER"], 3),
        set(&[], &["SPAN_KIND_SERVER", "SPAN_KIND_CLIENT"], 4),
        set(&["test-service"], &[], 5),
    ];
    let of_kind = |kind| Span { kind, ..ordinary(&[]) };
    let spans = [2, 3, 1, 77].map(of_kind).to_vec();
    let named = |name: &str| texts(&[("service.name", name)]);
    let out = run(&config, &[request(named("test-service"), spans.clone()), request(named("other"), spans)]);
    let bound = |service: &str, kind: &str| {
        let find = |(series, _): &(&Series, &f64)| {
            let has = |n: &str, v: &str| series.labels.iter().any(|(name, value)| name == n && value == v);
            series.name.ends_with("_bucket") && has("service", service) && has("span_kind", kind) && !has("le", "+Inf")
        };
        let (series, _) = out.values.iter().find(find).expect("a finite bucket");
        series.labels.iter().find(|(name, _)| name == "le").map(|(_, le)| le.clone()).unwrap_or_default()
    };
    let kinds = ["SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_INTERNAL", "77"];
    assert_eq!(kinds.map(|kind| bound("test-service", kind)), ["3", "4", "5", "5"]);
    assert_eq!(kinds.map(|kind| bound("other", kind)), ["2", "2", "2", "2"]);
}

// === Exemplars of counters, native histograms ===

#[test]
fn counters_have_exemplars_only_when_they_are_asked_for() {
    let mut config = config();
    config.core.span_metrics.events = true;
    config.core.span_metrics.event_dimensions = dimensions(&["event.name"]);
    let span = Span { events: vec![event("e", &[])], ..ordinary(&[]) };
    let value = request(Vec::new(), vec![span]).encode_to_vec();
    let mut with_exemplars = |on_counters| {
        config.core.series.exemplars_on_counters = on_counters;
        let settings = SpanSettings::from(&config);
        let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
        let record = Record { offset: 0, timestamp: 1_000, tenant: Some(TENANT), value: &value };
        assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
        let mut totals = Totals::default();
        for delta_record in task.cut().expect("something to cut").delta_records.iter().flatten() {
            totals.add(delta_record).expect("delta records add up");
        }
        totals.exemplars(TENANT).into_keys().map(|series| series.name).collect::<Vec<_>>()
    };
    assert_eq!(with_exemplars(false), ["traces_spanmetrics_latency_bucket"]);
    assert_eq!(with_exemplars(true), [CALLS, EVENTS, "traces_spanmetrics_latency_bucket"]);
}

// === The Collector's names ===

#[test]
fn the_otel_profile_names_the_service_its_way_and_looks_at_the_span_first() {
    let mut config = config();
    config.core.naming.profile = Profile::Otel;
    config.core.span_metrics.dimensions = dimensions(&["a", "service"]);
    let out = run(&config, &[ten(&[("a", "of-resource"), ("service", "x")], &[("a", "of-span")])]);
    let labels: Vec<_> = out.values.keys().map(|series| series.labels.clone()).collect();
    let label = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    let expected = [
        label("a", "of-span"),
        label("service", "x"),
        label("service_name", "test-service"),
        label("span_kind", "SPAN_KIND_CLIENT"),
        label("span_name", "test"),
        label("status_code", "STATUS_CODE_OK"),
    ];
    assert!(labels.contains(&expected.to_vec()), "{labels:?}");
    assert_eq!(out.of("traces_span_metrics_calls_total").len(), 1);
    let sum = out.values.iter().find(|(s, _)| s.name == "traces_span_metrics_duration_milliseconds_sum");
    assert_eq!(sum.map(|(_, milliseconds)| format!("{milliseconds}")), Some("10000".to_owned()));
}

// === Tenants ===

#[test]
fn each_tenant_has_its_own_labels() {
    let mut other = config();
    other.core.span_metrics.dimensions = dimensions(&["a"]);
    other.core.span_metrics.latency = false;
    let overridden = BTreeMap::from([("other".to_owned(), Arc::new(other))]);
    let settings = SpanSettings::from(&Tenants::new(Arc::new(config()), overridden));
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
    let value = ten(&[], &[("a", "x")]).encode_to_vec();
    for (offset, tenant) in (0..).zip(["one", "other", "one", "two"]) {
        let record = Record { offset, timestamp: 1_000, tenant: Some(tenant), value: &value };
        assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    }
    let mut totals = Totals::default();
    for delta_record in task.cut().expect("something to cut").delta_records.iter().flatten() {
        totals.add(delta_record).expect("delta records add up");
    }
    let of = |tenant| Outcome { values: totals.values(tenant), ledger: Ledger::default() };
    assert_eq!(of("one").of(CALLS), ["{} 20"]);
    assert_eq!(of("two").of(CALLS), ["{} 10"]);
    assert_eq!(of("other").of(CALLS), ["{a=x} 10"]);
    assert_eq!(of("other").of("traces_spanmetrics_latency_count"), Vec::<String>::new());
}

// === Host info ===

fn hosts(identifiers: &[&str], resource: &[KeyValue]) -> Vec<String> {
    let mut config = config();
    config.core.host_info.enabled = true;
    config.core.host_info.host_identifiers = identifiers.iter().map(|&i| i.to_owned()).collect();
    config.core.span_metrics.enabled = false;
    run(&config, &[request(resource.to_vec(), vec![ordinary(&[])])]).of("traces_host_info")
}

#[test]
fn the_first_identifier_that_has_a_text_names_the_host() {
    let resource = texts(&[("host.id", "h-1"), ("k8s.node.name", "n-1")]);
    let both = ["k8s.node.name", "host.id"];
    assert_eq!(hosts(&both, &resource), ["{grafana_host_id=n-1 host_source=k8s.node.name} 1"]);
    assert_eq!(hosts(&both[1..], &resource), ["{grafana_host_id=h-1 host_source=host.id} 1"]);
    let empty = texts(&[("k8s.node.name", ""), ("k8s.node.name", "second"), ("host.id", "h-1")]);
    assert_eq!(hosts(&both, &empty), ["{grafana_host_id=second host_source=k8s.node.name} 1"]);
}

#[test]
fn a_number_names_no_host() {
    let number = KeyValue { key: "host.id".into(), value: any(Value::IntValue(7)), ..KeyValue::default() };
    assert_eq!(hosts(&["host.id"], &[number]), Vec::<String>::new());
}

#[test]
fn host_info_is_off_unless_it_is_switched_on() {
    let out = run(&config(), &[ten(&[("host.id", "h-1")], &[])]);
    assert_eq!(out.of("traces_host_info"), Vec::<String>::new());
    assert_eq!(out.of(LATENCY), Vec::<String>::new(), "a classic histogram has no series without a suffix");
}

/// An attribute of every type, as dimension `v` of a span, as `Value.AsString` of the Collector and as Tempo write it.
#[test]
fn values_of_every_type_are_written_as_tempo_and_as_the_collector_write_them() {
    let list = |values: &[&str]| {
        let values = values.iter().map(|value| AnyValue { value: Some(Value::StringValue((*value).into())) });
        Value::ArrayValue(ArrayValue { values: values.collect() })
    };
    let map = Value::KvlistValue(KeyValueList {
        values: vec![
            text("k", "x"),
            KeyValue { key: "n".into(), value: any(Value::IntValue(1)), ..KeyValue::default() },
        ],
    });
    for (value, tempo, otel) in [
        (Value::IntValue(42), "42", "42"),
        (Value::BoolValue(true), "true", "true"),
        (Value::DoubleValue(1e21), "1000000000000000000000", "1e+21"),
        (Value::DoubleValue(0.1), "0.1", "0.1"),
        (list(&["a", "b"]), "[ab]", r#"["a","b"]"#),
        (list(&[]), "[]", "[]"),
        (map, "{k:xn:1}", r#"{"k":"x","n":1}"#),
        (Value::BytesValue(vec![1, 2, 3]), "", "AQID"),
    ] {
        for (profile, expected) in [(Profile::Tempo, tempo), (Profile::Otel, otel)] {
            let mut config = config();
            config.core.naming.profile = profile;
            config.core.span_metrics.dimensions = dimensions(&["v"]);
            let attribute = KeyValue { key: "v".into(), value: any(value.clone()), ..KeyValue::default() };
            let span = Span { attributes: vec![attribute], ..ordinary(&[]) };
            let out = run(&config, &[request(texts(&[("service.name", "test-service")]), vec![span])]);
            let series = out.values.keys().find(|series| series.name.ends_with("_calls_total")).expect("a series");
            let found = series.labels.iter().find(|(name, _)| name == "v").map_or("", |(_, value)| value.as_str());
            assert_eq!(found, expected, "{value:?} in {profile:?}");
        }
    }
}
