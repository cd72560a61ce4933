//! Filters, and spans that stand for several.

use super::*;

fn block(match_type: MatchType, key: &str, value: &str) -> Option<PolicyMatch> {
    let attribute = PolicyAttribute { key: key.to_owned(), value: PolicyValue::Text(value.to_owned()) };
    Some(PolicyMatch { match_type, attributes: vec![attribute] })
}

#[test]
fn a_filter_decides_which_spans_count_and_the_rest_is_counted_apart() {
    let none = FilterPolicy { include: None, include_any: None, exclude: None };
    let policies = [
        (FilterPolicy { include: block(MatchType::Strict, "span.foo", "foo-value"), ..none.clone() }, 10),
        (FilterPolicy { include: block(MatchType::Strict, "span.nope", "foo-value"), ..none.clone() }, 0),
        (FilterPolicy { exclude: block(MatchType::Strict, "status", "STATUS_CODE_OK"), ..none.clone() }, 0),
        (FilterPolicy { include: block(MatchType::Regex, "kind", "SPAN_KIND_.*"), ..none.clone() }, 10),
        (FilterPolicy { exclude: block(MatchType::Strict, "resource.x", "y"), ..none }, 0),
    ];
    for (policy, counted) in policies {
        let mut config = target_info();
        config.core.span_metrics.filter_policies = vec![policy.clone()];
        let out = run(&config, &[ten(&[("x", "y")], &[("foo", "foo-value")])]);
        assert_eq!(out.ledger.get(Counter::SpansCounted), counted, "{policy:?}");
        assert_eq!(out.ledger.get(Counter::SpansDroppedFiltered), 10 - counted);
        assert_eq!(
            out.of(TARGET).len(),
            usize::from(counted > 0),
            "a resource whose spans are dropped is not described"
        );
    }
}

#[test]
fn a_sampled_span_counts_for_those_that_it_stands_for_and_its_size_does_not() {
    let mut config = config();
    config.core.span_metrics.tracestate_multiplier = true;
    let span = Span { trace_state: "vendor=x,ot=th:8".into(), ..ordinary(&[]) };
    let size = span.encoded_len();
    let out = run(&config, &[request(texts(&[("service.name", "test-service")]), vec![span])]);
    assert_eq!(out.of(CALLS), ["{} 2"]);
    assert_eq!(out.of(SIZE), [format!("{{}} {size}")]);
}

#[test]
fn a_ratio_on_the_span_or_on_its_resource_is_a_weight() {
    let mut config = config();
    config.core.span_metrics.multiplier_key = "kept".into();
    let ratio = |v| KeyValue { key: "kept".into(), value: any(Value::DoubleValue(v)), ..KeyValue::default() };
    let plain = ordinary(&[]);
    let weighed = Span { attributes: vec![ratio(0.5)], ..ordinary(&[]) };
    let resource = [texts(&[("service.name", "test-service")]), vec![ratio(0.25)]].concat();
    let out = run(&config, &[request(resource, vec![plain, weighed])]);
    assert_eq!(out.of(CALLS), ["{} 6"]);
}

/// Spans of two label sets, each kept with another probability: the threshold is given by its first two digits.
fn sampled() -> Vec<(&'static str, u64, u64, Span)> {
    let spans = (0..240_u64).map(|i| {
        let (label, threshold, took) = (["x", "y"][i as usize % 2], i * 7 % 256, i * 37_000_000 % SECOND);
        let span = Span {
            trace_state: format!("vendor=1,ot=th:{threshold:02x}"),
            end_time_unix_nano: SECOND + took,
            ..ordinary(&[("a", label)])
        };
        (label, threshold, took, span)
    });
    spans.collect()
}

#[test]
fn weights_add_up_to_the_same_whatever_the_order() {
    let mut config = config();
    config.core.span_metrics.dimensions = dimensions(&["a"]);
    config.core.span_metrics.tracestate_multiplier = true;
    let spans = sampled();
    let of = |spans: Vec<Span>| run(&config, &[request(texts(&[("service.name", "test-service")]), spans)]).values;
    let values = of(spans.iter().map(|(.., span)| span.clone()).collect());
    let turned = of(spans.iter().rev().map(|(.., span)| span.clone()).collect());
    assert!(values == turned, "the order of the spans shows");
    for label in ["x", "y"] {
        let mine = || spans.iter().filter(|(l, ..)| *l == label);
        let weight = |threshold: u64| 256.0 / (256 - threshold) as f64;
        let expected = [
            (CALLS.to_owned(), mine().map(|(_, th, ..)| weight(*th)).sum::<f64>()),
            (SIZE.to_owned(), mine().map(|(.., span)| span.encoded_len() as f64).sum()),
            (format!("{LATENCY}_count"), mine().map(|(_, th, ..)| weight(*th)).sum()),
            (format!("{LATENCY}_sum"), mine().map(|(_, th, ns, _)| weight(*th) * *ns as f64 / 1e9).sum()),
        ];
        for (name, value) in expected {
            let is_it = |(s, _): &(&Series, &f64)| s.name == name && s.labels.contains(&("a".into(), label.into()));
            let (_, found) = values.iter().find(is_it).expect("a series");
            assert!((found - value).abs() < 1e-6, "{name} of {label} is {found}, not {value}");
        }
    }
}
