//! OTLP in files: the JSON reader against the one of the protocol's own types, and what Collectors and SDKs really write.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use crate::scramble::Dice;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event, span::Link};
use proptest::prelude::*;
use prost::Message as _;
use spanmill::core::formats::to_proto;

/// Few and odd ones.
fn text(dice: &mut Dice) -> String {
    let texts = ["", "GET /a", "\"quoted\\\"", "\u{e9}\u{1f980}\u{0}\u{1f}", "line\nbreak\t/", "\u{2028}"];
    texts[dice.below(texts.len() as u64) as usize].to_owned()
}

fn bytes(dice: &mut Dice, most: u64) -> Vec<u8> {
    (0..dice.below(most + 1)).map(|_| dice.below(256) as u8).collect()
}

fn number(dice: &mut Dice) -> u64 {
    [0, 1, 127, 128, u64::from(u32::MAX), 1 << 53, (1 << 53) + 1, i64::MAX as u64, u64::MAX][dice.below(9) as usize]
}

fn value(dice: &mut Dice, depth: u32) -> Option<AnyValue> {
    let number_of = |dice: &mut Dice| dice.below(3);
    let value = match dice.below(if depth > 0 { 10 } else { 7 }) {
        0 => return None,
        1 => None,
        2 => Some(Value::StringValue(text(dice))),
        3 => Some(Value::BoolValue(dice.below(2) == 0)),
        4 => Some(Value::IntValue(number(dice).cast_signed())),
        5 => {
            Some(Value::DoubleValue([0.0, -0.5, 0.1, 1e300, 5e-324, 0.300_000_000_000_000_04][dice.below(6) as usize]))
        }
        6 => Some(Value::BytesValue(bytes(dice, 7))),
        7 | 8 => {
            // `null` stands for a missing element in the crate's JSON, and protobuf has none.
            let values = (0..number_of(dice)).filter_map(|_| value(dice, depth - 1)).collect();
            Some(Value::ArrayValue(ArrayValue { values }))
        }
        _ => Some(Value::KvlistValue(KeyValueList { values: attributes(dice, depth - 1) })),
    };
    Some(AnyValue { value })
}

fn attributes(dice: &mut Dice, depth: u32) -> Vec<KeyValue> {
    (0..dice.below(3)).map(|_| KeyValue { key: text(dice), value: value(dice, depth), key_strindex: 0 }).collect()
}

fn span(dice: &mut Dice) -> Span {
    Span {
        trace_id: bytes(dice, 16),
        span_id: bytes(dice, 8),
        trace_state: text(dice),
        parent_span_id: bytes(dice, 8),
        flags: dice.below(1 << 32) as u32,
        name: text(dice),
        kind: [0, 1, 2, 3, 4, 5, 9, -1][dice.below(8) as usize],
        start_time_unix_nano: number(dice),
        end_time_unix_nano: number(dice),
        attributes: attributes(dice, 3),
        dropped_attributes_count: dice.below(2) as u32,
        events: (0..dice.below(2)).map(|_| event(dice)).collect(),
        dropped_events_count: dice.below(2) as u32,
        links: (0..dice.below(2)).map(|_| link(dice)).collect(),
        dropped_links_count: dice.below(2) as u32,
        status: (dice.below(2) == 0).then(|| Status { message: text(dice), code: dice.below(3) as i32 }),
    }
}

fn event(dice: &mut Dice) -> Event {
    let dropped_attributes_count = dice.below(2) as u32;
    Event { time_unix_nano: number(dice), name: text(dice), attributes: attributes(dice, 1), dropped_attributes_count }
}

fn link(dice: &mut Dice) -> Link {
    Link {
        trace_id: bytes(dice, 16),
        span_id: bytes(dice, 8),
        trace_state: text(dice),
        attributes: attributes(dice, 1),
        dropped_attributes_count: dice.below(2) as u32,
        flags: dice.below(3) as u32,
    }
}

