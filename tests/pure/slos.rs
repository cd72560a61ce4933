//! What spans become with service level objectives, in the numbers that a span task hands on, beside a naive count.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message as _;
use spanmill::config::{Config, Sources, load};
use spanmill::core::model::{Counter, Ledger};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};
use spanmill::tools::totals::Totals;

const TENANT: &str = "single-tenant";
/// The threshold of the objectives here.
const MOST: u64 = 300_000_000;

fn config(text: &str) -> Config {
    let read_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let sources = Sources { file: Some(("slos.yaml", text)), env: &[], set: &[], read_file: &read_file };
    load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// A server's span that begins at 1 s.
fn span(took: u64, failed: bool, attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        name: "pay".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 1_000_000_000 + took,
        attributes,
        status: Some(Status { code: if failed { 2 } else { 0 }, message: String::new() }),
        ..Span::default()
    }
}

fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: vec![text("service.name", service)], ..Resource::default() });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

/// The series of objectives, as `name{label=value}` without `traces_slo_`, and the ledger.
fn counted(config: &Config, requests: &[Vec<u8>]) -> (BTreeMap<String, f64>, Ledger) {
    let settings = SpanSettings::from(config);
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
    for (offset, value) in (0..).zip(requests) {
        let record = Record { offset, timestamp: 1_000, tenant: Some(TENANT), value };
        assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    }
    let mut totals = Totals::default();
    for record in task.cut().iter().flat_map(|cut| &cut.delta_records).flatten() {
        totals.add(record).expect("delta records add up");
    }
    let shown = totals.values(TENANT).into_iter().filter_map(|(series, value)| {
        let labels: Vec<_> = series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some((format!("{}{{{}}}", series.name.strip_prefix("traces_slo_")?, labels.join(" ")), value))
    });
    (shown.collect(), task.ledger().clone())
}

fn lines(config: &Config, requests: &[ExportTraceServiceRequest]) -> Vec<String> {
    let bytes: Vec<_> = requests.iter().map(prost::Message::encode_to_vec).collect();
    counted(config, &bytes).0.into_iter().map(|(series, value)| format!("{series} {value}")).collect()
}

#[test]
fn a_span_that_takes_exactly_as_long_as_the_threshold_is_good_and_a_nanosecond_more_is_not() {
    let config = config("slos: [{name: pay, good: {latency: 300ms}}]");
    let spans = [MOST - 1, MOST, MOST + 1].map(|took| span(took, false, Vec::new()));
    assert_eq!(
        lines(&config, &[request("shop", spans.to_vec())]),
        ["events_total{service=shop slo=pay} 3", "good_total{service=shop slo=pay} 2"]
    );
}

#[test]
fn where_nothing_is_good_there_is_a_zero() {
    let config = config("slos: [{name: pay}]");
    assert_eq!(
        lines(&config, &[request("shop", vec![span(1, true, Vec::new())])]),
        ["events_total{service=shop slo=pay} 1", "good_total{service=shop slo=pay} 0"]
    );
}

#[test]
fn an_objective_counts_what_it_matches_and_fails_what_it_is_told_to() {
    let failed = "{match_type: strict, attributes: [{key: span.code, value: 503}]}";
    let matching = "{match_type: strict, attributes: [{key: span.route, value: /pay}]}";
    let config = config(&format!(
        "slos: [{{name: pay, match: [{{include: {matching}}}], good: {{failed: [{{include_any: {failed}}}]}}, labels: [route]}}]"
    ));
    let pay = |code| vec![text("route", "/pay"), attribute("code", Value::IntValue(code))];
    let spans = vec![
        // Its status does not matter where another rule does.
        span(1, true, pay(200)),
        span(1, false, pay(503)),
        span(1, false, vec![text("route", "/cart")]),
    ];
    assert_eq!(
        lines(&config, &[request("shop", spans)]),
        ["events_total{route=/pay slo=pay} 2", "good_total{route=/pay slo=pay} 1"]
    );
}

