//! The table of cases, and a comparison with an evaluator that is as plain as the rules.

mod property;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans, ScopeSpans, Status};
use prost::Message as _;

use super::{Filter, FilterError};
use crate::core::otlp::{Attributes, Batch, Span};
use crate::core::settings::{FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue};

const NOTHING: FilterPolicy = FilterPolicy { include: None, include_any: None, exclude: None };

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(value: &str) -> PolicyValue {
    PolicyValue::Text(value.to_owned())
}

fn block(match_type: MatchType, conditions: &[(&str, PolicyValue)]) -> PolicyMatch {
    let attributes = conditions.iter().map(|(key, value)| PolicyAttribute { key: (*key).into(), value: value.clone() });
    PolicyMatch { match_type, attributes: attributes.collect() }
}

fn strict(key: &str, value: PolicyValue) -> PolicyMatch {
    block(MatchType::Strict, &[(key, value)])
}

fn regex(key: &str, pattern: &str) -> PolicyMatch {
    block(MatchType::Regex, &[(key, text(pattern))])
}

fn include(m: PolicyMatch) -> FilterPolicy {
    FilterPolicy { include: Some(m), ..NOTHING }
}

fn include_any(m: PolicyMatch) -> FilterPolicy {
    FilterPolicy { include_any: Some(m), ..NOTHING }
}

fn exclude(m: PolicyMatch) -> FilterPolicy {
    FilterPolicy { exclude: Some(m), ..NOTHING }
}

/// A span of a shop's till, with an attribute of every type.
fn till() -> (Vec<KeyValue>, proto::Span) {
    let resource = vec![
        attribute("service.name", Value::StringValue("till".into())),
        attribute("replicas", Value::IntValue(3)),
        attribute("with space", Value::StringValue("yes".into())),
    ];
    let span = proto::Span {
        name: "pay in cash".into(),
        kind: 3,
        status: Some(Status { code: 1, ..Status::default() }),
        attributes: vec![
            attribute("foo", Value::StringValue("foo-value".into())),
            attribute("foo", Value::StringValue("second".into())),
            attribute("kind", Value::StringValue("odd".into())),
            attribute("count", Value::IntValue(11)),
            attribute("share", Value::DoubleValue(0.5)),
            attribute("new", Value::BoolValue(true)),
            attribute("a \"b\"\\c", Value::StringValue("quoted".into())),
            attribute("digits", Value::StringValue("11".into())),
        ],
        ..proto::Span::default()
    };
    (resource, span)
}

fn judge(filter: &Filter, resource: Vec<KeyValue>, span: proto::Span) -> bool {
    asked(resource, span, |resource, span| filter.keeps(&filter.resource(resource), span))
}

/// Which policy decides about the span of the till.
fn decided(policies: &[FilterPolicy]) -> super::Decision {
    let (filter, (resource, span)) = (Filter::new(policies).expect("valid policies"), till());
    asked(resource, span, |resource, span| filter.decide(&filter.resource(resource), span))
}

fn asked<T>(resource: Vec<KeyValue>, span: proto::Span, ask: impl FnOnce(&Attributes<'_>, &Span<'_>) -> T) -> T {
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    let bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let mut batch = Batch::new();
    batch.decode(&bytes).expect("valid");
    let block = batch.resources(&bytes).next().expect("one resource");
    let span = block.spans().next().expect("one span");
    ask(&block.resource, &span)
}

fn keeps(policies: &[FilterPolicy]) -> bool {
    let (resource, span) = till();
    judge(&Filter::new(policies).expect("valid policies"), resource, span)
}

#[test]
fn without_policies_every_span_is_kept() {
    assert!(Filter::new(&[]).expect("valid").is_empty());
    assert!(keeps(&[]));
}

#[test]
fn a_strict_condition_needs_the_same_type_and_value() {
    let same = [
        ("span.foo", text("foo-value")),
        ("span.count", PolicyValue::Int(11)),
        ("span.share", PolicyValue::Float(0.5)),
        ("span.new", PolicyValue::Bool(true)),
        ("span.digits", text("11")),
        ("resource.service.name", text("till")),
        ("resource.replicas", PolicyValue::Int(3)),
    ];
    for (key, value) in same {
        assert!(keeps(&[include(strict(key, value.clone()))]), "{key} {value:?}");
    }
    let other = [
        ("span.foo", text("foo")),
        ("span.foo", text("second")),
        ("span.nope", text("foo-value")),
        ("resource.foo", text("foo-value")),
        ("span.count", text("11")),
        ("span.count", PolicyValue::Float(11.0)),
        ("span.digits", PolicyValue::Int(11)),
        ("span.share", text("0.5")),
        ("span.new", text("true")),
        ("span.foo", PolicyValue::Bool(true)),
        ("span.count", text("")),
        ("span.foo", PolicyValue::Int(0)),
        ("span.foo", PolicyValue::Float(0.0)),
        ("span.foo", PolicyValue::Bool(false)),
    ];
    for (key, value) in other {
        assert!(!keeps(&[include(strict(key, value.clone()))]), "{key} {value:?}");
    }
}

