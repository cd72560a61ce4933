//! Series that a receiver refuses for what they are, and the others.

use super::*;

/// A batch of series `0..n`, in requests of 500.
fn steps(n: u32, step: i64) -> StepBatch {
    let requests = (0..n.div_ceil(500)).map(|i| request(500 * i..(500 * (i + 1)).min(n), step)).collect();
    batch(step, requests)
}

/// Picks series by their numbers.
fn number(series: &str) -> u32 {
    series.trim_end_matches("\"}").rsplit_once('s').unwrap().1.parse().unwrap()
}

#[test]
fn a_bad_series_costs_requests_at_its_first_step_only_and_is_told_with_its_labels_and_the_reason() {
    let h = house();
    h.receiver.poison(|series| [137, 901].contains(&number(series)));
    let d = h.send(steps(1_000, 15_000));
    assert_eq!((d.acknowledged, d.rejected), (998, 2));
    for step in [30_000, 45_000] {
        let before = h.receiver.totals().requests;
        let d = h.send(steps(1_000, step));
        assert_eq!((d.acknowledged, d.rejected), (998, 2));
        assert_eq!(h.receiver.totals().requests - before, 2, "one for each request, and none for halves");
    }
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="bad_data"}"#), 2);
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="quarantined"}"#), 4);
    assert_eq!(h.metric("spanmill_series_quarantined"), 2);
    let status = h.telemetry.receivers().snapshot().remove(0);
    let shown: Vec<_> = status.quarantine.iter().map(|one| (one.series.as_str(), one.status)).collect();
    assert_eq!(shown, [(r#"calls_total{service="s137"}"#, 400), (r#"calls_total{service="s901"}"#, 400)]);
    assert!(status.quarantine[0].answer.contains("rejected series"), "{:?}", status.quarantine);
    h.assert_balanced();
}

#[test]
fn the_admin_server_lists_series_in_quarantine_with_what_the_receiver_said() {
    let h = house();
    let admin = crate::admin::admin(&h.telemetry);
    let asked = || {
        let (status, text) = crate::admin::ask(admin.addr(), "/quarantine");
        assert_eq!(status, 200);
        let body = text.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str::<serde_json::Value>(body).unwrap()
    };
    assert_eq!(asked(), serde_json::json!({ "receivers": [] }));
    h.receiver.poison(|series| number(series) == 7);
    let d = h.send(StepBatch { tenant: "a".into(), ..steps(100, 15_000) });
    assert_eq!((d.acknowledged, d.rejected), (99, 1));
    let json = asked();
    let receiver = &json["receivers"][0];
    assert_eq!((receiver["tenant"].as_str(), receiver["quarantined"].as_u64()), (Some("a"), Some(1)));
    let series = &receiver["series"][0];
    assert_eq!(series["series"].as_str(), Some(r#"calls_total{service="s7"}"#));
    assert_eq!(
        (series["status"].as_u64(), series["answer"].as_str().unwrap()),
        (Some(400), r#"rejected series calls_total{service="s7"}"#)
    );
    let pause = series["retry_at_ms"].as_u64().unwrap() - series["since_ms"].as_u64().unwrap();
    assert!((290_000..=300_000).contains(&pause), "{pause} ms");
}

#[test]
fn a_series_in_quarantine_is_tried_alone_and_sent_again_once_it_is_taken() {
    let h = house_with(|c| c.quarantine = 1);
    h.receiver.poison(|series| number(series) == 7);
    let mut step = 15_000;
    assert_eq!(h.send(steps(100, step)).rejected, 1);
    let mut trials = 0;
    while trials < 3 {
        step += 15_000;
        let before = h.receiver.totals().requests;
        let d = h.send(steps(100, step));
        assert_eq!((d.acknowledged, d.rejected), (99, 1));
        // The others, and now and then it alone.
        trials += h.receiver.totals().requests - before - 1;
    }
    h.receiver.poison(|_| false);
    loop {
        step += 15_000;
        if h.send(steps(100, step)).acknowledged == 100 {
            break;
        }
    }
    assert_eq!(h.metric("spanmill_series_quarantined"), 0);
    let before = h.receiver.totals().requests;
    assert_eq!(h.send(steps(100, step + 15_000)).acknowledged, 100);
    assert_eq!(h.receiver.totals().requests - before, 1, "with the others again");
    h.assert_balanced();
}

#[test]
fn many_bad_series_among_good_ones_are_all_found_and_the_good_ones_are_stored_from_then_on() {
    let h = house();
    h.receiver.poison(|series| number(series) % 10 == 3);
    let mut step = 0;
    let settled = (0..20).any(|_| {
        step += 15_000;
        let before = h.receiver.totals().requests;
        let d = h.send(steps(2_000, step));
        assert_eq!(d.acknowledged + d.rejected, 2_000);
        d.acknowledged == 1_800 && h.receiver.totals().requests - before == 4
    });
    assert!(settled, "after 20 steps");
    assert_eq!(h.metric("spanmill_series_quarantined"), 200);
    h.assert_balanced();
}

#[test]
fn a_request_of_bad_series_only_is_told_from_a_receiver_that_refuses_everything_by_the_others_of_its_step() {
    let h = house();
    h.receiver.poison(|series| number(series) >= 1_000);
    for step in (1..=10).map(|i| i * 15_000) {
        // One bad series stands between good ones, behind a request that is bad as a whole.
        let bad = request(1_000..1_100, step);
        let mixed = request(990..1_001, step);
        let d = h.send(batch(step, vec![request(0..500, step), bad, mixed]));
        assert!(d.acknowledged >= 510, "{d:?}");
    }
    assert_eq!(h.metric("spanmill_series_quarantined"), 100);
    h.assert_balanced();
}

#[test]
fn a_receiver_that_refuses_everything_or_a_time_has_no_series_in_quarantine() {
    let h = house();
    h.receiver.poison(|_| true);
    assert_eq!(h.send(steps(8, 15_000)).rejected, 8);
    h.receiver.poison(|_| false);
    assert_eq!(h.send(steps(8, 30_000)).acknowledged, 8, "all are sent as soon as they are taken");
    h.receiver.refuse_old();
    let old = [request(0..1, 15_000), request(8..16, 15_000)];
    let d = h.send(batch(15_000, old.to_vec()));
    assert_eq!((d.acknowledged, d.rejected), (8, 1), "out of order");
    assert_eq!(h.send(steps(16, 45_000)).acknowledged, 16);
    assert_eq!(h.metric("spanmill_series_quarantined"), 0);
}

#[test]
fn the_quarantine_can_be_switched_off() {
    let h = house_with(|c| c.quarantine = 0);
    h.receiver.poison(|series| number(series) == 7);
    for step in [15_000, 30_000] {
        let d = h.send(steps(100, step));
        assert_eq!((d.acknowledged, d.rejected), (99, 1));
    }
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="bad_data"}"#), 2);
    assert_eq!(h.metric("spanmill_series_quarantined"), 0);
}
