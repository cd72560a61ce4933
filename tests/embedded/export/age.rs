//! Samples that are too old for the settings of an endpoint.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn samples_that_become_too_old_while_they_wait_are_dropped_with_an_account_and_younger_ones_are_sent() {
    let h = house_with(|c| c.max_sample_age = 1_500);
    let d = h.send(batch(15_000, vec![request(0..4, 15_000)]));
    assert_eq!((d.acknowledged, d.rejected, h.receiver.totals().requests), (0, 4, 0), "never sent");
    h.receiver.fault(&Fault::Status(503), 1_000_000);
    let step = now();
    let d = h.send(batch(step, vec![request(0..4, step)]));
    assert!(now() >= step + 1_500 && h.receiver.totals().requests > 0, "it was tried as long as it was young");
    assert_eq!((d.acknowledged, d.rejected), (0, 4));
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="max_sample_age"}"#), 8);
    h.receiver.mend();
    let step = now();
    assert_eq!(h.send(batch(step, vec![request(0..4, step)])).acknowledged, 4);
    assert_eq!(h.telemetry.receivers().complaints(Duration::ZERO), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn no_sample_is_too_old_without_a_setting() {
    let h = house();
    assert_eq!(h.send(batch(15_000, vec![request(0..4, 15_000)])).acknowledged, 4);
}
