//! No span costs an allocation once its label set is known, whatever is switched on; and what a label set takes in memory.
//!
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod adversarial;
#[path = "../support/adversary.rs"]
mod adversary;
#[path = "../support/allocator.rs"]
mod allocator;
mod shard;

use allocator::{allocations, held};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message as _;
use spanmill::config::settings::{Config, TenantSource};
use spanmill::core::model::Counter;
use spanmill::core::settings::{
    Ancestors, AttributeMetric, AttributeMetricKind, BucketSet, Dimension, DimensionMapping, FilterPolicy,
    HistogramMode, MatchType, MetricValue, PolicyAttribute, PolicyMatch, PolicyValue, SanitizeMode, ServiceNamespace,
    Slo, SloSubject, SpanNameRule, TimeSource, ValueScope,
};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};

/// The start of a step, in milliseconds.
const START: i64 = 15_000 * 1_000;
/// Every record comes so much later than the one before; all of them fit into one step.
const PACE: i64 = 2;
const WARM_UP: u64 = 2_500;
/// The first records come at once, so that more halves wait than ever after: later, no table of them has to grow.
const BURST: u64 = 1_500;
const MEASURED: u64 = 2_000;
const SPANS_PER_RECORD: u64 = 8;

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A span of trace `trace`. Everything that makes labels repeats after a few records; names, IDs and times do not.
fn a_span(trace: u64, id: u8, parent: u8, kind: span::SpanKind) -> Span {
    // All of them come while warming up, so that no memory of names has to grow later.
    let user = trace % 1_500;
    let start = time_of(trace) as u64 * 1_000_000;
    let bytes = |id: u8| if id == 0 { Vec::new() } else { vec![id; 8] };
    let event = span::Event {
        time_unix_nano: start,
        name: "exception".into(),
        attributes: vec![text("exception.type", ["Timeout", "Refused"][(trace % 2) as usize])],
        ..span::Event::default()
    };
    let link = span::Link { trace_id: trace_id(trace), span_id: vec![3; 8], ..span::Link::default() };
    Span {
        trace_id: trace_id(trace),
        span_id: bytes(id),
        parent_span_id: bytes(parent),
        trace_state: ["", "ot=th:8", "v=1,ot=th:4;rv:00112233445566"][(trace % 3) as usize].into(),
        name: [format!("GET /users/{user}/cart"), format!("put {user}")][usize::from(id) % 2].clone(),
        kind: kind as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start + [1_000_000, 30_000_000, 20_000_000_000][(trace % 3) as usize],
        attributes: vec![
            text("region", ["north", "south"][(trace % 2) as usize]),
            attribute("http.status_code", Value::IntValue(if trace.is_multiple_of(5) { 500 } else { 200 })),
            attribute("share", Value::DoubleValue(0.25)),
            attribute("cached", Value::BoolValue(trace.is_multiple_of(2))),
            text("request.id", format!("{trace:032x}")),
        ],
        events: vec![event],
        links: if kind == span::SpanKind::Consumer { vec![link] } else { Vec::new() },
        status: Some(Status { code: (trace % 3) as i32, message: String::new() }),
        ..Span::default()
    }
}

/// When record `n` comes, whose spans begin then.
fn time_of(n: u64) -> i64 {
    START + n.saturating_sub(BURST) as i64 * PACE
}

