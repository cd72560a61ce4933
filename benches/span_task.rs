//! Nanoseconds per span of a whole span task, from record bytes to delta records, beside full `prost` decoding and the obvious
//! counting in hash maps of the same spans.
//!
//! `cargo bench --bench span_task --no-default-features` prints one JSON line per case.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]
#![allow(clippy::disallowed_types, reason = "the obvious way uses the obvious map")]

mod common;
mod naive;

use common::{Case, Load, measure};
use spanmill::config::Config;
use spanmill::core::settings::{
    Ancestors, AttributeMetric, AttributeMetricKind, AttributeMetricsPreset, BranchLabel, BranchSource, Dimension,
    FilterPolicy, MatchType, MetricValue, PolicyAttribute, PolicyMatch, PolicyValue, Slo, SloSubject, ValueScope,
};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};

const SPANS: u64 = 40_000;
/// Three labels more, two of the span and one of both.
const DIMENSIONS: [&str; 3] = ["http.request.method", "http.response.status_code", "app.region"];
/// Spans with this attribute are not counted.
const UNWANTED: (&str, &str) = ("db.system", "postgresql");

fn main() {
    let load = Load::reference(SPANS);
    let defaults = Config::default();
    let (mut bare, mut rich) = (defaults.clone(), defaults.clone());
    bare.core.series.exemplars = false;
    bare.core.span_metrics.size = false;
    rich.core.span_metrics.dimensions =
        DIMENSIONS.iter().map(|&name| Dimension { or: Vec::new(), name: name.to_owned(), default: None }).collect();
    rich.core.span_metrics.filter_policies = vec![without(UNWANTED)];
    let mut derived = defaults.clone();
    derived.core.attribute_metrics = attribute_metrics();
    let mut traces = defaults.clone();
    let settings = &mut traces.core.traces;
    (settings.duration, settings.critical_path, settings.errors) = (true, true, true);
    let (mut whole, mut wide) = (traces.clone(), defaults.clone());
    let settings = &mut whole.core.traces;
    (settings.calls, settings.quality, settings.span_metrics) = (true, true, true);
    settings.branch_labels = [(BranchSource::Root, "http.route"), (BranchSource::Descendant, "db.system")]
        .map(|(from, key)| BranchLabel { name: key.replace('.', "_"), from, key: key.to_owned() })
        .to_vec();
    let graphs = &mut wide.core.service_graphs;
    (graphs.ancestors, graphs.operations, graphs.topology) = (Ancestors::Any, true, true);
    wide.core.slos = vec![objective()];
    wide.core.attribute_metrics_presets =
        vec![AttributeMetricsPreset::Genai, AttributeMetricsPreset::Http, AttributeMetricsPreset::Messaging];
    let task = |config: &Config| {
        let settings = SpanSettings::from(config);
        let load = &load;
        move || run(&settings, &load.records)
    };
    // One producer of ten is an hour ahead.
    let ahead = |(n, (timestamp, value)): (i64, &(i64, Vec<u8>))| {
        (*timestamp + if n % 10 == 3 { 3_600_000 } else { 0 }, value.clone())
    };
    let skewed: Vec<_> = (0..).zip(&load.records).map(ahead).collect();
    measure(
        "span_task",
        load.spans,
        vec![
            Case::new("without exemplars and size", task(&bare)),
            Case::new("defaults", task(&defaults)),
            Case::new("whole traces", task(&traces)),
            Case::new("everything of whole traces", task(&whole)),
            Case::new("everything of spans and edges", task(&wide)),
            Case::new("a clock that is ahead", || run(&SpanSettings::from(&defaults), &skewed)),
            Case::new("attribute metrics", task(&derived)),
            Case::new("naive", || naive::count(&load.records, &[], None)),
        ],
    );
    measure(
        "span_task",
        load.spans,
        vec![
            Case::new("3 dimensions and a filter", task(&rich)),
            Case::new("naive, 3 dimensions and a filter", || naive::count(&load.records, &DIMENSIONS, Some(UNWANTED))),
        ],
    );
}

/// All spans, good unless they fail or take long.
fn objective() -> Slo {
    Slo {
        name: "fast".to_owned(),
        of: SloSubject::Spans,
        matching: Vec::new(),
        latency_ns: Some(300_000_000),
        failed: Slo::failed_by_status(),
        labels: Slo::default_labels(SloSubject::Spans),
        objective: None,
    }
}

/// One of each type: all spans, and a number that some of them have.
fn attribute_metrics() -> Vec<AttributeMetric> {
    let entry = |name: &str, kind, value, bounds: &[u64]| AttributeMetric {
        name: name.to_owned(),
        description: String::new(),
        unit: String::new(),
        kind,
        matching: Vec::new(),
        value,
        bounds: bounds.to_vec(),
        labels: AttributeMetric::default_labels(),
    };
    let status = || Some(MetricValue::Attribute(vec![DIMENSIONS[1].to_owned()], ValueScope::Span));
    vec![
        entry("spans_total", AttributeMetricKind::Counter, None, &[]),
        entry("status_total", AttributeMetricKind::Sum, status(), &[]),
        entry(
            "status",
            AttributeMetricKind::Histogram,
            status(),
            &[200, 300, 400, 500].map(|n| n * AttributeMetric::ONE),
        ),
    ]
}

fn without((key, value): (&str, &str)) -> FilterPolicy {
    let attribute = PolicyAttribute { key: format!("span.{key}"), value: PolicyValue::Text(value.to_owned()) };
    let exclude = PolicyMatch { match_type: MatchType::Strict, attributes: vec![attribute] };
    FilterPolicy { include: None, include_any: None, exclude: Some(exclude) }
}

/// Everything that a span task does with the records; returns the bytes of its delta records.
fn run(settings: &SpanSettings, records: &[(i64, Vec<u8>)]) -> usize {
    let restored = Restored { next: Some(0), ..Restored::default() };
    let mut task = SpanTask::new(settings, "spans".to_owned(), 0, restored).expect("an empty journal");
    let mut bytes = 0;
    for (offset, (timestamp, value)) in (0..).zip(records) {
        let record = Record { offset, timestamp: *timestamp, tenant: Some("t"), value };
        while let Offer::CutFirst { cut } = task.offer(&record, i64::MAX / 2) {
            bytes += cut.delta_records.iter().flatten().map(Vec::len).sum::<usize>();
        }
    }
    bytes + task.cut().map_or(0, |cut| cut.delta_records.iter().flatten().map(Vec::len).sum())
}