#[test]
fn labels_are_those_of_dimensions_and_no_attribute_hides_the_name_of_the_objective() {
    let config = config(
        "naming: {profile: otel}\n\
         limits: {max_label_value_length: 6}\n\
         slos: [{name: pay, labels: [service, slo, [http.route, http.target], {name: region, default: nowhere}]}]",
    );
    let spans = vec![span(1, false, vec![text("slo", "mine"), text("http.target", "/payment")])];
    assert_eq!(
        lines(&config, &[request("shop", spans)]),
        [
            "events_total{__slo=mine http_route=/payme region=nowher service_name=shop slo=pay} 1",
            "good_total{__slo=mine http_route=/payme region=nowher service_name=shop slo=pay} 1"
        ]
    );
}

#[test]
fn a_label_that_is_not_utf_8_is_counted_in_the_ledger_and_repaired_on_request() {
    let mut value = request("shop", vec![span(1, false, vec![text("route", "X?X")])]).encode_to_vec();
    let at = value.windows(3).position(|bytes| bytes == b"X?X").expect("the label");
    value[at + 1] = 0xff;
    let base = "slos: [{name: pay, labels: [route]}, {name: all, labels: []}]";
    let (series, ledger) = counted(&config(base), std::slice::from_ref(&value));
    assert_eq!(series.keys().collect::<Vec<_>>(), ["events_total{slo=all}", "good_total{slo=all}"]);
    let tallies = |ledger: &Ledger| {
        [Counter::SloEventsCounted, Counter::SloEventsDroppedInvalidUtf8, Counter::SloEventsRepairedUtf8]
            .map(|counter| ledger.get(counter))
    };
    assert_eq!(tallies(&ledger), [1, 1, 0]);
    let (series, ledger) = counted(&config(&format!("naming: {{invalid_utf8: replace}}\n{base}")), &[value]);
    assert_eq!(series.get("events_total{route=X\u{fffd}X slo=pay}"), Some(&1.0), "{series:?}");
    assert_eq!(tallies(&ledger), [2, 0, 1]);
}

#[test]
fn span_metrics_may_be_off_and_an_objective_alone_is_work() {
    let config =
        config("span_metrics: {enabled: false}\nservice_graphs: {enabled: false}\nslos: [{name: pay, labels: []}]");
    let lines = lines(&config, &[request("shop", vec![span(1, false, Vec::new())])]);
    assert_eq!(lines, ["events_total{slo=pay} 1", "good_total{slo=pay} 1"]);
}

/// A span of the property test: duration, failure, route and the share that sampling kept, in halves.
type Told = (u64, bool, u8, u32);

/// The same numbers by the words of the documentation.
fn naive(spans: &[(u8, Told)]) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for (service, (took, failed, route, halves)) in spans {
        let weight = 2.0f64.powi(*halves as i32);
        let mut add = |labels: String, good: bool| {
            *all.entry(format!("events_total{{{labels}}}")).or_default() += weight;
            *all.entry(format!("good_total{{{labels}}}")).or_default() += if good { weight } else { 0.0 };
        };
        add(format!("service=s{service} slo=all"), !failed);
        if *route == 1 {
            add(format!("route=r{route} slo=one"), *took <= MOST);
        }
    }
    all
}

proptest! {
    #[test]
    fn both_counters_are_those_of_a_naive_count(
        spans in proptest::collection::vec(
            (0u8..3, (MOST - 2..MOST + 3, any::<bool>(), 0u8..3, 0u32..3)), 1..60),
    ) {
        let route = "{match_type: strict, attributes: [{key: span.route, value: r1}]}";
        let config = config(&format!(
            "span_metrics: {{span_multiplier_key: kept}}\n\
             slos: [{{name: all}}, {{name: one, match: [{{include: {route}}}], \
             good: {{latency: 300ms, failed: []}}, labels: [route]}}]"
        ));
        let requests: Vec<_> = spans.iter().map(|(service, (took, failed, route, halves))| {
            let kept = Value::DoubleValue(0.5f64.powi(*halves as i32));
            let attributes = vec![text("route", &format!("r{route}")), attribute("kept", kept)];
            request(&format!("s{service}"), vec![span(*took, *failed, attributes)]).encode_to_vec()
        }).collect();
        let (series, ledger) = counted(&config, &requests);
        prop_assert_eq!(&series, &naive(&spans));
        let events = spans.iter().map(|(_, (_, _, route, _))| 1 + u64::from(*route == 1)).sum::<u64>();
        prop_assert_eq!(ledger.get(Counter::SloEventsCounted), events);
    }
}