#[test]
fn intrinsics_are_known_by_both_names_and_an_attribute_may_be_called_kind() {
    for (key, value) in [("kind", "SPAN_KIND_CLIENT"), ("status", "STATUS_CODE_OK"), ("name", "pay in cash")] {
        assert!(keeps(&[include(strict(key, text(value)))]), "{key}");
        assert!(keeps(&[include(strict(&format!("span:{key}"), text(value)))]), "span:{key}");
        assert!(!keeps(&[exclude(strict(key, text(value)))]), "{key}");
        assert!(keeps(&[include(regex(key, value))]), "{key}");
    }
    assert!(!keeps(&[include(strict("kind", text("SPAN_KIND_SERVER")))]));
    assert!(!keeps(&[include(strict("name", text("pay")))]));
    assert!(keeps(&[include(strict("span.kind", text("odd")))]));
    assert!(!keeps(&[include(strict("span.kind", text("SPAN_KIND_CLIENT")))]));
}

#[test]
fn a_regular_expression_matches_anywhere_in_a_text() {
    for (key, pattern) in [
        ("kind", "SPAN_KIND_.*"),
        ("kind", "SPAN_KIND_(SERVER|CONSUMER|CLIENT|PRODUCER)"),
        ("kind", "LIEN"),
        ("status", "OK$"),
        ("name", "in"),
        ("span.foo", "o-v"),
        ("resource.service.name", "^t.*l$"),
        ("span.count", "^$"),
        ("span.count", ".*"),
    ] {
        assert!(keeps(&[include(regex(key, pattern))]), "{key} {pattern}");
    }
    for (key, pattern) in [
        ("kind", "^CLIENT"),
        ("kind", "SERVER|CONSUMER"),
        ("status", "ERROR"),
        ("name", "^in"),
        ("span.foo", "second"),
        ("span.count", "11"),
        ("span.nope", ".*"),
    ] {
        assert!(!keeps(&[include(regex(key, pattern))]), "{key} {pattern}");
    }
}

#[test]
fn numbers_without_a_name_match_by_their_digits_and_never_strictly() {
    let of_kind = |policies: &[FilterPolicy], kind| {
        let (resource, span) = till();
        judge(&Filter::new(policies).expect("valid"), resource, proto::Span { kind, ..span })
    };
    assert!(of_kind(&[include(regex("kind", "^17$"))], 17));
    assert!(of_kind(&[include(regex("kind", "^-2$"))], -2));
    assert!(!of_kind(&[include(regex("kind", "SPAN_KIND"))], 6));
    assert!(!of_kind(&[include(strict("kind", text("SPAN_KIND_CLIENT")))], 8 + 3));
    assert!(of_kind(&[include(strict("kind", text("SPAN_KIND_UNSPECIFIED")))], 0));
}

