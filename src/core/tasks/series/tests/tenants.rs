//! What one tenant may have otherwise than the others.

use super::lifecycle::One;
use super::*;

const STALE: u64 = decode::STALE_MARKER;

/// The settings, with a change for one tenant.
fn own(tenant: &str, change: impl FnOnce(&mut Config)) -> SeriesSettings {
    let mut config = Config::default();
    change(&mut config);
    let defaults = Arc::new(Config::default());
    let tenants = Tenants::new(defaults, [(tenant.to_owned(), Arc::new(config))].into());
    SeriesSettings { tenants: TenantBook::from(&tenants), ..settings() }
}

fn of(tenant: &'static str) -> Seen {
    Seen { tenant, ..span("a", 150) }
}

/// The samples of `calls` of a tenant.
fn calls(said: &[(Millis, BTreeMap<String, Said>)], tenant: &str) -> Vec<(Millis, u64)> {
    let key = format!(r#"{tenant} traces_spanmetrics_calls_total{{service="a"}}"#);
    said.iter().filter_map(|(_, said)| said.get(&key)).flat_map(|said| said.0.clone()).collect()
}

fn bits(v: f64) -> u64 {
    v.to_bits()
}

#[test]
fn a_tenant_with_an_interval_is_written_at_its_multiples_and_loses_no_increase() {
    let mut one = One::new(own("slow", |c| c.core.series.interval = 4 * W));
    let mut said = Vec::new();
    for step in 10..=17 {
        let seen = if step < 12 { vec![of("slow"), of("t")] } else { vec![of("t")] };
        said.extend(one.step(step * W, &seen));
    }
    // Begun at 10, written at 12 and 16 only, the zero with the first value; gone at 14, in the middle.
    assert_eq!(calls(&said, "slow"), [(12 * W - 1, 0), (12 * W, bits(2.0)), (14 * W, STALE)]);
    assert_eq!(calls(&said, "t").len(), 9, "the others are written at every step");
}

#[test]
fn a_series_that_comes_back_between_two_writes_starts_at_what_its_receiver_has() {
    let slow = || own("slow", |c| c.core.series.interval = 4 * W);
    let mut one = One::new(slow());
    // Written at 12, gone at 14, back at 17, written again at 20.
    let mut said = Vec::new();
    for (step, n) in [(11, 2), (12, 1), (13, 0), (14, 0), (15, 0), (16, 0), (17, 3), (18, 1), (19, 0), (20, 1), (21, 0)]
    {
        said.extend(one.step(step * W, &vec![of("slow"); n]));
        let snapshot = one.task.snapshot();
        one.task = SeriesTask::restore(slow(), &snapshot).expect("our own snapshot");
        assert_eq!(one.task.snapshot(), snapshot, "step {step}");
    }
    let [begun, ended] = [vec![(12 * W - 1, 0), (12 * W, bits(3.0))], vec![(15 * W, STALE)]];
    let back = vec![(20 * W - 1, bits(3.0)), (20 * W, bits(8.0))];
    assert_eq!(calls(&said, "slow"), [begun, ended, back].concat());
}

#[test]
fn a_series_that_comes_back_while_its_receiver_is_down_starts_at_what_the_receiver_has() {
    let mut one = One::new(settings());
    one.step(10 * W, &[of("t")]);
    one.step(13 * W, &[]);
    let close = |one: &mut One, step: Millis, n: usize, left_out: &[String]| {
        (0..n).for_each(|_| one.source.see(&of("t")));
        one.task.apply(&one.source.cut(step * W, step * W)[0]).expect("a delta record");
        (step * W, said(&one.task.close_without(step * W, left_out)))
    };
    let down = ["t".to_owned()];
    let mut told = vec![close(&mut one, 15, 3, &down)];
    // It ends and comes back once more in the meantime.
    told.extend((16..=19).map(|step| close(&mut one, step, 0, &down)));
    told.push(close(&mut one, 20, 2, &down));
    told.push(close(&mut one, 21, 1, &[]));
    told.push(close(&mut one, 22, 1, &[]));
    let expected = [(21 * W - 1, bits(1.0)), (21 * W, bits(7.0)), (22 * W, bits(8.0))];
    assert_eq!(calls(&told, "t"), expected);
}

#[test]
fn a_series_that_comes_back_unwritten_goes_on_without_a_jump() {
    let mut one = One::new(own("t", |c| c.core.series.write = false));
    one.step(10 * W, &[of("t")]);
    one.step(15 * W, &[of("t")]);
    one.task.adopt(settings());
    let said = one.step(16 * W, &[of("t")]);
    assert_eq!(calls(&said, "t"), [(16 * W, bits(3.0))]);
}

#[test]
fn a_series_that_ends_before_it_was_written_needs_no_marker() {
    let mut one = One::new(own("slow", |c| c.core.series.interval = 100 * W));
    let mut said = one.step(10 * W, &[of("slow")]);
    for step in 11..=15 {
        said.extend(one.step(step * W, &[]));
    }
    assert!(said.iter().all(|(_, said)| said.is_empty()), "{said:?}");
}

#[test]
fn a_tenant_that_is_not_written_goes_on_counting_and_comes_back_without_a_jump() {
    let mut one = One::new(own("t", |c| c.core.series.write = false));
    let mut said = one.step(10 * W, &[of("t"), of("u")]);
    assert!(calls(&said, "t").is_empty());
    assert_eq!(calls(&said, "u").len(), 2);
    assert_eq!(one.task.active_series(), 16);
    one.task.adopt(settings());
    said = one.step(11 * W, &[of("t")]);
    assert_eq!(calls(&said, "t"), [(11 * W, bits(2.0))], "no zero: the receiver must see no sudden increase");
}

#[test]
fn a_tenant_that_is_left_out_of_steps_has_all_its_totals_afterwards() {
    let mut one = One::new(settings());
    let mut said = one.step(10 * W, &[of("t")]);
    let left_out = ["t".to_owned()];
    for step in 11..=12 {
        one.source.see(&of("t"));
        one.source.see(&Seen { service: "b".to_owned(), ..of("t") });
        one.source.see(&of("u"));
        one.task.apply(&one.source.cut(step * W, step * W)[0]).expect("a delta record");
        let closed = one.task.close_without(step * W, &left_out);
        assert_eq!(closed.batches.iter().map(|b| &*b.tenant).collect::<Vec<_>>(), ["u"]);
    }
    said.extend(one.step(13 * W, &[]));
    assert_eq!(calls(&said, "t"), [(10 * W - 1, 0), (10 * W, bits(1.0)), (13 * W, bits(3.0))]);
    let begun = r#"t traces_spanmetrics_calls_total{service="b"}"#;
    assert_eq!(said[1].1[begun].0, [(13 * W - 1, 0), (13 * W, bits(2.0))], "its zero comes with its first value");
}

#[test]
fn a_series_that_ends_while_its_tenant_is_left_out_makes_no_batch() {
    let mut one = One::new(settings());
    one.step(10 * W, &[of("t")]);
    for step in 11..=14 {
        one.task.apply(&one.source.cut(step * W, step * W)[0]).expect("a delta record");
        assert!(one.task.close_without(step * W, &["t".to_owned()]).batches.is_empty());
    }
}

#[test]
fn labels_come_from_the_tenants_own_settings() {
    let mut one = One::new(own("t", |c| {
        c.core.series.tenant_label = "tenant".to_owned();
        c.core.series.external_labels =
            [("zone", "1"), ("tenant", "x")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    }));
    let said = &one.step(10 * W, &[of("t"), of("u")])[0].1;
    for key in [
        "t traces_spanmetrics_calls_total{service=\"a\",tenant=\"t\",zone=\"1\"}",
        "u traces_spanmetrics_calls_total{service=\"a\"}",
    ] {
        assert!(said.contains_key(key), "{key} is not among {:?}", said.keys());
    }
}

#[test]
fn exemplars_are_a_matter_of_the_tenant_and_may_stand_next_to_calls() {
    let mut one = One::new(own("t", |c| c.core.series.exemplars = false));
    let with_example = |tenant, at| Seen { example: Some((at, [7; 16])), ..of(tenant) };
    let said = &one.step(10 * W, &[with_example("t", 9_500), with_example("u", 9_500)])[0].1;
    let told = |tenant: &str| {
        said.iter()
            .filter(|(commit_number, _)| commit_number.starts_with(tenant))
            .map(|(_, s)| s.1.len())
            .sum::<usize>()
    };
    assert_eq!((told("t "), told("u ")), (0, 1));
    let mut one = One::new(with(|c| c.core.series.exemplars_on_counters = true));
    let said = &one.step(10 * W, &[with_example("t", 9_500), with_example("t", 9_600)])[0].1;
    let key = r#"t traces_spanmetrics_calls_total{service="a"}"#;
    assert_eq!(said[key].1, [(9_600, bits(150.0 / 1e9))]);
    let said = &one.step(11 * W, &[with_example("t", 9_600)])[0].1;
    assert!(said.values().all(|s| s.1.is_empty()), "not later than the last one");
}

#[test]
fn a_snapshot_knows_nothing_of_what_tenants_are_called_or_sent() {
    let run = |settings| {
        let mut one = One::new(settings);
        for step in 10..=15 {
            one.step(step * W, &[of("t"), of("u")]);
        }
        one.task.snapshot()
    };
    let plain = run(settings());
    assert_eq!(plain, run(own("t", |c| c.core.series.write = false)));
    assert_eq!(plain, run(own("t", |c| c.core.series.tenant_label = "tenant".to_owned())));
}