pub(crate) fn request(dice: &mut Dice) -> ExportTraceServiceRequest {
    let resource = |dice: &mut Dice| Resource {
        attributes: attributes(dice, 2),
        dropped_attributes_count: dice.below(2) as u32,
        entity_refs: (0..dice.below(2))
            .map(|_| EntityRef {
                schema_url: text(dice),
                r#type: text(dice),
                id_keys: vec![text(dice)],
                ..EntityRef::default()
            })
            .collect(),
    };
    let scope = |dice: &mut Dice| InstrumentationScope {
        name: text(dice),
        version: text(dice),
        attributes: attributes(dice, 1),
        dropped_attributes_count: 0,
    };
    let scope_spans = |dice: &mut Dice| ScopeSpans {
        scope: (dice.below(3) > 0).then(|| scope(dice)),
        spans: (0..dice.below(4)).map(|_| span(dice)).collect(),
        schema_url: text(dice),
    };
    let resource_spans = |dice: &mut Dice| ResourceSpans {
        resource: (dice.below(4) > 0).then(|| resource(dice)),
        scope_spans: (0..dice.below(3)).map(|_| scope_spans(dice)).collect(),
        schema_url: text(dice),
    };
    ExportTraceServiceRequest { resource_spans: (0..dice.below(3)).map(|_| resource_spans(dice)).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_that_the_protocols_own_types_write_gives_the_request_back(seed: u64) {
        let request = request(&mut Dice(seed));
        let json = serde_json::to_vec(&request).expect("any request is JSON");
        let ours = to_proto(&json).map_err(|error| TestCaseError::fail(error.to_string()))?;
        // Their JSON has the keys in the order of their declaration, so the bytes may be in another order.
        let ours_again = ExportTraceServiceRequest::decode(ours.as_slice()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(ours.len(), request.encoded_len());
        prop_assert_eq!(ours_again, request);
    }

    #[test]
    fn pretty_json_is_the_same_json(seed: u64) {
        let request = request(&mut Dice(seed));
        let (plain, pretty) = (serde_json::to_vec(&request).expect("JSON"), serde_json::to_vec_pretty(&request).expect("JSON"));
        prop_assert_eq!(to_proto(&plain), to_proto(&pretty));
    }
}

fn decoded(json: &str) -> ExportTraceServiceRequest {
    let bytes = to_proto(json.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{json}"));
    let request = ExportTraceServiceRequest::decode(bytes.as_slice()).expect("protobuf");
    assert_eq!(bytes, request.encode_to_vec(), "written as prost writes it");
    request
}

fn only_span(json: &str) -> Span {
    let request = decoded(&format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{json}]}}]}}]}}"#));
    request.resource_spans[0].scope_spans[0].spans[0].clone()
}

#[test]
fn what_a_collector_writes_is_read() {
    let request = decoded(include_str!("../files/collector.jsonl").lines().next().expect("a line"));
    let service = &request.resource_spans[0].resource.as_ref().expect("a resource").attributes[0];
    assert_eq!(service.value.as_ref().and_then(|v| v.value.clone()), Some(Value::StringValue("checkout".to_owned())));
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((span.trace_id.len(), span.span_id.len(), span.kind), (16, 8, 3));
    assert_eq!(span.start_time_unix_nano, 1_726_000_000_123_456_789);
    assert_eq!(span.status, Some(Status::default()), "the exporter writes an empty status");
    assert_eq!(span.events[0].name, "retry");
    let ratio = AnyValue { value: Some(Value::DoubleValue(0.1)) };
    assert!(span.attributes.iter().any(|a| a.value.as_ref() == Some(&ratio)));
}

#[test]
fn both_spellings_of_everything_mean_the_same() {
    let plain = only_span(
        r#"{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"x","kind":2,
            "startTimeUnixNano":"1700000000000000001","endTimeUnixNano":"1700000000000000003",
            "attributes":[{"key":"n","value":{"intValue":"-5"}},{"key":"d","value":{"doubleValue":1}}],
            "droppedAttributesCount":1,"status":{"code":2},"flags":257}"#,
    );
    let other = only_span(
        r#"{"trace_id":"0AF7651916CD43DD8448EB211C80319C","span_id":"B7AD6B7169203331","trace_state":null,"name":"x",
            "kind":"SPAN_KIND_SERVER","start_time_unix_nano":1700000000000000001,"end_time_unix_nano":1700000000000000003,
            "attributes":[{"key":"n","value":{"int_value":-5}},{"key":"d","value":{"doubleValue":"1e0"}}],
            "dropped_attributes_count":"1","events":null,"links":[],"status":{"code":"STATUS_CODE_ERROR","deprecatedCode":3},
            "flags":257,"somethingNew":{"a":[null,{"b":"c"}]}}"#,
    );
    assert_eq!(plain, other);
    assert_eq!((plain.kind, plain.flags, plain.start_time_unix_nano), (2, 257, 1_700_000_000_000_000_001));
}

#[test]
fn values_that_are_hard_in_json_are_exact() {
    let value = |json: &str| {
        let span = only_span(&format!(r#"{{"attributes":[{{"key":"a","value":{json}}}]}}"#));
        span.attributes[0].value.clone().and_then(|v| v.value)
    };
    assert_eq!(value(r#"{"intValue":"-9223372036854775808"}"#), Some(Value::IntValue(i64::MIN)));
    assert_eq!(value(r#"{"intValue":1e3}"#), Some(Value::IntValue(1_000)));
    assert_eq!(value(r#"{"doubleValue":0.30000000000000004}"#), Some(Value::DoubleValue(0.1 + 0.2)));
    assert_eq!(value(r#"{"doubleValue":"-Infinity"}"#), Some(Value::DoubleValue(f64::NEG_INFINITY)));
    assert!(matches!(value(r#"{"doubleValue":"NaN"}"#), Some(Value::DoubleValue(v)) if v.is_nan()));
    assert_eq!(value(r#"{"stringValue":""}"#), Some(Value::StringValue(String::new())));
    assert_eq!(value(r#"{"boolValue":false}"#), Some(Value::BoolValue(false)));
    assert_eq!(value(r#"{"bytesValue":"_-8"}"#), value(r#"{"bytesValue":"/+8="}"#));
    assert_eq!((value("{}"), value(r#"{"futureValue":7}"#)), (None, None));
    assert_eq!(
        value(r#"{"stringValue":"\ud83e\udd80 \ud83e \udd80"}"#),
        Some(Value::StringValue("\u{1f980} \u{fffd} \u{fffd}".into()))
    );
}