#[test]
fn quotes_allow_any_name_of_an_attribute() {
    for key in ["resource.\"with space\"", "resource.with\" \"space", "resource.\"with\"\" space\""] {
        assert!(keeps(&[include(strict(key, text("yes")))]), "{key}");
    }
    assert!(keeps(&[include(strict(r#"span."a \"b\"\\c""#, text("quoted")))]));
}

#[test]
fn all_conditions_of_a_block_must_hold() {
    let both = |count| {
        let conditions = [
            ("span.foo", text("foo-value")),
            ("resource.replicas", PolicyValue::Int(count)),
            ("kind", text("SPAN_KIND_CLIENT")),
        ];
        block(MatchType::Strict, &conditions)
    };
    assert!(keeps(&[include(both(3))]) && !keeps(&[include(both(4))]));
    assert!(!keeps(&[exclude(both(3))]) && keeps(&[exclude(both(4))]));
}

#[test]
fn a_block_without_conditions_matches_every_span() {
    let all = || block(MatchType::Strict, &[]);
    assert!(keeps(&[include(all())]));
    assert!(keeps(&[include_any(all())]));
    assert!(!keeps(&[exclude(all())]));
}

#[test]
fn the_blocks_of_all_policies_are_judged_as_one_pool() {
    let yes = || strict("span.foo", text("foo-value"));
    let no = || strict("span.foo", text("bar"));
    let on_resource = |name| strict("resource.service.name", text(name));
    let table = [
        (vec![include(yes())], true),
        (vec![include(no())], false),
        (vec![include(yes()), include(no())], false),
        (vec![include(yes()), include(on_resource("till"))], true),
        (vec![include(yes()), include(on_resource("shop"))], false),
        (vec![include_any(yes())], true),
        (vec![include_any(no())], false),
        (vec![include_any(no()), include_any(yes())], true),
        (vec![include(no()), include_any(yes())], true),
        (vec![include(yes()), include_any(no())], true),
        (vec![include(no()), include_any(no())], false),
        (vec![exclude(yes())], false),
        (vec![exclude(no())], true),
        (vec![exclude(on_resource("till"))], false),
        (vec![exclude(on_resource("shop"))], true),
        (vec![exclude(yes()), include(yes())], false),
        (vec![exclude(yes()), include_any(yes())], false),
        (vec![exclude(no()), include(yes())], true),
        (vec![exclude(no()), include_any(no())], false),
        (vec![exclude(no()), include(no()), include_any(yes())], true),
        (vec![FilterPolicy { include: Some(yes()), include_any: Some(no()), exclude: Some(yes()) }], false),
        (vec![FilterPolicy { include: Some(no()), include_any: Some(yes()), exclude: Some(no()) }], true),
    ];
    for (policies, expected) in table {
        assert_eq!(keeps(&policies), expected, "{policies:?}");
    }
}

#[test]
fn a_resource_without_attributes_matches_no_condition_on_resources() {
    let (_, span) = till();
    let filter = Filter::new(&[include(regex("resource.service.name", ".*"))]).expect("valid");
    assert!(!judge(&filter, vec![], span.clone()));
    let filter = Filter::new(&[exclude(regex("resource.service.name", ".*"))]).expect("valid");
    assert!(judge(&filter, vec![], span));
}

/// The words of the error for a block.
fn refused(policies: &[FilterPolicy]) -> FilterError {
    Filter::new(policies).expect_err("a wrong policy")
}

#[test]
fn a_wrong_key_is_refused_with_the_remedy() {
    for key in [
        "",
        "duration",
        "span:duration",
        "event.foo",
        "event:name",
        "link.foo",
        "instrumentation.foo",
        ".foo",
        "foo",
        "span.",
        "resource.",
        "span.\"\"",
        "span.\"open",
        "span.a b",
        "span.\"a\\n\"",
        "parent.foo",
        "resource:foo",
    ] {
        let error = refused(&[include(strict("name", text("x"))), exclude(strict(key, text("x")))]);
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("policy 2, exclude, key `{key}`: ")), "{shown}");
        let remedies = ["write `span.NAME`, `resource.NAME`, `kind`", "add `\"`", "double quotes", "double it"];
        assert!(remedies.iter().any(|remedy| shown.contains(remedy)), "{shown}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_the_remedy() {
    let table = [
        (strict("kind", text("SERVER")), "`SERVER` is unknown; write one of SPAN_KIND_UNSPECIFIED,"),
        (strict("status", text("OK")), "`OK` is unknown; write one of STATUS_CODE_UNSET, STATUS_CODE_OK,"),
        (strict("kind", PolicyValue::Int(2)), "the value 2 is not text; put it in quotes"),
        (strict("name", PolicyValue::Bool(true)), "the value true is not text; put it in quotes"),
        (block(MatchType::Regex, &[("span.foo", PolicyValue::Float(1.5))]), "the value 1.5 is not text"),
        (regex("span.foo", "("), "`(` is not a valid regular expression; correct it: "),
        (regex("kind", "["), "`[` is not a valid regular expression; correct it: "),
    ];
    for (m, problem) in table {
        let error = refused(&[include_any(m)]);
        assert_eq!((error.policy, error.block), (1, Some("include_any")));
        assert!(error.problem.starts_with(problem), "{error}");
    }
    let shown = refused(&[NOTHING]).to_string();
    assert_eq!(shown, "policy 1: it is empty; write `include`, `include_any` or `exclude`");
}

#[test]
fn more_blocks_on_resources_than_a_verdict_has_bits_are_refused() {
    let policies = |n| (0..n).map(|_| include(strict("resource.service.name", text("till")))).collect::<Vec<_>>();
    assert!(keeps(&policies(128)));
    let shown = refused(&policies(129)).to_string();
    assert!(shown.starts_with("policy 129, include: more than 128 blocks match resources; join"), "{shown}");
}

#[test]
fn the_policy_that_decides_is_named() {
    use super::Decision::{Excluded, Kept, NoneOfAny, NotIncluded};
    let (yes, no) = (|| strict("name", text("pay in cash")), || strict("name", text("pay")));
    let table = [
        (vec![exclude(no()), exclude(strict("resource.service.name", text("till")))], Excluded(1)),
        (vec![include(yes()), exclude(no()), include(no())], NotIncluded(2)),
        (vec![include_any(no()), include_any(no())], NoneOfAny),
        (vec![include_any(yes()), include(no())], Kept),
        (vec![include(yes())], Kept),
        (vec![include_any(no()), include(yes())], Kept),
    ];
    for (policies, expected) in table {
        assert_eq!(decided(&policies), expected);
        assert_eq!(keeps(&policies), expected == Kept);
    }
}
