//! Record keys that are no real tenants: a producer of the topic can make as many as it likes.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::tools::loadgen::Record;

use super::place::{Place, all_run, records};
use crate::PATIENCE;
use crate::servers::wait_until;

const REAL: usize = 5;
const STRANGERS: usize = 1_000;
const ROUNDS: usize = 5;

#[test]
fn a_thousand_record_keys_of_kafka_that_nobody_knows_do_not_hold_back_the_tenants_that_are_real() {
    let alone = freshness("alone", 0, &[]);
    let beside = freshness("beside", STRANGERS, &["limits.max_tenants=8"]);
    // Without a limit it is ten times as long, or has no end.
    assert!(beside < 3 * alone, "{beside:?} beside strangers, {alone:?} without");
    println!(
        "strangers | a round is at the receiver after {alone:?} without strangers, after {beside:?} beside {STRANGERS}"
    );
}

/// How long it takes, at the median, until what all real tenants have sent is at the receiver.
fn freshness(topic: &'static str, strangers: usize, settings: &[&str]) -> Duration {
    let place = Place::start(topic, 1);
    let settings = [&["tenant.source=key", "service_graphs.enabled=false"][..], settings].concat();
    let worker = place.insider(&settings);
    all_run(&[&worker], 5);
    let template = records(Duration::ZERO).swap_remove(0);
    let real: Vec<String> = (0..REAL).map(|i| format!("real-{i}")).collect();
    let others: Vec<String> = (0..strangers).map(|i| format!("nobody-{i}")).collect();
    let (none, mut took) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        // The real ones are known first, so that a limit leaves them their names; then the crowd is before them.
        let order = if round == 1 { [&none, &real] } else { [&others, &real] };
        let sent = Instant::now();
        send(&place, &template, order.into_iter().flatten());
        let wanted = f64::from(template.spans) * round as f64;
        wait_until("the real tenants have it", PATIENCE, || {
            let calls = calls(&place);
            let of = |tenant: &String| calls.iter().filter(|(t, _)| t == tenant).map(|(_, value)| value).sum::<f64>();
            let lacking: Vec<_> = real.iter().filter(|tenant| of(tenant) < wanted).collect();
            if lacking.is_empty() {
                Ok(())
            } else {
                Err(format!("{lacking:?} of {wanted}, {:?}", place.receiver.totals()))
            }
        });
        took.push(sent.elapsed());
    }
    let all = wanted_of_all(&template, strangers);
    wait_until("no tenant is lost", PATIENCE, || {
        let (all_calls, tenants) = (calls(&place), place.receiver.snapshot().len());
        let sum: f64 = all_calls.iter().map(|(_, value)| value).sum();
        if sum.to_bits() == all.to_bits() { Ok(()) } else { Err(format!("{sum} of {all} in {tenants} series")) }
    });
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
    took.sort_unstable();
    took[ROUNDS / 2]
}

/// All spans of all rounds.
fn wanted_of_all(template: &Record, strangers: usize) -> f64 {
    f64::from(template.spans) * (ROUNDS * REAL + (ROUNDS - 1) * strangers) as f64
}

/// Sends the spans of `template` once for each key.
fn send<'a>(place: &Place, template: &Record, keys: impl Iterator<Item = &'a String>) {
    let producer: BaseProducer = place.client().create().expect("a producer");
    for key in keys {
        let record: BaseRecord<'_, str, [u8]> =
            BaseRecord::to(place.topic).partition(0).key(key.as_str()).payload(template.value.as_slice());
        producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
}

/// Calls by tenant.
fn calls(place: &Place) -> Vec<(String, f64)> {
    let all = place.receiver.snapshot().into_iter().filter(|(name, _)| name.contains("calls_total"));
    all.filter_map(|(name, s)| Some((name.split_once('/')?.0.to_owned(), s.last_value))).collect()
}
