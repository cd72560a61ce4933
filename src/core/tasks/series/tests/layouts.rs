//! What becomes of a live set when it is counted in another way.

use super::lifecycle::One;
use super::*;
use crate::core::model::Unit;

const STALE: u64 = decode::STALE_MARKER;
const S: u64 = 1_000_000_000;

fn native(schema: i8) -> How {
    How { classic: false, native: Some(Native { schema, max_buckets: 100 }), ..CLASSIC }
}

fn otel() -> How {
    How { naming: Naming::Otel { namespace: "traces.span.metrics".to_owned(), unit: Unit::Milliseconds }, ..CLASSIC }
}

/// A shard whose source counts in one way at first and in another one from then on.
fn changed(first: How, seen: &[Seen], then: How) -> One {
    let mut one = One::new(settings());
    (one.source.how, one.source.bounds) = (first, vec![S, 2 * S]);
    one.step(10 * W, seen);
    one.source.how = then;
    one
}

fn said_at(one: &mut One, step: Millis, seen: &[Seen]) -> BTreeMap<String, Vec<(Millis, u64)>> {
    let closed = one.step(step, seen);
    assert_eq!(closed.len(), 1);
    closed[0].1.iter().map(|(key, said)| (key.clone(), said.0.clone())).collect()
}

fn key(metric: &str) -> String {
    format!("t {metric}{{service=\"a\"}}")
}

fn bucket(base: &str, le: &str) -> String {
    format!("t {base}_bucket{{le=\"{le}\",service=\"a\"}}")
}

fn bits(v: f64) -> u64 {
    v.to_bits()
}

#[test]
fn a_live_set_becomes_a_native_histogram_without_losing_a_count() {
    let mut one = changed(CLASSIC, &[span("a", S), span("a", 2 * S), span("a", 9 * S)], native(0));
    let said = said_at(&mut one, 11 * W, &[span("a", S / 2)]);
    let base = "traces_spanmetrics_latency";
    for gone in [key(&format!("{base}_sum")), key(&format!("{base}_count")), bucket(base, "1"), bucket(base, "+Inf")] {
        assert_eq!(said[&gone], [(11 * W, STALE)], "{gone}");
    }
    // It starts with the whole past. What was above the last bound is in the bucket above it.
    let counts = [(-1, 1.0), (0, 1.0), (1, 1.0), (2, 1.0)].map(|(index, n)| (index, bits(n)));
    let had = [&[(11 * W - 1, bits(12.0)), (0, 0)], &counts[1..]].concat();
    assert_eq!(said[&key(base)], [&*had, &[(11 * W, bits(12.5)), (0, 0)], counts.as_slice()].concat());
    assert_eq!(said[&key("traces_spanmetrics_calls_total")], [(11 * W, bits(4.0))]);
    assert_eq!(said.len(), 2 + 1 + 5);
    assert_eq!(said_at(&mut one, 12 * W, &[]).len(), 3, "markers come once");
}

#[test]
fn a_live_native_histogram_becomes_classic_buckets_without_losing_a_count() {
    let mut one = changed(native(0), &[span("a", S), span("a", S + 1), span("a", 9 * S)], CLASSIC);
    let said = said_at(&mut one, 11 * W, &[span("a", S)]);
    let base = "traces_spanmetrics_latency";
    assert_eq!(said[&key(base)], [(11 * W, STALE)]);
    let values = [bucket(base, "1"), bucket(base, "2"), bucket(base, "+Inf"), key(&format!("{base}_count"))];
    let grown = |v: f64| vec![(11 * W - 1, bits(v - 1.0)), (11 * W, bits(v))];
    assert_eq!(values.map(|key| said[&key].clone()), [2.0, 3.0, 4.0, 4.0].map(grown));
    assert_eq!(said[&key("traces_spanmetrics_calls_total")], [(11 * W, bits(4.0))], "it goes on");
}

#[test]
fn new_names_end_the_old_ones_and_take_their_values_over() {
    let mut one = changed(CLASSIC, &[span("a", S)], otel());
    let said = said_at(&mut one, 11 * W, &[span("a", 2 * S)]);
    let old = said.iter().filter(|(key, _)| key.contains("spanmetrics"));
    assert_eq!(old.map(|(_, samples)| samples.clone()).collect::<Vec<_>>(), vec![vec![(11 * W, STALE)]; 7]);
    let base = "traces_span_metrics_duration_milliseconds";
    let is = |had: f64, v: f64| vec![(11 * W - 1, bits(had)), (11 * W, bits(v))];
    assert_eq!(said[&key("traces_span_metrics_calls_total")], is(1.0, 2.0));
    assert_eq!(said[&key("traces_span_metrics_size_total")], is(100.0, 200.0));
    assert_eq!(said[&key(&format!("{base}_sum"))], is(1_000.0, 3_000.0));
    assert_eq!((&said[&bucket(base, "1000")], &said[&bucket(base, "2000")]), (&is(1.0, 1.0), &is(1.0, 2.0)));
    assert_eq!(said.len(), 14);
}

