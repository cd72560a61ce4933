use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Proto};
use prost::Message as _;

use super::{Sampling, of_tracestate};
use crate::core::model::Weight;
use crate::core::otlp::Batch;

const KEY: &str = "sampling.ratio";

fn attributes(values: Vec<Value>) -> Vec<KeyValue> {
    let pair =
        |value| KeyValue { key: KEY.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() };
    values.into_iter().map(pair).collect()
}

/// The weight of a span, times 2^32.
fn weight(sampling: &Sampling, trace_state: &str, span: Vec<Value>, resource: Vec<Value>) -> u64 {
    let span = Proto { trace_state: trace_state.to_owned(), attributes: attributes(span), ..Proto::default() };
    let resource = Some(Resource { attributes: attributes(resource), ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    let bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let mut batch = Batch::new();
    batch.decode(&bytes).expect("valid");
    let block = batch.resources(&bytes).next().expect("one resource");
    let span = block.spans().next().expect("one span");
    sampling.weight(&span, block.resource).bits()
}

#[test]
fn a_threshold_is_read_wherever_it_stands_in_the_trace_state() {
    let told = [
        ("ot=th:0", 1.0),
        ("ot=th:8", 2.0),
        ("vendor1=value1,ot=th:8,vendor2=value2", 2.0),
        ("ot=rv:00112233445566;th:8", 2.0),
        ("ot=th:c", 4.0),
        ("ot=th:C", 4.0),
        ("not=th:8,ot=th:c", 4.0),
        ("not=th:8, ot=th:c", 4.0),
        (" ot=th:c\t", 4.0),
        ("ot=th:4", 4.0 / 3.0),
        ("ot=th:fd70a4", 16_777_216.0 / 167_772.0),
        ("ot=th:ffffff00000000", 16_777_216.0),
    ];
    for (state, expected) in told {
        let found = of_tracestate(state.as_bytes()).map(Weight::bits);
        assert_eq!(found, Some((expected * 4_294_967_296.0_f64).round() as u64), "{state}");
    }
}

#[test]
fn a_trace_state_without_a_valid_threshold_tells_nothing() {
    let silent = [
        "",
        "ot=",
        "ot=th:",
        "ot=th:xyz",
        "ot=th:+8",
        "ot=th:123456789abcdef",
        "ot=th:8 ;rv:00112233445566",
        "ot=rv:00112233445566",
        "vendor1=value1",
        "not=th:c",
        "not=foo:bar",
        "ot = th:8",
        "ot=rv:1,ot=th:8",
        "ot=th:x;th:8",
        "ot=th:ffffffffffffff",
        "ot=th:\u{e9}",
    ];
    for state in silent {
        assert_eq!(of_tracestate(state.as_bytes()), None, "{state}");
    }
}

#[test]
fn the_randomness_beside_a_threshold_changes_nothing() {
    let alone = of_tracestate(b"ot=th:4");
    for rv in ["00000000000000", "40000000000000", "7fffffffffffff", "ffffffffffffff", "nonsense"] {
        assert_eq!(of_tracestate(format!("ot=th:4;rv:{rv}").as_bytes()), alone, "{rv}");
    }
}

#[test]
fn the_trace_state_beats_the_attribute_which_beats_one() {
    let both = Sampling::new(KEY, true);
    let quarter = || vec![Value::DoubleValue(0.25)];
    assert_eq!(weight(&both, "ot=th:8", quarter(), vec![]), 2 << 32);
    assert_eq!(weight(&both, "ot=th:nonsense", quarter(), vec![]), 4 << 32);
    assert_eq!(weight(&both, "", vec![], vec![]), 1 << 32);
    assert_eq!(weight(&Sampling::new(KEY, false), "ot=th:8", quarter(), vec![]), 4 << 32);
    assert_eq!(weight(&Sampling::new("", true), "", quarter(), quarter()), 1 << 32);
    assert_eq!(weight(&Sampling::new("", false), "ot=th:8", quarter(), quarter()), 1 << 32);
}

#[test]
fn the_first_double_above_zero_counts_spans_before_resources() {
    let by_key = Sampling::new(KEY, false);
    let (half, quarter) = (Value::DoubleValue(0.5), Value::DoubleValue(0.25));
    let ignored = [Value::IntValue(8), Value::StringValue("0.1".to_owned()), Value::DoubleValue(-0.5)];
    let ignored = || ignored.iter().cloned().chain([Value::DoubleValue(0.0), Value::DoubleValue(f64::NAN)]);
    assert_eq!(weight(&by_key, "", vec![half.clone(), quarter.clone()], vec![]), 2 << 32);
    assert_eq!(weight(&by_key, "", ignored().chain([quarter.clone()]).collect(), vec![half.clone()]), 4 << 32);
    assert_eq!(weight(&by_key, "", ignored().collect(), ignored().chain([half]).collect()), 2 << 32);
    assert_eq!(weight(&by_key, "", ignored().collect(), ignored().collect()), 1 << 32);
}

#[test]
fn only_without_a_key_and_a_trace_state_it_is_off() {
    assert!(Sampling::new("", false).is_off());
    assert!(!Sampling::new(KEY, false).is_off() && !Sampling::new("", true).is_off());
}
