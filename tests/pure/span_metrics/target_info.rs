//! The resource as a series: `traces_target_info`, `job` and `instance`.

use super::*;

#[test]
fn target_info_shows_the_resource_and_spans_get_job_and_instance() {
    let mut config = target_info();
    config.core.span_metrics.target_info_excluded = vec!["random.res.attr".into()];
    let resource = [
        ("job", "dummy-job"),
        ("instance", "dummy-instance"),
        ("service.instance.id", "i-1"),
        ("random.res.attr", "random"),
        ("cluster-id", "c"),
        ("target.ip", "1.2.3.4"),
        ("", "no name"),
        ("5xx", "a digit"),
        ("empty", ""),
    ];
    let out = run(&config, &[ten(&resource, &[])]);
    assert_eq!(out.of(CALLS), ["{instance=i-1 job=test-service} 10"]);
    let labels =
        "__instance=dummy-instance __job=dummy-job cluster_id=c instance=i-1 job=test-service target_ip=1.2.3.4";
    assert_eq!(out.of(TARGET), [format!("{{{labels}}} 1")]);
}

#[test]
fn without_the_switch_there_is_no_target_info_and_no_job() {
    let out = run(&config(), &[ten(&[("service.instance.id", "i-1"), ("x", "y")], &[])]);
    assert_eq!((out.of(CALLS), out.of(TARGET)), (vec!["{} 10".to_owned()], vec![]));
}

#[test]
fn the_job_has_the_namespace_in_front() {
    let out = run(&target_info(), &[ten(&[("service.namespace", "shop"), ("x", "y")], &[])]);
    assert_eq!(out.of(CALLS), ["{job=shop/test-service} 10"]);
    assert_eq!(out.of(TARGET), ["{job=shop/test-service x=y} 1"]);
    let out = run(&target_info(), &[ten(&[("service.namespace", "")], &[])]);
    assert_eq!(out.of(CALLS), ["{job=test-service} 10"]);
}

#[test]
fn a_namespace_without_a_name_makes_no_job() {
    let resource = texts(&[("service.namespace", "shop"), ("x", "y")]);
    let out = run(&target_info(), &[request(resource, vec![ordinary(&[])])]);
    assert_eq!(out.of(CALLS), ["{} 1"]);
    assert_eq!(out.of(TARGET), Vec::<String>::new(), "neither job nor instance");
}

#[test]
fn the_first_service_name_counts_and_may_be_no_string() {
    let flag = KeyValue { key: "service.name".into(), value: any(Value::BoolValue(false)), ..KeyValue::default() };
    let resource = [vec![flag], texts(&[("service.name", "later")])].concat();
    let out = run(&target_info(), &[request(resource, vec![ordinary(&[])])]);
    assert_eq!(out.of(CALLS), ["{job=false service=false} 1"]);
}

#[test]
fn target_info_needs_something_to_say() {
    for resource in [&[][..], &[("service.instance.id", "i-1")], &[("a", ""), ("b", "")], &[("", "x"), ("9", "y")]] {
        let out = run(&target_info(), &[ten(resource, &[])]);
        assert_eq!(out.of(TARGET), Vec::<String>::new(), "{resource:?}");
        assert_eq!(out.ledger.get(Counter::SpansCounted), 10);
    }
}

#[test]
fn of_resource_attributes_that_become_one_label_the_last_counts() {
    let out = run(&target_info(), &[ten(&[("a.b", "first"), ("a_b", "last")], &[])]);
    assert_eq!(out.of(TARGET), ["{a_b=last job=test-service} 1"]);
    let out = run(&target_info(), &[ten(&[("a.b", "first"), ("a_b", "")], &[])]);
    assert_eq!(out.of(TARGET), Vec::<String>::new());
}

#[test]
fn a_resource_attribute_named_like_a_reserved_label_is_shown_under_another_name() {
    let out = run(&target_info(), &[ten(&[("le", "1"), ("__name__", "x")], &[])]);
    assert_eq!(out.of(TARGET), ["{____name__=x __le=1 job=test-service} 1"]);
}

#[test]
fn resources_with_different_origins_are_different_series() {
    let other = [("service.namespace", "shop"), ("service.instance.id", "i-1"), ("x", "y")];
    let out = run(&target_info(), &[ten(&[("x", "y")], &[]), ten(&other, &[]), ten(&[("x", "y")], &[])]);
    assert_eq!(out.of(CALLS), ["{instance=i-1 job=shop/test-service} 10", "{job=test-service} 20"]);
    // Each record says again that the resource is there; it is there once.
    assert_eq!(out.of(TARGET), ["{instance=i-1 job=shop/test-service x=y} 1", "{job=test-service x=y} 1"]);
}

#[test]
fn without_the_instance_label_instances_are_one_series() {
    let instances = ["i-1", "i-2"].map(|id| ten(&[("service.instance.id", id), ("x", "y")], &[]));
    let mut config = target_info();
    let out = run(&config, &instances);
    assert_eq!((out.of(CALLS).len(), out.of(TARGET).len()), (2, 2));
    config.core.span_metrics.instance_label = false;
    let out = run(&config, &instances);
    assert_eq!(out.of(CALLS), ["{job=test-service} 20"]);
    assert_eq!(out.of(TARGET).len(), 1);
}

#[test]
fn job_and_instance_replace_dimensions_of_their_name_only_when_there_are_any() {
    let mut config = target_info();
    config.core.span_metrics.dimensions = dimensions(&["job", "instance"]);
    let out = run(&config, &[ten(&[], &[("job", "mine"), ("instance", "mine")])]);
    assert_eq!(out.of(CALLS), ["{instance=mine job=test-service} 10"]);
}

#[test]
fn a_resource_whose_spans_are_all_dropped_is_not_described() {
    let mut bytes = ten(&[("x", "y")], &[]).encode_to_vec();
    while let Some(at) = bytes.windows(5).position(|w| w == b"\x04test") {
        bytes[at + 1] = 0xff;
    }
    let settings = SpanSettings::from(&target_info());
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("starts");
    let record = Record { offset: 0, timestamp: 1_000, tenant: Some(TENANT), value: &bytes };
    assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    assert_eq!(task.ledger().get(Counter::SpansDroppedInvalidUtf8), 10);
    assert_eq!(task.label_sets(), 0);
}

#[test]
fn a_resource_is_described_even_when_nothing_is_counted() {
    let mut config = target_info();
    (config.core.span_metrics.calls, config.core.span_metrics.latency, config.core.span_metrics.size) =
        (false, false, false);
    let out = run(&config, &[ten(&[("x", "y")], &[])]);
    assert_eq!(out.values.keys().map(|s| s.name.as_str()).collect::<Vec<_>>(), [TARGET]);
}

#[test]
fn a_resource_attribute_that_is_no_text_drops_the_info_and_not_the_spans() {
    let mut bytes = ten(&[("x", "MARK")], &[]).encode_to_vec();
    let at = bytes.windows(4).position(|w| w == b"MARK").expect("there");
    bytes[at] = 0xff;
    let settings = SpanSettings::from(&target_info());
    let mut task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("starts");
    let record = Record { offset: 0, timestamp: 1_000, tenant: Some(TENANT), value: &bytes };
    assert!(matches!(task.offer(&record, 1_000), Offer::Taken));
    assert_eq!(task.ledger().get(Counter::InfoDroppedInvalidUtf8), 1);
    assert_eq!(task.ledger().get(Counter::SpansCounted), 10);
}