#[test]
fn series_that_come_with_a_new_layout_between_two_writes_start_at_what_the_old_ones_had() {
    let mut config = Config::default();
    config.core.series.interval = 4 * W;
    let tenants = TenantBook::from(&Tenants::from(config));
    let slow = || SeriesSettings { tenants: tenants.clone(), ..settings() };
    let mut one = One::new(slow());
    (one.source.how, one.source.bounds) = (otel(), vec![S, 2 * S]);
    one.step(11 * W, &[span("a", S)]);
    one.step(12 * W, &[span("a", 2 * S)]);
    one.source.bounds = vec![2 * S, 3 * S];
    one.step(13 * W, &[span("a", 3 * S)]);
    one.task = SeriesTask::restore(slow(), &one.task.snapshot()).expect("our own snapshot");
    let closed = one.step(16 * W, &[span("a", S)]);
    let said = &closed.last().expect("closes").1;
    let base = "traces_span_metrics_duration_milliseconds";
    let le = |le: &str| said[&bucket(base, le)].0.clone();
    assert_eq!(le("3000"), [(16 * W - 1, bits(2.0)), (16 * W, bits(4.0))], "new");
    assert_eq!(le("2000"), [(16 * W, bits(3.0))], "its receiver has it");
    assert_eq!(said[&key("traces_span_metrics_calls_total")].0, [(16 * W, bits(4.0))]);
}

#[test]
fn a_set_that_returns_with_another_layout_starts_at_what_it_had() {
    let mut one = changed(CLASSIC, &[span("a", S), span("a", 2 * S)], otel());
    // Cold, and not forgotten.
    let closed = one.step(16 * W, &[span("a", S)]);
    let said = &closed.last().expect("closes").1;
    let start = |key: String| said[&key].0.clone();
    let is = |had: f64, v: f64| [(16 * W - 1, bits(had)), (16 * W, bits(v))];
    assert_eq!(start(key("traces_span_metrics_calls_total")), is(2.0, 3.0));
    assert_eq!(start(bucket("traces_span_metrics_duration_milliseconds", "1000")), is(1.0, 2.0));
    assert!(!said.contains_key(&key("traces_spanmetrics_calls_total")), "it has ended before");
}

#[test]
fn series_of_a_new_layout_start_before_all_steps_that_close_together() {
    let mut one = changed(CLASSIC, &[span("a", S)], CLASSIC);
    // One step in the old layout and one in the new one, closed on stall timeout.
    one.source.see(&span("a", S));
    let mut delta_records = one.source.cut(11 * W, 11 * W);
    one.source.how = otel();
    one.source.see(&span("a", S));
    delta_records.extend(one.source.cut(12 * W, 12 * W));
    for delta_record in delta_records {
        assert_eq!(one.task.apply(&delta_record).expect("a delta record").lost, 0);
    }
    let said = said(&one.task.close(12 * W));
    let calls = &said[&key("traces_span_metrics_calls_total")].0;
    assert_eq!(*calls, [(12 * W - 1, bits(1.0)), (12 * W, bits(3.0))]);
}

#[test]
fn new_buckets_of_the_same_names_end_only_the_les_that_are_gone() {
    let mut one = changed(otel(), &[span("a", S)], otel());
    one.source.bounds = vec![2 * S, 3 * S];
    let said = said_at(&mut one, 11 * W, &[span("a", 2 * S)]);
    let stale: Vec<_> = said.iter().filter(|(_, s)| s[0].1 == STALE).map(|(key, _)| key.clone()).collect();
    assert_eq!(stale, [bucket("traces_span_metrics_duration_milliseconds", "1000")]);
}

#[test]
fn calls_and_latency_of_different_raw_keys_are_one_set_for_good() {
    let apart = How { apart: true, ..CLASSIC };
    let mut one = One::new(settings());
    one.source.how = apart.clone();
    let quiet = |counts, ns: &[u64]| Seen { counts, ns: ns.to_vec(), ..span("a", 0) };
    // By turns: only the calls, then only the latency, each sent in full again by a source that remembers nothing.
    for step in 10..30 {
        one.source.table = DeltaTable::new(settings().stale_after);
        let seen = if step % 2 == 0 { quiet([1, 100], &[]) } else { quiet([0, 0], &[150]) };
        let said = said_at(&mut one, step * W, &[seen]);
        assert!(said.values().all(|samples| samples.iter().all(|s| s.1 != STALE)), "step {step}: {said:?}");
        assert_eq!(said.len(), if step == 10 { 2 } else { 8 });
        let calls = (step - 10) / 2 + 1;
        assert_eq!(said[&key("traces_spanmetrics_calls_total")].last(), Some(&(step * W, bits(calls as f64))));
        if step > 10 {
            let latency = (step - 9) / 2;
            let count = &said[&key("traces_spanmetrics_latency_count")];
            assert_eq!(count.last(), Some(&(step * W, bits(latency as f64))));
            assert_eq!(count.len(), if step == 11 { 2 } else { 1 }, "a zero before its first value only");
        }
    }
}

