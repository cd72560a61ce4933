//! What spans become with attribute metrics, in the numbers that a span task hands on, beside a naive count.
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
/// What the ledger has of attribute metrics, in the order of [`tallies`].
const TALLIES: [Counter; 6] = [
    Counter::AttributeValuesCounted,
    Counter::AttributeValuesDroppedInvalidUtf8,
    Counter::AttributeValuesDroppedNegative,
    Counter::AttributeValuesDroppedNotANumber,
    Counter::AttributeValuesDroppedTooLarge,
    Counter::AttributeValuesRepairedUtf8,
];

type Series = BTreeMap<String, f64>;

fn config(text: &str) -> Config {
    let read_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let text = format!(
        "span_metrics: {{enabled: false, span_multiplier_key: kept}}\nservice_graphs: {{enabled: false}}\n{text}"
    );
    let sources = Sources { file: Some(("metrics.yaml", &text)), env: &[], set: &[], read_file: &read_file };
    load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// A span that begins at 1 s and takes 2 s.
fn span(kind: i32, attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        name: "pay".to_owned(),
        kind,
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 3_000_000_000,
        attributes,
        status: Some(Status { code: 2, message: String::new() }),
        ..Span::default()
    }
}

fn request(resource: Vec<KeyValue>, spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn of(service: &str, spans: Vec<Span>) -> Vec<u8> {
    request(vec![text("service.name", service)], spans)
}

/// The series, as `name{label=value}`, and the ledger, with a cut behind every request for which `cuts` is true.
fn counted(config: &Config, requests: &[Vec<u8>], cuts: &[bool]) -> (Series, Ledger) {
    let settings = SpanSettings::from(config);
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
    let mut totals = Totals::default();
    let mut cut = |task: &mut SpanTask| {
        for record in task.cut().iter().flat_map(|cut| &cut.delta_records).flatten() {
            totals.add(record).expect("delta records add up");
        }
    };
    for (offset, value) in (0..).zip(requests) {
        let record = Record { offset, timestamp: 1_000, tenant: Some(TENANT), value };
        assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
        if cuts.get(offset as usize).is_some_and(|cut| *cut) {
            cut(&mut task);
        }
    }
    cut(&mut task);
    let shown = totals.values(TENANT).into_iter().map(|(series, value)| {
        let labels: Vec<_> = series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (format!("{}{{{}}}", series.name, labels.join(" ")), value)
    });
    (shown.collect(), task.ledger().clone())
}

fn lines(config: &Config, requests: &[Vec<u8>]) -> Vec<String> {
    counted(config, requests, &[]).0.into_iter().map(|(series, value)| format!("{series} {value}")).collect()
}

fn tallies(ledger: &Ledger) -> [u64; 6] {
    TALLIES.map(|counter| ledger.get(counter))
}

#[test]
fn two_metrics_with_the_same_labels_stay_apart_and_no_label_shows_their_names() {
    let config = config(
        "attribute_metrics: [{name: a_total}, {name: b_total}, {name: c_total, value: n}, {name: d_total, value: n}, \
         {name: e, type: histogram, value: n, buckets: [1]}, {name: f, type: histogram, value: n, buckets: [2]}]",
    );
    let spans = vec![span(1, vec![attribute("n", Value::IntValue(2)), text("__metric__", "mine")])];
    assert_eq!(
        lines(&config, &[of("shop", spans)]),
        [
            "a_total{service=shop} 1",
            "b_total{service=shop} 1",
            "c_total{service=shop} 2",
            "d_total{service=shop} 2",
            "e_bucket{le=+Inf service=shop} 1",
            "e_count{service=shop} 1",
            "e_sum{service=shop} 2",
            "f_bucket{le=+Inf service=shop} 1",
            "f_bucket{le=2 service=shop} 1",
            "f_count{service=shop} 1",
            "f_sum{service=shop} 2",
        ]
    );
}

#[test]
fn labels_are_those_of_dimensions_with_what_is_no_attribute_by_its_own_name() {
    let config = config(
        "naming: {profile: otel}\n\
         span_names: {mode: enabled}\n\
         limits: {max_label_value_length: 18}\n\
         attribute_metrics: [{name: a_total, labels: [service, span_name, span_kind, status_code, \
         [http.route, http.target], {name: region, default: nowhere}]}]",
    );
    let mut one = span(2, vec![text("http.target", "/payment/of/everything"), text("service", "mine")]);
    one.name = "GET /users/17".to_owned();
    assert_eq!(
        lines(&config, &[of("shop", vec![one])]),
        ["a_total{http_route=/payment/of/everyt region=nowhere service_name=shop span_kind=SPAN_KIND_SERVER \
          span_name=GET /users/<_> status_code=STATUS_CODE_ERROR} 1"]
    );
}

#[test]
fn a_value_is_looked_for_in_its_scope_and_under_each_of_its_names() {
    let config = config(
        "attribute_metrics: [\
         {name: any_total, value: [new, old], labels: []}, \
         {name: span_total, value: {attribute: [new, old], scope: span}, labels: []}, \
         {name: resource_total, value: {attribute: [new, old], scope: resource}, labels: []}, \
         {name: have_total, type: counter, value: {attribute: old, scope: span}, labels: []}, \
         {name: took_total, value: {intrinsic: duration}, labels: []}]",
    );
    let number = |key, n| attribute(key, Value::IntValue(n));
    let requests = [
        request(vec![number("new", 100)], vec![span(1, vec![number("new", 1), text("old", "no number")])]),
        request(vec![number("old", 1_000)], vec![span(1, vec![number("old", 10)]), span(1, Vec::new())]),
    ];
    assert_eq!(
        lines(&config, &requests),
        // Labels look at resources first in the profile tempo, and so do values.
        ["any_total{} 2100", "have_total{} 2", "resource_total{} 2100", "span_total{} 11", "took_total{} 6"]
    );
}

#[test]
fn a_label_that_is_not_utf_8_is_counted_in_the_ledger_and_repaired_on_request() {
    let mut value = of("shop", vec![span(1, vec![text("route", "X?X")])]);
    let at = value.windows(3).position(|bytes| bytes == b"X?X").expect("the label");
    value[at + 1] = 0xff;
    let base = "attribute_metrics: [{name: a_total, labels: [route]}, {name: b_total, labels: []}]";
    let (series, ledger) = counted(&config(base), std::slice::from_ref(&value), &[]);
    assert_eq!(series.keys().collect::<Vec<_>>(), ["b_total{}"]);
    assert_eq!(tallies(&ledger), [1, 1, 0, 0, 0, 0]);
    let (series, ledger) = counted(&config(&format!("naming: {{invalid_utf8: replace}}\n{base}")), &[value], &[]);
    assert_eq!(series.get("a_total{route=X\u{fffd}X}"), Some(&1.0), "{series:?}");
    assert_eq!(tallies(&ledger), [2, 0, 0, 0, 0, 1]);
}

#[test]
fn a_value_that_no_counter_takes_is_tallied_for_spans_that_match_only() {
    let matching = "{match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}";
    let config = config(&format!(
        "attribute_metrics: [{{name: a_total, value: n, match: [{{include: {matching}}}], labels: []}}]"
    ));
    let odd = [
        Value::IntValue(-1),
        Value::DoubleValue(-0.5),
        Value::StringValue("-1".to_owned()),
        Value::DoubleValue(f64::NAN),
        Value::DoubleValue(f64::INFINITY),
        Value::BoolValue(true),
        Value::StringValue("many".to_owned()),
        Value::IntValue(1_000_000_000_000_001),
        Value::DoubleValue(1e16),
    ];
    let spans = |kind| odd.iter().map(|value| span(kind, vec![attribute("n", value.clone())])).collect::<Vec<_>>();
    let (series, ledger) = counted(&config, &[of("a", spans(2)), of("a", spans(3))], &[]);
    assert_eq!((series, tallies(&ledger)), (Series::new(), [0, 0, 3, 4, 2, 0]));
}

/// A span of the property test: service, kind, label, weight in powers of two, value in quarters and how it is written.
type Told = (u8, i32, u8, u32, u64, u8);

/// How the value of a span is written; `None`: it has none.
fn written(quarters: u64, how: u8) -> Option<Value> {
    let number = quarters as f64 / 4.0;
    Some(match how {
        0 => return None,
        1 => Value::IntValue((quarters / 4).cast_signed()),
        2 => Value::DoubleValue(number),
        3 => Value::StringValue(number.to_string()),
        4 => Value::IntValue(-1),
        5 => Value::DoubleValue(f64::NAN),
        _ => Value::DoubleValue(1e300),
    })
}

/// The same numbers by the words of the documentation, in quarters.
fn naive(spans: &[Told]) -> (Series, [u64; 6]) {
    let (mut all, mut tally) = (BTreeMap::<String, u128>::new(), [0; 6]);
    for (service, kind, label, doublings, quarters, how) in spans {
        let weight = 1u128 << doublings;
        let quarters = u128::from(if *how == 1 { quarters / 4 * 4 } else { *quarters });
        let mut add = |series: String, n: u128| *all.entry(series).or_default() += n * weight;
        if *kind == 2 {
            add(format!("servers_total{{kind=k{label} service=s{service}}}"), 4);
            tally[0] += 1;
        }
        for metric in ["sum", "histogram"] {
            match how {
                0 => {}
                4 => tally[2] += 1,
                5 => tally[3] += 1,
                6.. => tally[4] += 1,
                _ if quarters * weight > 4_000_000_000_000_000 => tally[4] += 1,
                _ if metric == "sum" => {
                    add(format!("sum_total{{kind=k{label}}}"), quarters);
                    tally[0] += 1;
                }
                _ => {
                    for (le, bound) in [("0.5", 2), ("3", 12), ("1000000000", 4_000_000_000), ("+Inf", u128::MAX)] {
                        add(
                            format!("size_bucket{{le={le} service=s{service}}}"),
                            if quarters <= bound { 4 } else { 0 },
                        );
                    }
                    add(format!("size_count{{service=s{service}}}"), 4);
                    add(format!("size_sum{{service=s{service}}}"), quarters);
                    tally[0] += 1;
                }
            }
        }
    }
    // Empty buckets are not shown.
    let shown = all.into_iter().filter(|(series, quarters)| !series.starts_with("size_bucket") || *quarters > 0);
    (shown.map(|(series, quarters)| (series, quarters as f64 / 4.0)).collect(), tally)
}

/// Exactly, as far as a double has quarters; behind that to its last bit.
fn is_right(value: f64, expected: f64) -> bool {
    let most = if expected < 1e15 { 0.0 } else { expected * f64::EPSILON };
    (value - expected).abs() <= most
}

fn record((service, kind, label, doublings, quarters, how): &Told) -> Vec<u8> {
    let kept = attribute("kept", Value::DoubleValue(0.5f64.powi(doublings.cast_signed())));
    let value = written(*quarters, *how).map(|value| attribute("n", value));
    let attributes = [text("kind", &format!("k{label}")), kept].into_iter().chain(value).collect();
    of(&format!("s{service}"), vec![span(*kind, attributes)])
}

fn told() -> impl Strategy<Value = Told> {
    let quarters = prop_oneof![0u64..20, Just(4_000_000_000), Just(4_000_000_000_000_000), 0u64..1 << 52];
    (0u8..3, 1i32..4, 0u8..3, 0u32..4, quarters, 0u8..7)
}

proptest! {
    #[test]
    fn every_type_is_that_of_a_naive_count_in_any_order_and_with_any_cuts(
        (spans, mixed) in proptest::collection::vec(told(), 1..60)
            .prop_flat_map(|spans| (Just(spans.clone()), Just(spans).prop_shuffle())),
        cuts in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let servers = "{match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}";
        let config = config(&format!(
            "attribute_metrics: [{{name: servers_total, match: [{{include: {servers}}}], labels: [service, kind]}}, \
             {{name: sum_total, value: n, labels: [kind]}}, \
             {{name: size, type: histogram, value: n, buckets: [0.5, 3, 1000000000]}}]"
        ));
        let (expected, tally) = naive(&spans);
        let records: Vec<_> = spans.iter().map(record).collect();
        let (series, ledger) = counted(&config, &records, &[]);
        prop_assert!(series.keys().eq(expected.keys()), "{series:?} {expected:?}");
        for (name, value) in &series {
            prop_assert!(is_right(*value, expected[name]), "{name}: {value} {}", expected[name]);
        }
        prop_assert_eq!(tallies(&ledger), tally);
        let in_order = series;
        let records: Vec<_> = mixed.iter().map(record).collect();
        let (series, ledger) = counted(&config, &records, &cuts);
        let bits = |series: Series| series.into_iter().map(|(name, value)| (name, value.to_bits())).collect::<Vec<_>>();
        prop_assert_eq!(bits(series), bits(in_order));
        prop_assert_eq!(tallies(&ledger), tally);
    }
}
