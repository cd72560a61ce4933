//! What is sent again after a take-over, to a receiver that refuses what is old, as Prometheus does.

use super::*;

/// Series that begin: a zero stands before the value of each.
fn beginning(series: std::ops::Range<u32>, step: i64) -> Request {
    let label = |n: &str, v: String| Label { name: n.to_owned(), value: v };
    let entry = |i: u32| TimeSeries {
        labels: vec![label("__name__", "calls_total".to_owned()), label("service", format!("s{i}"))],
        samples: vec![Sample { value: 0.0, timestamp: step - 1 }, Sample { value: step as f64, timestamp: step }],
        exemplars: Vec::new(),
        histograms: Vec::new(),
    };
    let n = series.len() as u32;
    let message = WriteRequest { timeseries: series.map(entry).collect() };
    Request::compress(&message.encode_to_vec(), n, 2 * n, 0, &mut snap::raw::Encoder::new())
}

fn again(batch: StepBatch) -> StepBatch {
    StepBatch { resend: true, ..batch }
}

#[test]
fn a_step_that_later_ones_have_overtaken_costs_one_request() {
    let h = house();
    h.receiver.refuse_old();
    let step = |i: i64| batch(i * 15_000, vec![request(0..500, i * 15_000), request(500..1_000, i * 15_000)]);
    for i in 1..=3 {
        assert_eq!(h.send(step(i)).acknowledged, 1_000);
    }
    let before = h.receiver.totals().requests;
    for i in 1..=2 {
        let d = h.send(again(step(i)));
        assert_eq!((d.acknowledged, d.already_there, d.rejected), (0, 1_000, 0));
    }
    assert_eq!(h.receiver.totals().requests - before, 2);
    assert_eq!(h.send(again(step(3))).acknowledged, 1_000, "the newest is taken again");
    h.assert_balanced();
}

#[test]
fn series_that_began_in_the_newest_step_cost_one_request_more_and_those_that_are_new_get_their_zeros() {
    let h = house();
    h.receiver.refuse_old();
    let (first, second) = (beginning(0..400, 15_000), beginning(400..800, 15_000));
    // The worker dies before the second request.
    assert_eq!(h.send(batch(15_000, vec![first.clone()])).acknowledged, 800);
    let before = h.receiver.totals().requests;
    let d = h.send(again(batch(15_000, vec![first, second])));
    assert_eq!((d.acknowledged, d.already_there, d.rejected), (1_200, 400, 0));
    assert_eq!(h.receiver.totals().requests - before, 4);
    let series = h.receiver.snapshot();
    assert_eq!(
        (series.len(), series.values().filter(|s| s.samples == 2).count()),
        (800, 800),
        "zero and value of each"
    );
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn a_worker_may_die_between_zeros_and_values_and_no_zero_is_lost() {
    let h = house();
    h.receiver.refuse_old();
    let whole = beginning(0..400, 15_000);
    h.send(batch(15_000, vec![whole.before_values().unwrap()]));
    let d = h.send(again(batch(15_000, vec![whole])));
    assert_eq!((d.acknowledged, d.already_there, d.rejected), (800, 0, 0), "what is newest is taken again");
    assert!(h.receiver.snapshot().values().all(|s| s.samples == 2));
}

#[test]
fn a_resent_step_that_is_too_old_by_now_is_not_taken_for_one_that_is_there() {
    let h = house();
    h.receiver.refuse_with("out of bounds");
    let d = h.send(again(batch(15_000, vec![request(0..64, 15_000)])));
    assert_eq!((d.acknowledged, d.already_there, d.rejected), (0, 0, 64));
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="too_old"}"#), 64);
    h.assert_balanced();
}