/// IDs are as random as real ones, or a map that grows by hash would see no ordinary load.
fn trace_id(trace: u64) -> Vec<u8> {
    let high = (trace + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [high.to_be_bytes(), trace.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()].concat()
}

fn block(service: &str, spans: Vec<Span>) -> ResourceSpans {
    let attributes = vec![
        text("service.name", service),
        text("service.namespace", "shop"),
        text("service.instance.id", format!("{service}-1")),
        text("host.id", "h1"),
        text("cluster-id", "c1"),
        text("tenant.id", "one"),
    ];
    let scope = Some(InstrumentationScope { name: "lib-a".into(), version: "1".into(), ..Default::default() });
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

/// One half of two traces each: pairs meet within a record and across records, and some halves never meet.
fn record(trace: u64) -> Vec<u8> {
    use span::SpanKind::{Client, Consumer, Internal, Producer, Server};
    let mut lone = a_span(trace, 7, 1, Client);
    lone.attributes.push(text("peer.service", "mail"));
    let mut query = a_span(trace, 8, 1, Client);
    query.attributes.extend([text("db.system", "postgresql"), text("server.address", "db-1")]);
    // The answer to the client of the record before comes with this one.
    let answer = a_span(trace.saturating_sub(1), 3, 2, Server);
    let web =
        vec![a_span(trace, 2, 1, Client), a_span(trace, 4, 1, Producer), a_span(trace, 1, 0, Server), lone, query];
    let cart = vec![answer, a_span(trace, 5, 4, Consumer), a_span(trace, 6, 5, Internal)];
    ExportTraceServiceRequest { resource_spans: vec![block("web", web), block("cart", cart)] }.encode_to_vec()
}

/// Runs records through a span task and returns how often the last of them allocated, and how many spans were counted.
fn measure(config: &Config) -> (u64, SpanTask) {
    let settings = SpanSettings::from(config);
    let mut task = SpanTask::new(&settings, "t".into(), 0, Restored::default()).expect("an empty journal");
    let values: Vec<_> = (0..WARM_UP + MEASURED).map(record).collect();
    let mut offer = |n: u64| {
        let timestamp = time_of(n);
        let record = Record { offset: n as i64, timestamp, tenant: Some("one"), value: &values[n as usize] };
        assert!(matches!(task.offer(&record, timestamp + 60_000), Offer::Taken), "no cut within the step");
    };
    (0..WARM_UP).for_each(&mut offer);
    let allocations = allocations(|| (WARM_UP..WARM_UP + MEASURED).for_each(&mut offer));
    assert_eq!(task.ledger().get(Counter::SpansRead), (WARM_UP + MEASURED) * SPANS_PER_RECORD);
    (allocations, task)
}

/// Nothing is cut by size, and halves give up within the measured time.
fn base() -> Config {
    let mut config = Config::default();
    config.worker.max_commit_bytes = usize::MAX;
    config.core.service_graphs.wait = 400;
    config
}

fn dimensions(names: &[&str]) -> Vec<Dimension> {
    let default = |name: &str| (name == "nobody.has.it").then(|| "none".to_owned());
    names.iter().map(|&name| Dimension { or: Vec::new(), name: name.to_owned(), default: default(name) }).collect()
}

fn policies() -> Vec<FilterPolicy> {
    let block = |match_type, conditions: &[(&str, PolicyValue)]| {
        let attribute =
            |(key, value): &(&str, PolicyValue)| PolicyAttribute { key: (*key).into(), value: value.clone() };
        Some(PolicyMatch { match_type, attributes: conditions.iter().map(attribute).collect() })
    };
    let text = |text: &str| PolicyValue::Text(text.to_owned());
    let exclude = block(
        MatchType::Strict,
        &[("span.http.status_code", PolicyValue::Int(500)), ("status", text("STATUS_CODE_OK"))],
    );
    let include =
        block(MatchType::Regex, &[("name", text("^(GET|put) ")), ("resource.service.name", text("web|cart"))]);
    let include_any = block(MatchType::Regex, &[("span.region", text("n.rth")), ("kind", text("SERVER|CLIENT"))]);
    vec![FilterPolicy { include, include_any, exclude }]
}

fn with_span_metrics(config: &mut Config) {
    let settings = &mut config.core.span_metrics;
    settings.intrinsic.status_message = true;
    settings.dimensions = dimensions(&["region", "nobody.has.it", "cluster-id", "http.status_code"]);
    settings.calls_dimensions = dimensions(&["cached"]);
    settings.latency_dimensions = dimensions(&["share"]);
    settings.event_dimensions = dimensions(&["exception.type"]);
    let source_labels = vec!["region".into(), "http.status_code".into()];
    settings.dimension_mappings = vec![DimensionMapping { name: "both".into(), source_labels, join: "/".into() }];
    settings.bucket_sets =
        vec![BucketSet { services: vec!["web".into()], kinds: Vec::new(), bounds_ns: vec![1_000_000, 1_000_000_000] }];
    settings.scopes = vec!["lib-a".into()];
    settings.events = true;
    settings.target_info = true;
    settings.filter_policies = policies();
    settings.multiplier_key = "share".into();
    settings.tracestate_multiplier = true;
}

fn with_service_graphs(config: &mut Config) {
    let settings = &mut config.core.service_graphs;
    settings.connection_info = true;
    settings.dimensions = dimensions(&["region", "cluster-id"]);
    settings.client_server_prefix = true;
    settings.virtual_node_label = true;
    settings.messaging_latency = true;
    settings.filter_policies = policies();
    settings.multiplier_key = "share".into();
    settings.tracestate_multiplier = true;
    settings.service_namespace = ServiceNamespace::Labels;
    settings.failed_http_status = 500;
    settings.failed_grpc_codes = vec![2];
}

fn with_objectives(config: &mut Config) {
    let slo = |name: &str, matching| Slo {
        of: SloSubject::Spans,
        name: name.to_owned(),
        matching,
        latency_ns: Some(1_000_000),
        failed: Slo::failed_by_status(),
        labels: Slo::default_labels(SloSubject::Spans),
        objective: None,
    };
    config.core.slos = vec![slo("some", policies()), slo("all", Vec::new())];
    config.core.attribute_metrics = attribute_metrics();
}

fn attribute_metrics() -> Vec<AttributeMetric> {
    let metric = |name: &str, kind, value, bounds: &[u64]| AttributeMetric {
        name: name.to_owned(),
        description: String::new(),
        unit: String::new(),
        kind,
        matching: Vec::new(),
        value,
        bounds: bounds.to_vec(),
        labels: AttributeMetric::default_labels(),
    };
    let attribute = || {
        let names = vec!["http.response.status_code".to_owned(), "http.status_code".to_owned()];
        Some(MetricValue::Attribute(names, ValueScope::Any))
    };
    vec![
        metric("spans_total", AttributeMetricKind::Counter, None, &[]),
        metric("took_total", AttributeMetricKind::Sum, Some(MetricValue::Duration), &[]),
        metric("status_total", AttributeMetricKind::Sum, attribute(), &[]),
        metric("status", AttributeMetricKind::Histogram, attribute(), &[1, 200 * AttributeMetric::ONE]),
    ]
}

fn with_the_rest(config: &mut Config) {
    config.tenant = TenantSource::Attribute { key: "tenant.id".into(), fallback: "nobody".into() };
    config.core.host_info.enabled = true;
    config.core.span_names.mode = SanitizeMode::Enabled;
    let rule = |pattern: &str, replace: &str| SpanNameRule { pattern: pattern.into(), replace: replace.into() };
    config.core.span_names.rules = vec![rule("^nothing$", ""), rule("^(?<verb>put) ([0-9]+)$", "${verb} n")];
}

#[test]
fn a_span_of_a_known_label_set_allocates_nothing() {
    let mut config = base();
    config.core.span_names.mode = SanitizeMode::Enabled;
    let (allocations, task) = measure(&config);
    assert_eq!(allocations, 0, "in {} spans", MEASURED * SPANS_PER_RECORD);
    for counter in [Counter::SpansCounted, Counter::EdgesCompleted, Counter::EdgesVirtual] {
        assert!(task.ledger().get(counter) > MEASURED, "{}", counter.name());
    }
}

#[test]
fn a_span_of_one_of_many_label_sets_allocates_nothing_either() {
    let mut config = base();
    config.core.span_names.mode = SanitizeMode::Off;
    let (allocations, task) = measure(&config);
    assert_eq!(allocations, 0, "in {} spans", MEASURED * SPANS_PER_RECORD);
    let sets = task.label_sets();
    assert!(sets > 10_000, "{sets}: so many that a record's label sets are fetched together");
}

#[test]
fn no_feature_makes_it_allocate() {
    let features: [(&str, fn(&mut Config)); 9] = [
        ("span metrics", with_span_metrics),
        ("service graphs", with_service_graphs),
        ("fan-out", |config| config.core.service_graphs.fan_out = true),
        ("links", |config| config.core.service_graphs.links = true),
        ("ancestors", |config| config.core.service_graphs.ancestors = Ancestors::Client),
        ("names", |config| config.core.service_graphs.service_namespace = ServiceNamespace::Name),
        ("native histograms", |config| config.core.histograms.mode = HistogramMode::Both),
        ("objectives", with_objectives),
        ("the rest", with_the_rest),
    ];
    let mut all = base();
    let mut wrong = Vec::new();
    for (name, feature) in features {
        let mut alone = base();
        alone.core.span_names.mode = SanitizeMode::Enabled;
        for config in [&mut alone, &mut all] {
            feature(config);
        }
        let (allocations, _) = measure(&alone);
        wrong.extend((allocations > 0).then(|| format!("{name}: {allocations}")));
    }
    let (allocations, task) = measure(&all);
    wrong.extend((allocations > 0).then(|| format!("all together: {allocations}")));
    assert!(wrong.is_empty(), "allocations in {} spans: {wrong:?}", MEASURED * SPANS_PER_RECORD);
    let counters = [
        Counter::SpansCounted,
        Counter::SpansDroppedFiltered,
        Counter::SpanEventsCounted,
        Counter::EdgesCompleted,
        Counter::EdgesVirtual,
    ];
    for counter in counters {
        assert!(task.ledger().get(counter) > MEASURED / 10, "{}: {}", counter.name(), task.ledger().get(counter));
    }
}

#[test]
fn a_span_in_the_step_of_its_own_end_allocates_nothing_either() {
    let mut config = base();
    config.core.time.source = TimeSource::SpanEnd;
    // Stream time stays in one step, and the spans end in the next two.
    config.core.time.lateness = 10_000;
    config.core.span_names.mode = SanitizeMode::Enabled;
    let (allocations, mut task) = measure(&config);
    assert_eq!(allocations, 0, "in {} spans", MEASURED * SPANS_PER_RECORD);
    let cut = task.cut().expect("records were read");
    assert_eq!(cut.step, START + 30_000, "the last step of any span");
    assert!(cut.stream_time < START && task.ledger().get(Counter::EdgesCompleted) > MEASURED);
    assert_eq!(task.ledger().get(Counter::SpansLate) + task.ledger().get(Counter::SpansFromFuture), 0);
}

#[test]
fn a_dry_run_of_the_sanitizer_allocates_nothing_either() {
    let mut config = base();
    config.core.span_names.mode = SanitizeMode::DryRun;
    // The names stay, and each would be a label set of its own.
    config.core.span_metrics.intrinsic.span_name = false;
    assert_eq!(measure(&config).0, 0);
}

#[test]
fn the_counter_counts() {
    let (made, bytes) = held(|| (vec![1_u8; 100], Box::new(5_u64)));
    assert_eq!(bytes, 112 + 32);
    assert_eq!(held(|| drop(made)).1, -bytes);
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(5)))), 1);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8; 100]))), 1);
}
