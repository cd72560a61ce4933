//! One rule per test.

use super::*;

const SPANS: &str = r#"t traces_spanmetrics_calls_total{service="a"}"#;
const STALE: u64 = decode::STALE_MARKER;

/// One source, one shard.
pub(super) struct One {
    pub(super) task: SeriesTask,
    pub(super) source: Source,
}

impl One {
    pub(super) fn new(settings: SeriesSettings) -> Self {
        let source = Source::new(0, settings.stale_after);
        Self { task: SeriesTask::new(settings), source }
    }

    /// Sees `seen` in the step that ends at `step`, passes it, and returns what was closed on the way.
    pub(super) fn step(&mut self, step: Millis, seen: &[Seen]) -> Vec<(Millis, BTreeMap<String, Said>)> {
        for x in seen {
            self.source.see(x);
        }
        let records = self.source.cut(step, step);
        run(&mut self.task, 1, &records).iter().map(|closed| (closed.step, said(closed))).collect()
    }
}

fn value(said: &BTreeMap<String, Said>, key: &str) -> Vec<(Millis, u64)> {
    said.get(key).unwrap_or_else(|| panic!("{key} is not among {:?}", said.keys())).0.clone()
}

fn bits(v: f64) -> u64 {
    v.to_bits()
}

#[test]
fn a_new_series_starts_with_a_zero_just_before_its_first_value() {
    let mut one = One::new(settings());
    let closed = one.step(10 * W, &[span("a", 150), span("a", 90)]);
    assert_eq!(closed.len(), 1);
    let said = &closed[0].1;
    let started = |v: f64| vec![(10 * W - 1, 0), (10 * W, bits(v))];
    assert_eq!(value(said, SPANS), started(2.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_size_total{service="a"}"#), started(200.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_count{service="a"}"#), started(2.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_sum{service="a"}"#), started(240.0 / 1e9));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_bucket{le="0.0000001",service="a"}"#), started(1.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_bucket{le="0.0000002",service="a"}"#), started(2.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_bucket{le="+Inf",service="a"}"#), started(2.0));
    assert_eq!(said.len(), 8);
    assert_eq!(one.task.active_series(), 8);
}

#[test]
fn zeros_can_be_moved_and_switched_off() {
    for (offset, expected) in [(500, vec![(10 * W - 500, 0), (10 * W, bits(1.0))]), (0, vec![(10 * W, bits(1.0))])] {
        let mut one = One::new(SeriesSettings { zero_offset: offset, ..settings() });
        assert_eq!(value(&one.step(10 * W, &[span("a", 1)])[0].1, SPANS), expected);
    }
    let mut one = One::new(SeriesSettings { zero_offset: 10 * W, ..settings() });
    assert_eq!(value(&one.step(10 * W, &[span("a", 1)])[0].1, SPANS).len(), 1, "a zero at the epoch is refused");
}

#[test]
fn a_counter_that_was_never_above_zero_makes_no_series() {
    let failed = r#"t traces_service_graph_request_failed_total{service="a"}"#;
    let edge = |failed| Seen { family: Family::ServiceGraph, counts: [1, failed], ns: vec![1, 2], ..span("a", 0) };
    let mut one = One::new(settings());
    assert!(!one.step(10 * W, &[edge(0)])[0].1.contains_key(failed));
    let said = &one.step(11 * W, &[edge(1)])[0].1;
    assert_eq!(value(said, failed), [(11 * W - 1, 0), (11 * W, bits(1.0))]);
    assert_eq!(said.len(), 2 + 2 * 6);
}

#[test]
fn a_quiet_set_stays_flat_then_ends_and_then_time_jumps() {
    let mut one = One::new(settings());
    one.step(10 * W, &[span("a", 1)]);
    let closed = one.step(60 * W, &[span("b", 1)]);
    let steps: Vec<_> = closed.iter().map(|c| c.0 / W).collect();
    assert_eq!(steps, [11, 12, 13, 60]);
    assert_eq!(value(&closed[0].1, SPANS), [(11 * W, bits(1.0))]);
    assert_eq!(value(&closed[2].1, SPANS), [(13 * W, STALE)]);
    assert_eq!(closed[2].1.len(), 8);
    assert!(!closed[3].1.contains_key(SPANS));
}

#[test]
fn a_set_that_returns_from_the_cold_says_what_it_had_just_before_it_goes_on() {
    let mut one = One::new(settings());
    one.step(10 * W, &[span("a", 150), span("a", 90)]);
    let closed = one.step(17 * W, &[span("a", 50)]);
    let said = &closed.last().expect("closes").1;
    let went_on = |had: f64, v: f64| vec![(17 * W - 1, bits(had)), (17 * W, bits(v))];
    assert_eq!(value(said, SPANS), went_on(2.0, 3.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_size_total{service="a"}"#), went_on(200.0, 300.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_count{service="a"}"#), went_on(2.0, 3.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_sum{service="a"}"#), went_on(240.0 / 1e9, 290.0 / 1e9));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_bucket{le="0.0000001",service="a"}"#), went_on(1.0, 2.0));
    assert_eq!(value(said, r#"t traces_spanmetrics_latency_bucket{le="+Inf",service="a"}"#), went_on(2.0, 3.0));
    assert_eq!(said.len(), 8);
    let after = &one.step(18 * W, &[span("a", 50)])[0].1;
    assert_eq!(value(after, SPANS), [(18 * W, bits(4.0))], "said once");
}

#[test]
fn a_set_that_returns_in_the_step_after_its_marker_starts_between_the_two() {
    let mut one = One::new(SeriesSettings { zero_offset: W - 1, ..settings() });
    one.step(10 * W, &[span("a", 1)]);
    assert_eq!(value(&one.step(13 * W, &[])[2].1, SPANS), [(13 * W, STALE)]);
    let said = &one.step(14 * W, &[span("a", 1)])[0].1;
    assert_eq!(value(said, SPANS), [(13 * W + 1, bits(1.0)), (14 * W, bits(2.0))]);
}

#[test]
fn a_counter_that_first_grows_in_a_set_that_returns_starts_at_zero() {
    let failed = r#"t traces_service_graph_request_failed_total{service="a"}"#;
    let all = r#"t traces_service_graph_request_total{service="a"}"#;
    let edge = |failed| Seen { family: Family::ServiceGraph, counts: [1, failed], ns: vec![1, 2], ..span("a", 0) };
    let mut one = One::new(settings());
    one.step(10 * W, &[edge(0)]);
    let closed = one.step(17 * W, &[edge(1)]);
    let said = &closed.last().expect("closes").1;
    assert_eq!(value(said, failed), [(17 * W - 1, 0), (17 * W, bits(1.0))]);
    assert_eq!(value(said, all), [(17 * W - 1, bits(1.0)), (17 * W, bits(2.0))]);
}

#[test]
fn nothing_stands_before_an_info() {
    let mut one = One::new(settings());
    one.source.how = How { apart: true, ..CLASSIC };
    let edge = Seen { family: Family::ServiceGraph, counts: [1, 0], ns: vec![1, 2], ..span("a", 0) };
    let info = r#"t traces_service_graph_connection_info{service="a"}"#;
    for step in [10, 17, 40] {
        let closed = one.step(step * W, std::slice::from_ref(&edge));
        assert_eq!(value(&closed.last().expect("closes").1, info), [(step * W, bits(1.0))]);
    }
}

#[test]
fn a_set_that_returns_after_it_was_forgotten_begins_at_zero() {
    let mut one = One::new(settings());
    one.step(10 * W, &[span("a", 1)]);
    let closed = one.step(18 * W, &[span("a", 1)]);
    assert_eq!(value(&closed.last().expect("closes").1, SPANS), [(18 * W - 1, 0), (18 * W, bits(1.0))]);
}

#[test]
fn forgotten_sets_free_their_memory() {
    let mut one = One::new(settings());
    one.step(10 * W, &[span("a", 1), span("b", 1)]);
    assert_eq!(one.task.label_sets(), 2);
    one.step(30 * W, &[span("c", 1)]);
    assert_eq!(one.task.label_sets(), 1);
}

#[test]
fn a_set_is_never_freed_while_a_slow_source_may_still_name_it() {
    let mut task = SeriesTask::new(settings());
    let (mut slow, mut fast) = (Source::new(0, settings().stale_after), Source::new(1, settings().stale_after));
    slow.see(&span("a", 1));
    for record in slow.cut(10 * W, 10 * W).iter().chain(&fast.cut(10 * W, 10 * W)) {
        task.apply(record).expect("a delta record");
    }
    // The slow source falls silent; everything is closed on stall timeout, far beyond any memory.
    for step in 10..100 {
        fast.see(&span("b", 1));
        task.apply(&fast.cut(step * W, step * W)[0]).expect("a delta record");
        assert_eq!(task.held_back_by(&sources(2)).0.is_some(), step > 10 || task.closed().is_none());
        task.close(step * W);
    }
    let mut task = SeriesTask::restore(settings(), &task.snapshot()).expect("our own snapshot");
    assert_eq!(task.label_sets(), 2);
    slow.see(&span("a", 1));
    let late = slow.cut(12 * W, 12 * W);
    let applied = task.apply(&late[0]).expect("a delta record");
    assert_eq!((applied.lost, applied.late), (0, true));
    let step = said(&task.close(100 * W));
    assert_eq!(value(&step, SPANS), [(100 * W - 1, 0), (100 * W, bits(1.0))]);
}

#[test]
fn late_deltas_go_to_the_oldest_open_step_and_totals_stay_exact() {
    let mut task = SeriesTask::new(settings());
    let (mut a, mut b) = (Source::new(0, 3 * W), Source::new(1, 3 * W));
    a.see(&span("a", 1));
    task.apply(&a.cut(10 * W, 10 * W)[0]).expect("a delta record");
    assert_eq!(task.closable(&sources(2)), None, "source 1 has not been heard");
    assert_eq!(task.held_back_by(&sources(2)), (Some(10 * W), vec![("spans".to_owned(), 1)]));
    task.close(10 * W);
    b.see(&span("a", 1));
    assert!(task.apply(&b.cut(10 * W, 10 * W)[0]).expect("a delta record").late);
    assert_eq!(value(&said(&task.close(11 * W)), SPANS), [(11 * W, bits(2.0))]);
    assert!(task.close(11 * W).batches.is_empty(), "a step closes once");
}

#[test]
fn a_delta_record_in_parts_moves_stream_time_with_its_last_part_only() {
    let mut source = Source::new(0, 3 * W);
    for i in 0..20_000 {
        source.see(&span(&format!("service-with-a-rather-long-name-{i}"), i));
    }
    let records = source.cut(10 * W, 10 * W);
    assert!(records.len() > 2);
    let mut task = SeriesTask::new(settings());
    for (i, record) in records.iter().enumerate() {
        assert_eq!(task.closable(&sources(1)), None);
        let complete = i + 1 == records.len();
        assert_eq!(task.apply(record).expect("a delta record").verdict, ChainVerdict::Accepted { complete });
        assert_eq!(task.apply(record).expect("a delta record").verdict, ChainVerdict::Duplicate);
    }
    let closed = task.close(task.closable(&sources(1)).expect("complete"));
    assert_eq!(closed.samples, 20_000 * 8 * 2);
    assert_eq!(closed.start_samples, 20_000 * 8);
    assert!(closed.batches[0].requests.iter().all(|r| r.samples <= 2_000 && r.series > 0));
}

#[test]
fn an_unknown_name_is_reported_and_the_rest_goes_on() {
    let mut source = Source::new(0, 3 * W);
    source.see(&span("a", 1));
    source.cut(10 * W, 10 * W);
    source.see(&span("a", 1));
    source.see(&span("b", 1));
    source.commit_number = 0;
    let mut task = SeriesTask::new(settings());
    let applied = task.apply(&source.cut(11 * W, 11 * W)[0]).expect("a delta record");
    assert_eq!(applied.lost, 1);
    assert!(matches!(applied.first_lost, Some(AddError::Unknown(_))));
    let said = said(&task.close(11 * W));
    assert!(!said.contains_key(SPANS));
    assert_eq!(said.len(), 8, "the set that was spelled");
}

#[test]
fn exemplars_are_attached_to_their_bucket_and_never_go_back_in_time() {
    let example = |ns, at, id| Seen { example: Some((at, [id; 16])), ..span("a", ns) };
    let low = r#"t traces_spanmetrics_latency_bucket{le="0.0000001",service="a"}"#;
    let high = r#"t traces_spanmetrics_latency_bucket{le="+Inf",service="a"}"#;
    let mut one = One::new(settings());
    let s = &one.step(10 * W, &[example(50, 9_000, 1), example(60, 9_500, 2), example(9_999, 9_100, 3)])[0].1;
    assert_eq!(s[low].1, [(9_500, bits(60.0 / 1e9))]);
    assert_eq!(s[high].1, [(9_100, bits(9_999.0 / 1e9))]);
    let s = &one.step(11 * W, &[example(50, 9_500, 9), example(9_999, 9_501, 3)])[0].1;
    assert_eq!((s[low].1.len(), s[high].1.len()), (0, 1), "not later than the histogram's last one");
    let s = &one.step(12 * W, &[example(50, 12 * W + 300_001, 9), example(9_999, -5, 3)])[0].1;
    assert_eq!((s[low].1.len(), s[high].1.len()), (0, 0), "too far ahead; before the epoch");
    assert!(one.step(13 * W, &[])[0].1.values().all(|s| s.1.is_empty()), "told once");
    let mut off = One::new(with(|c| c.core.series.exemplars = false));
    assert!(off.step(10 * W, &[example(50, 9_000, 1)])[0].1.values().all(|s| s.1.is_empty()));
}

#[test]
fn trace_ids_are_32_hex_characters_under_the_configured_label() {
    let mut one = One::new(with(|c| c.core.series.exemplar_label = "trace_id".to_owned()));
    one.source.see(&Seen { example: Some((9_000, 0x1a2b_u128.to_be_bytes())), ..span("a", 1) });
    one.task.apply(&one.source.cut(10 * W, 10 * W)[0]).expect("a delta record");
    let closed = one.task.close(10 * W);
    let body = decode::body(&closed.batches[0].requests[0].body).expect("decodes");
    let exemplar = body.timeseries.iter().find_map(|s| s.exemplars.first()).expect("one");
    assert_eq!(decode::text(&exemplar.labels), r#"{trace_id="00000000000000000000000000001a2b"}"#);
}

#[test]
fn external_labels_are_added_in_order_and_replace_what_was_there() {
    let external = [("A", "x"), ("cluster", "eu"), ("service", "all"), ("zone", "1"), ("gone", "")];
    let external_labels = external.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let mut one = One::new(with(|c| c.core.series.external_labels = external_labels));
    let said = &one.step(10 * W, &[span("a", 1)])[0].1;
    assert!(said.contains_key(r#"t traces_spanmetrics_calls_total{A="x",cluster="eu",service="all",zone="1"}"#));
    let le = r#"t traces_spanmetrics_latency_bucket{A="x",cluster="eu",le="+Inf",service="all",zone="1"}"#;
    assert!(said.contains_key(le), "{:?}", said.keys());
}

#[test]
fn tenants_get_batches_of_their_own_in_order() {
    let mut one = One::new(settings());
    for tenant in ["z", "b", "t"] {
        one.source.see(&Seen { tenant, ..span("a", 1) });
    }
    one.task.apply(&one.source.cut(10 * W, 10 * W)[0]).expect("a delta record");
    let closed = one.task.close(10 * W);
    assert_eq!(closed.batches.iter().map(|b| &*b.tenant).collect::<Vec<_>>(), ["b", "t", "z"]);
}

#[test]
fn new_buckets_take_over_the_old_counts_and_vanished_ones_end() {
    let bucket = |le: &str| format!(r#"t traces_spanmetrics_latency_bucket{{le="{le}",service="a"}}"#);
    let mut one = One::new(settings());
    one.step(10 * W, &[span("a", 50), span("a", 150), span("a", 300)]);
    let mut other = Source { bounds: vec![150, 200], commit_number: one.source.commit_number, ..Source::new(0, 3 * W) };
    std::mem::swap(&mut one.source, &mut other);
    let s = &one.step(11 * W, &[span("a", 120)])[0].1;
    assert_eq!(value(s, &bucket("0.0000001")), [(11 * W, STALE)]);
    assert_eq!(value(s, &bucket("0.0000004")), [(11 * W, STALE)]);
    let past = [(11 * W - 1, bits(1.0)), (11 * W, bits(2.0))];
    assert_eq!(value(s, &bucket("0.00000015")), past, "its first value holds its past, and starts with it");
    assert_eq!(value(s, &bucket("0.0000002")), [(11 * W, bits(3.0))]);
    assert_eq!(value(s, &bucket("+Inf")), [(11 * W, bits(4.0))]);
    assert_eq!(value(s, r#"t traces_spanmetrics_latency_sum{service="a"}"#), [(11 * W, bits(620.0 / 1e9))]);
}

#[test]
fn deltas_of_the_old_layout_are_rebucketed_until_their_worker_is_replaced_too() {
    let mut task = SeriesTask::new(settings());
    let (mut old, mut new) = (Source::new(0, 3 * W), Source::new(1, 3 * W));
    new.bounds = vec![150, 200];
    for step in 10..20 {
        old.see(&Seen { example: Some((step * W - 1, [1; 16])), ..span("a", 90) });
        if step > 11 {
            new.see(&span("a", 300));
        }
        for record in old.cut(step * W, step * W).iter().chain(&new.cut(step * W, step * W)) {
            task.apply(record).expect("a delta record");
        }
        let said = said(&task.close(task.closable(&sources(2)).expect("both passed")));
        let count = step - 9 + (step - 11).max(0);
        let key = r#"t traces_spanmetrics_latency_count{service="a"}"#;
        assert_eq!(value(&said, key).last(), Some(&(step * W, bits(count as f64))));
        let le = if step > 11 { "0.00000015" } else { "0.0000001" };
        let (samples, exemplars) = &said[&format!(r#"t traces_spanmetrics_latency_bucket{{le="{le}",service="a"}}"#)];
        assert_eq!(samples.last(), Some(&(step * W, bits((step - 9) as f64))));
        assert_eq!(exemplars.len(), 1, "the exemplar moves with its bucket");
    }
}

#[test]
fn after_a_change_of_the_step_width_a_start_lies_behind_the_marker_all_the_same() {
    let mut one = One::new(settings());
    one.step(10 * W, &[span("a", 1)]);
    assert_eq!(value(&one.step(13 * W, &[])[2].1, SPANS), [(13 * W, STALE)]);
    let wide = with(|c| {
        c.core.time.step = StepWidth::new(4 * W).expect("positive");
        c.core.series.stale_after = 4 * W;
        c.core.series.zero_offset = 4 * W - 1;
    });
    one.task = SeriesTask::restore(wide, &one.task.snapshot()).expect("our own snapshot");
    let said = &one.step(16 * W, &[span("a", 1)])[0].1;
    assert_eq!(value(said, SPANS), [(13 * W + 1, bits(1.0)), (16 * W, bits(2.0))]);
}

#[test]
fn a_changed_step_width_takes_over_at_the_next_boundary() {
    let mut one = One::new(settings());
    one.step(10 * W, &[span("a", 1)]);
    one.source.see(&span("a", 1));
    one.task.apply(&one.source.cut(11 * W, 10 * W + 500)[0]).expect("a delta record");
    let wide = SeriesSettings { step: StepWidth::new(4 * W).expect("positive"), stale_after: 20 * W, ..settings() };
    one.task = SeriesTask::restore(wide, &one.task.snapshot()).expect("our own snapshot");
    let closed = one.step(13 * W, &[span("a", 1)]);
    assert_eq!(closed[0].0, 12 * W);
    assert_eq!(value(&closed[0].1, SPANS), [(12 * W, bits(2.0))]);
    assert_eq!(value(&one.step(16 * W, &[])[0].1, SPANS), [(16 * W, bits(3.0))]);
}

#[test]
fn damaged_and_foreign_snapshots_are_errors_and_never_panics() {
    let mut one = One::new(settings());
    let edge = Seen { family: Family::ServiceGraph, ns: vec![1, 2], example: Some((9_000, [1; 16])), ..span("e", 0) };
    one.step(10 * W, &[span("a", 1), edge.clone()]);
    one.source.see(&edge);
    one.task.apply(&one.source.cut(11 * W, 10 * W + 1)[0]).expect("a delta record");
    let good = one.task.snapshot();
    for cut in 0..good.len() {
        assert!(SeriesTask::restore(settings(), &good[..cut]).is_err());
    }
    // With a checksum that fits, so that the damage reaches the decoder.
    let body = &good[..good.len() - 8];
    for i in 0..body.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut bad = body.to_vec();
            bad[i] ^= flip;
            put_checksum(&mut bad, 0);
            if let Ok(task) = SeriesTask::restore(settings(), &bad) {
                assert!(!task.snapshot().is_empty());
            }
        }
    }
    let mut newer = body.to_vec();
    newer[0] = VERSION + 1;
    put_checksum(&mut newer, 0);
    let restored = SeriesTask::restore(settings(), &newer);
    assert!(matches!(restored, Err(SnapshotError::Newer(found)) if found == VERSION + 1));
}

#[test]
fn absurd_times_and_damaged_records_are_errors() {
    let mut source = Source::new(0, 3 * W);
    let mut task = SeriesTask::new(settings());
    assert!(matches!(task.apply(b"no delta record"), Err(ApplyError::DeltaRecord(_))));
    for (step, at) in [(Millis::MAX, 0), (W, Millis::MIN + 1)] {
        let mut bad = Source::new(0, 3 * W);
        bad.see(&span("a", 1));
        assert!(matches!(task.apply(&bad.cut(step, at)[0]), Err(ApplyError::Time { .. })));
    }
    source.see(&span("a", 1));
    let record = source.cut(10 * W, 10 * W).remove(0);
    assert_eq!(task.apply(&record).expect("a delta record").verdict, ChainVerdict::Accepted { complete: true });
}

#[test]
fn damage_behind_a_good_checksum_is_no_panic() {
    let mut source = Source::new(0, 3 * W);
    let edge = Seen { family: Family::ServiceGraph, ns: vec![1, 2], example: Some((9_000, [1; 16])), ..span("e", 0) };
    let mut spelled = Vec::new();
    for at in [10 * W, 11 * W] {
        source.see(&edge);
        source.see(&span("a", u64::MAX));
        spelled.extend(source.cut(at, at));
    }
    for (n, record) in spelled.iter().enumerate() {
        let body = &record[..record.len() - 8];
        for i in 0..body.len() {
            for flip in [0x01, 0x02, 0x10, 0x80, 0xff] {
                let mut bad = body.to_vec();
                bad[i] ^= flip;
                put_checksum(&mut bad, 0);
                let mut task = SeriesTask::new(settings());
                let before = spelled[..n].iter().all(|r| task.apply(r).is_ok());
                assert!(before);
                if task.apply(&bad).is_ok() {
                    said(&task.close(12 * W));
                }
            }
        }
    }
}

#[test]
fn damage_in_a_snapshot_with_kept_totals_is_no_panic() {
    let slow = with(|c| c.core.series.interval = 40 * W);
    let mut one = One::new(slow.clone());
    let edge = Seen { family: Family::ServiceGraph, ns: vec![1, 2], ..span("e", 0) };
    one.source.how = How { native: Some(Native { schema: 3, max_buckets: 100 }), ..CLASSIC };
    for step in [40, 45] {
        one.step(step * W, &[span("a", 50), edge.clone()]);
    }
    let snapshot = one.task.snapshot();
    let body = &snapshot[..snapshot.len() - 8];
    let mut restored = 0;
    for i in 0..body.len() {
        for flip in [0x01, 0x02, 0x04, 0x10, 0x80, 0xff] {
            let mut bad = body.to_vec();
            bad[i] ^= flip;
            put_checksum(&mut bad, 0);
            let Ok(mut task) = SeriesTask::restore(slow.clone(), &bad) else { continue };
            restored += 1;
            said(&task.close(80 * W));
        }
    }
    assert!(restored > 100, "{restored}");
}

#[test]
fn steps_before_the_epoch_go_to_the_first_one_after_it() {
    let mut one = One::new(settings());
    assert!(one.step(-5 * W, &[span("a", 1)]).is_empty());
    assert!(one.step(0, &[span("a", 1)]).is_empty());
    assert_eq!(value(&one.step(W, &[span("a", 1)])[0].1, SPANS), [(W - 1, 0), (W, bits(3.0))]);
}

#[test]
fn a_label_set_with_a_name_that_receivers_refuse_is_left_out_alone_and_told_at_every_step_until_it_ends() {
    let mut one = One::new(settings());
    let layout = one.source.how.layout(Family::SpanMetrics, &[100], &[true]);
    let define = |b: &mut LabelBuilder| {
        b.set("2xx", "a\"b");
        Ok::<_, ()>(Define { tenant: "t".into(), layout })
    };
    let bad = one.source.table.find(b"bad", define).expect("defines");
    one.source.table.add(bad, 0, 1);
    let left_out = |closed: &ClosedStep| closed.illegal.clone().map(|illegal| (illegal.series, illegal.first.1));
    let mut close = |step: Millis, seen: &[Seen]| {
        seen.iter().for_each(|seen| one.source.see(seen));
        let records = one.source.cut(step, step);
        let closed = run(&mut one.task, 1, &records).pop().expect("a step");
        (
            said(&closed).into_keys().any(|series| series.contains("2xx")),
            said(&closed).contains_key(SPANS),
            left_out(&closed),
        )
    };
    let illegal = Some((1, r#"traces_spanmetrics_calls_total{2xx="a\"b"}"#.to_owned()));
    assert_eq!(close(10 * W, &[span("a", 1)]), (false, true, illegal.clone()));
    assert_eq!(close(11 * W, &[span("a", 1)]), (false, true, illegal.clone()));
    assert_eq!(close(12 * W, &[span("a", 1)]), (false, true, illegal));
    assert_eq!(close(13 * W, &[span("a", 1)]), (false, true, None), "it is stale, and gets no marker");
}
