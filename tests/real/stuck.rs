//! A partition that has records and yields none, as a broker's quota makes it.

use std::time::Duration;

use super::place::{Place, all_run, records, spans};
use crate::PATIENCE;
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;

/// `kafka.shards` of the tests.
const SHARDS: usize = 4;
/// How often the same is sent: more than one answer of the broker holds.
const TIMES: usize = 30;

/// Sets or removes what each client may fetch.
fn quota(place: &Place, change: &[&str]) {
    let of = ["--alter", "--entity-type", "clients", "--entity-default"];
    place.kafka.admin("ConfigCommand", &[&of[..], change].concat());
}

#[test]
fn a_kafka_partition_that_a_quota_keeps_from_being_read_is_fetched_anew_and_taken_over_and_exact_afterwards() {
    // A broker answers a client that has had too much only when that is little enough for the time that has passed.
    let kafka = RealKafka::start_with("quota.window.size.seconds=3\nquota.window.num=3\n");
    let place = Place::start_on(kafka, "kept_back", 1);
    let worker = place.insider(&["kafka.stuck_after=1s", "service_graphs.enabled=false"]);
    all_run(&[&worker], 1 + SHARDS);
    let taken_over = || worker.metric("spanmill_task_restore_duration_seconds_count{kind=\"span\"}");
    let stuck = || worker.metric("spanmill_partition_stalls_total");
    let before = taken_over();
    assert_eq!(stuck(), 0);
    quota(&place, &["--add-config", "consumer_byte_rate=4096"]);
    let sent = records(Duration::from_secs(5));
    let all = spans(&sent) * TIMES as f64;
    (0..TIMES).for_each(|_| place.send(sent.iter().map(|r| (0, r))));
    wait_until("it is taken over", PATIENCE, || match taken_over() {
        n if n > before => Ok(()),
        n => Err(format!("{n}, found stuck {} times, {} of {all}", stuck(), place.calls())),
    });
    assert!(stuck() >= 4, "{}: fetched anew three times, then taken over", stuck());
    assert!(place.calls() < all, "it is kept back");
    quota(&place, &["--delete-config", "consumer_byte_rate"]);
    place.counts_to(all);
    println!("stuck | found so {} times, taken over {} times", stuck(), taken_over() - before);
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}
