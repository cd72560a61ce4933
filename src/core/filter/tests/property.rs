use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{self as proto, Status};
use proptest::prelude::*;

use super::{attribute, judge, text};
use crate::core::filter::Filter;
use crate::core::settings::{FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue};

/// The rules of the room's documentation, read.
fn naive(policies: &[FilterPolicy], resource: &[KeyValue], span: &proto::Span) -> bool {
    let matches = |m: &PolicyMatch| m.attributes.iter().all(|a| holds(a, m.match_type, resource, span));
    let excludes: Vec<bool> = policies.iter().filter_map(|p| p.exclude.as_ref()).map(matches).collect();
    let anys: Vec<bool> = policies.iter().filter_map(|p| p.include_any.as_ref()).map(matches).collect();
    let includes: Vec<bool> = policies.iter().filter_map(|p| p.include.as_ref()).map(matches).collect();
    match (excludes.contains(&true), anys.contains(&true)) {
        (true, _) => false,
        (false, true) => true,
        (false, false) if includes.is_empty() => anys.is_empty(),
        (false, false) => !includes.contains(&false),
    }
}

fn holds(condition: &PolicyAttribute, how: MatchType, resource: &[KeyValue], span: &proto::Span) -> bool {
    let intrinsic = match condition.key.as_str() {
        "kind" => Some(span.kind().as_str_name().to_owned()),
        "span:status" => Some(span.status.as_ref().map_or(0, |s| s.code)).map(|code| {
            ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"][usize::try_from(code).expect("small")]
                .to_owned()
        }),
        "name" => Some(span.name.clone()),
        _ => None,
    };
    let attributes = if condition.key.starts_with("span.") { &span.attributes } else { resource };
    let key = condition.key.split_once('.').map(|(_, key)| key);
    let found = attributes.iter().find(|a| Some(a.key.as_str()) == key);
    let found = intrinsic.map(Value::StringValue).or_else(|| found.cloned()?.value?.value);
    let Some(found) = found else { return false };
    match (how, &condition.value, &found) {
        (MatchType::Regex, PolicyValue::Text(p), Value::StringValue(v)) => {
            regex::Regex::new(p).expect("valid").is_match(v)
        }
        (MatchType::Regex, PolicyValue::Text(p), _) => regex::Regex::new(p).expect("valid").is_match(""),
        (_, PolicyValue::Text(wanted), Value::StringValue(v)) => wanted == v,
        (_, PolicyValue::Int(wanted), Value::IntValue(v)) => wanted == v,
        (_, PolicyValue::Bool(wanted), Value::BoolValue(v)) => wanted == v,
        (_, PolicyValue::Float(wanted), Value::DoubleValue(v)) => (wanted - v).abs() < f64::MIN_POSITIVE,
        _ => false,
    }
}

fn a_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => prop::sample::select(vec!["", "a", "ab", "1"]).prop_map(|v| Value::StringValue(v.to_owned())),
        1 => (0..2_i64).prop_map(Value::IntValue),
        1 => any::<bool>().prop_map(Value::BoolValue),
        1 => prop::sample::select(vec![0.0, 1.0]).prop_map(Value::DoubleValue),
    ]
}

fn some_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let one = (prop::sample::select(vec!["x", "y"]), a_value()).prop_map(|(key, value)| attribute(key, value));
    prop::collection::vec(one, 0..4)
}

fn a_condition(how: MatchType) -> impl Strategy<Value = PolicyAttribute> {
    let strict_values = prop_oneof![
        3 => prop::sample::select(vec!["", "a", "ab", "1"]).prop_map(text),
        1 => (0..2_i64).prop_map(PolicyValue::Int),
        1 => any::<bool>().prop_map(PolicyValue::Bool),
        1 => prop::sample::select(vec![0.0, 1.0]).prop_map(PolicyValue::Float),
    ];
    let patterns = prop::sample::select(vec!["", "^$", "a", "^a$", "b|1", ".*"]).prop_map(text);
    let enums = |names: [&'static str; 3], patterns: [&'static str; 3]| {
        prop::sample::select((if how == MatchType::Regex { patterns } else { names }).to_vec()).prop_map(text)
    };
    let keys = prop::sample::select(vec!["span.x", "span.y", "resource.x", "resource.y", "name"]);
    let values = if how == MatchType::Regex { patterns.boxed() } else { strict_values.boxed() };
    let of_attributes = (keys, values).prop_map(|(key, value)| match (key, &value) {
        ("name", PolicyValue::Text(_)) => (key, value),
        ("name", _) => (key, text("ab")),
        _ => (key, value),
    });
    let of_kind =
        enums(["SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_UNSPECIFIED"], ["SER", "_(CLIENT|INTERNAL)$", "^$"]);
    let of_status = enums(["STATUS_CODE_OK", "STATUS_CODE_ERROR", "STATUS_CODE_UNSET"], ["E", "OK", "^.*$"]);
    prop_oneof![
        4 => of_attributes,
        1 => of_kind.prop_map(|value| ("kind", value)),
        1 => of_status.prop_map(|value| ("span:status", value)),
    ]
    .prop_map(|(key, value)| PolicyAttribute { key: key.to_owned(), value })
}

fn a_block() -> impl Strategy<Value = PolicyMatch> {
    prop::sample::select(vec![MatchType::Strict, MatchType::Regex]).prop_flat_map(|match_type| {
        prop::collection::vec(a_condition(match_type), 0..3)
            .prop_map(move |attributes| PolicyMatch { match_type, attributes })
    })
}

fn a_policy() -> impl Strategy<Value = FilterPolicy> {
    let maybe = || prop::option::weighted(0.4, a_block());
    (maybe(), maybe(), prop::option::weighted(0.3, a_block()))
        .prop_map(|(include, include_any, exclude)| FilterPolicy { include, include_any, exclude })
        .prop_filter("nothing in it", |p| p.include.is_some() || p.include_any.is_some() || p.exclude.is_some())
}

fn a_span() -> impl Strategy<Value = proto::Span> {
    (prop::sample::select(vec!["", "a", "ab"]), 0..6_i32, 0..3_i32, some_attributes()).prop_map(
        |(name, kind, code, attributes)| proto::Span {
            name: name.to_owned(),
            kind,
            status: Some(Status { code, ..Status::default() }),
            attributes,
            ..proto::Span::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_verdict_is_that_of_the_plain_rules(
        policies in prop::collection::vec(a_policy(), 0..4),
        resource in some_attributes(),
        span in a_span(),
    ) {
        let filter = Filter::new(&policies).expect("valid policies");
        let expected = naive(&policies, &resource, &span);
        prop_assert_eq!(judge(&filter, resource, span), expected);
    }
}
