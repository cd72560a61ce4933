//! spanmill's decoder against `prost`: valid, scrambled, cut and broken requests.
#![allow(clippy::expect_used, clippy::assertions_on_constants, reason = "helpers of tests")]

use crate::otlp_check::{check, read_everything};
use crate::scramble::{Dice, scramble};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option::of as maybe;
use proptest::prelude::*;
use prost::Message as _;
use spanmill::core::otlp::Batch;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => "[a-z.é]{0,12}",
        2 => (120_usize..140).prop_map(|n| "x".repeat(n)),
        1 => (16_370_usize..16_390).prop_map(|n| "y".repeat(n)),
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0), 1 => 1_u32..3, 1 => any::<u32>()]
}

fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => vec(any::<u8>(), len), 1 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..20)]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![8 => any::<u64>(), 1 => Just(0)]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        6 => text().prop_map(|v| Some(Value::StringValue(v))),
        2 => any::<bool>().prop_map(|v| Some(Value::BoolValue(v))),
        2 => (0_i64..600).prop_map(|v| Some(Value::IntValue(v))),
        2 => any::<i64>().prop_map(|v| Some(Value::IntValue(v))),
        2 => any::<f64>().prop_map(|v| Some(Value::DoubleValue(v))),
        1 => any::<u64>().prop_map(|v| Some(Value::DoubleValue(f64::from_bits(v)))),
        1 => vec(any::<u8>(), 0..5).prop_map(|v| Some(Value::BytesValue(v))),
        1 => any::<i32>().prop_map(|v| Some(Value::StringValueStrindex(v))),
        1 => Just(None),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(key_value(inner), 0..4).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn key_value(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    let key_strindex = prop_oneof![9 => Just(0), 1 => any::<i32>()];
    ("[a-c]{0,2}", prop::option::weighted(0.9, value), key_strindex).prop_map(|(key, value, key_strindex)| KeyValue {
        key,
        value,
        key_strindex,
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_value(value()), 0..5)
}

fn event() -> impl Strategy<Value = Event> {
    (time(), text(), attributes(), count()).prop_map(|(time_unix_nano, name, attributes, dropped_attributes_count)| {
        Event { time_unix_nano, name, attributes, dropped_attributes_count }
    })
}

fn link() -> impl Strategy<Value = Link> {
    (id(16), id(8), text(), attributes(), count(), count()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn status() -> impl Strategy<Value = Status> {
    let code = prop_oneof![5 => 0..3, 1 => any::<i32>()];
    (prop_oneof![2 => Just(String::new()), 1 => text()], code).prop_map(|(message, code)| Status { message, code })
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), id(8), prop_oneof![3 => Just(String::new()), 1 => text()]);
    let what = (text(), prop_oneof![5 => 0..6, 1 => any::<i32>()], time(), time(), count());
    let lists = (attributes(), vec(event(), 0..2), vec(link(), 0..2), maybe(status()));
    (ids, what, lists, (count(), count(), count())).prop_map(|(ids, what, lists, dropped)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: ids.3,
        name: what.0,
        kind: what.1,
        start_time_unix_nano: what.2,
        end_time_unix_nano: what.3,
        flags: what.4,
        attributes: lists.0,
        events: lists.1,
        links: lists.2,
        status: lists.3,
        dropped_attributes_count: dropped.0,
        dropped_events_count: dropped.1,
        dropped_links_count: dropped.2,
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(text(), 0..2), vec(text(), 0..2)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef { schema_url, r#type, id_keys, description_keys },
    );
    (attributes(), count(), vec(entity, 0..2)).prop_map(|(attributes, dropped_attributes_count, entity_refs)| {
        Resource { attributes, dropped_attributes_count, entity_refs }
    })
}

fn scope_spans() -> impl Strategy<Value = ScopeSpans> {
    let scope = (text(), text(), attributes(), count()).prop_map(|(name, version, attributes, n)| {
        InstrumentationScope { name, version, attributes, dropped_attributes_count: n }
    });
    (maybe(scope), vec(span(), 0..3), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    })
}

fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let resource_spans = (maybe(resource()), vec(scope_spans(), 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_valid_request_reads_the_same(request in request()) {
        assert!(check(&request.encode_to_vec()));
    }

    #[test]
    fn fields_in_any_order_and_shape_mean_what_prost_says(request in request(), seed: u64, calm in 2_u64..60) {
        let bytes = request.encode_to_vec();
        let mut dice = Dice(seed);
        for _ in 0..4 {
            check(&scramble(&bytes, 0, calm, &mut dice));
        }
    }

    #[test]
    fn flipped_bits_are_refused_or_read_the_same(request in request(), seed: u64) {
        let bytes = request.encode_to_vec();
        let mut dice = Dice(seed);
        let mut batch = Batch::new();
        if !bytes.is_empty() {
            for _ in 0..16 {
                let mut broken = bytes.clone();
                for _ in 0..=dice.below(3) {
                    broken[dice.below(bytes.len() as u64) as usize] ^= 1 << dice.below(8);
                }
                check(&broken);
                if batch.decode(&broken).is_ok() {
                    read_everything(&batch, &bytes);
                    read_everything(&batch, &bytes[..bytes.len() / 2]);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn a_request_cut_at_any_byte_is_refused_or_read_the_same(span in span(), resource in maybe(resource())) {
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        let bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let step = bytes.len() / 3_000 + 1;
        for end in (0..bytes.len()).filter(|end| end % step == 0 || *end < 1_000) {
            check(&bytes[..end]);
        }
    }

    #[test]
    fn noise_is_refused_or_read_the_same(bytes in vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }
}