#[test]
fn a_set_that_begins_anew_forgets_the_histogram_that_it_no_longer_has() {
    let mut one = changed(CLASSIC, &[span("a", S)], How { apart: true, ..CLASSIC });
    // Beyond the memory of the set.
    one.source.table = DeltaTable::new(settings().stale_after);
    let closed = one.step(30 * W, &[Seen { ns: Vec::new(), ..span("a", 0) }]);
    let said = &closed.last().expect("closes").1;
    assert_eq!(said[&key("traces_spanmetrics_calls_total")].0, [(30 * W - 1, 0), (30 * W, bits(1.0))]);
    assert_eq!(said.len(), 2);
}

#[test]
fn weights_stay_when_a_worker_without_them_is_still_at_work() {
    let weighted = How { weighted: true, ..CLASSIC };
    let half = Seen { weight: Weight::from_ratio(0.4).expect("a weight"), ..span("a", S) };
    let mut one = changed(weighted, &[half], CLASSIC);
    let said = said_at(&mut one, 11 * W, &[span("a", S)]);
    assert_eq!(said[&key("traces_spanmetrics_calls_total")], [(11 * W, bits(3.5))]);
    assert_eq!(said[&key("traces_spanmetrics_latency_sum")], [(11 * W, bits(3.5))]);
    assert_eq!(said[&bucket("traces_spanmetrics_latency", "1")], [(11 * W, bits(3.5))]);
}

#[test]
fn a_native_histogram_tells_its_ten_latest_exemplars_by_ascending_time() {
    let mut one = One::new(settings());
    one.source.how = native(3);
    let example = |i: u64, at| Seen { example: Some((at, [i as u8; 16])), ..span("a", 1 << (2 * i)) };
    // Two at the same time, of which one may be sent.
    let seen: Vec<_> = (1..=14).map(|i| example(i, 9_000 + i as i64 / 2 * 2)).collect();
    let closed = one.step(10 * W, &seen);
    let told = &closed[0].1[&key("traces_spanmetrics_latency")].1;
    assert_eq!(told.iter().map(|e| e.0).collect::<Vec<_>>(), [9_000, 9_002, 9_004, 9_006, 9_008, 9_010, 9_012, 9_014]);
    let many: Vec<_> = (1..=14).map(|i| example(i, 10_000 + i as i64)).collect();
    let told = one.step(11 * W, &many)[0].1[&key("traces_spanmetrics_latency")].1.clone();
    assert_eq!(told.iter().map(|e| e.0).collect::<Vec<_>>(), (10_005..=10_014).collect::<Vec<_>>());
    assert_eq!(told.last().map(|e| e.1), Some(bits((1u64 << 28) as f64 / 1e9)));
    let again = one.step(12 * W, &many)[0].1[&key("traces_spanmetrics_latency")].1.clone();
    assert!(again.is_empty(), "told already: {again:?}");
}

#[test]
fn exemplars_have_the_unit_of_their_metric() {
    let mut one = One::new(with(|c| c.core.series.exemplars_on_counters = true));
    one.source.how = otel();
    let closed = one.step(10 * W, &[Seen { example: Some((9_000, [1; 16])), ..span("a", 1_500_000) }]);
    let told = |key: &str| closed[0].1[key].1.clone();
    assert_eq!(told(&bucket("traces_span_metrics_duration_milliseconds", "+Inf")), [(9_000, bits(1.5))]);
    assert_eq!(told(&key("traces_span_metrics_calls_total")), [(9_000, bits(1.5))]);
}

#[test]
fn a_counter_without_a_histogram_has_the_exemplars_that_it_was_given() {
    let settings = with(|c| c.core.series.exemplars_on_counters = true);
    let (mut task, mut source) = (SeriesTask::new(settings), Source::new(0, 3 * W));
    let event = Seen { family: Family::SpanEvents, ns: Vec::new(), counts: [1, 0], ..span("a", 0) };
    let id = source.find(&event, "", &[]);
    source.table.add(id, 0, 1);
    for at in [9_000, 9_500, 9_200] {
        source.table.exemplify(id, 0, S, Some((at, [1; 16])));
    }
    task.apply(&source.cut(10 * W, 10 * W)[0]).expect("a delta record");
    let said = said(&task.close(10 * W));
    assert_eq!(said[&key("traces_spanmetrics_events_total")].1, [(9_500, bits(1.0))]);
}
