//! Internal topics of a real Kafka that lose their ends, as a broker without power or an unclean election makes them.

use std::time::Duration;

use spanmill::tools::loadgen::Record;

use super::place::{Place, all_run, records, says, spans};
use crate::servers::api::now;
use crate::servers::kafka::cut_end;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

/// `kafka.shards` of the tests.
const SHARDS: i32 = 4;
/// Whatever is lost, no snapshot makes up for it.
const SETTINGS: [&str; 2] = ["series.snapshot_every=1h", "service_graphs.enabled=false"];

/// The brokers go down and come back with `kept` percent of what each partition of the deltas topic held.
fn lose_deltas(place: &mut Place, kept: i64) {
    let deltas = format!("{}-deltas", place.group());
    let ends: Vec<(i64, i64)> = (0..SHARDS).map(|p| place.bounds(&deltas, p)).collect();
    place.kafka.damage(|data| {
        for (p, (low, high)) in (0..).zip(&ends) {
            cut_end(data, &deltas, p, low + (high - low) * kept / 100);
        }
    });
    let after: Vec<i64> = (0..SHARDS).map(|p| place.bounds(&deltas, p).1).collect();
    println!("ends | the deltas topic ended at {ends:?}, and now at {after:?}");
}

/// Sends spans of three seconds; how many there are.
fn send(place: &Place) -> f64 {
    let sent = records(Duration::from_secs(3));
    place.send(sent.iter().map(|r| (0, r)));
    spans(&sent)
}

#[test]
fn a_deltas_topic_of_kafka_that_loses_its_end_under_a_worker_at_work_costs_no_span_and_contradicts_no_sample() {
    for kept in [60, 0] {
        let mut place = Place::start("lost_alive", 1);
        let worker = place.insider(&SETTINGS);
        all_run(&[&worker], 1 + SHARDS as usize);
        let mut all = send(&place);
        place.counts_to(all);
        lose_deltas(&mut place, kept);
        all += send(&place);
        place.counts_to(all);
        all += send(&place);
        place.counts_to(all);
        // Whether the journal is asked depends on whether the worker kept its tasks meanwhile: shards that it has still know
        // all.
        println!("ends | {} commits were sent again", worker.metric("spanmill_commits_sent_again_total"));
        wait_until("nothing is missing", PATIENCE, || match worker.metric("spanmill_delta_record_gaps") {
            0 => Ok(()),
            n => Err(format!("{n} gaps")),
        });
        worker.stop();
        assert_eq!(place.receiver.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_deltas_topic_of_kafka_that_loses_its_end_while_no_worker_runs_costs_no_span_and_contradicts_no_sample() {
    for kept in [60, 0] {
        let mut place = Place::start("lost_down", 1);
        let mut worker = place.worker("worker", &SETTINGS);
        let mut all = send(&place);
        place.counts_to(all);
        // What comes now says that the delta records before were stored: a new owner does not send those by itself.
        all += send(&place);
        place.counts_to(all);
        worker.kill();
        lose_deltas(&mut place, kept);
        all += send(&place);
        let worker = place.insider(&SETTINGS);
        place.counts_to(all);
        all += send(&place);
        place.counts_to(all);
        assert!(worker.metric("spanmill_commits_sent_again_total") > 0, "the journal had what was lost");
        worker.stop();
        assert_eq!(place.receiver.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_deltas_topic_of_kafka_that_is_shorter_than_before_does_not_keep_shards_from_saving_what_they_have() {
    let mut place = Place::start("lost_shorter", 1);
    let deltas = format!("{}-deltas", place.group());
    let mut worker = place.worker("worker", &SETTINGS);
    let mut all = send(&place);
    place.counts_to(all);
    // Delta records that come twice count once, and no worker sends them twice again: what was lost will not be as long
    // as it was.
    for p in 0..SHARDS {
        let first = place.log(&deltas, p).remove(0);
        let twice =
            Record { key: [b'0'; 32], value: first, timestamp: (now() * 1_000.0) as i64, spans: 0, partition: None };
        place.send_to(&deltas, std::iter::repeat_n((p, &twice), 500));
    }
    all += send(&place);
    place.counts_to(all);
    worker.kill();
    lose_deltas(&mut place, 0);
    let worker = place.insider(&["series.snapshot_every=1s", "service_graphs.enabled=false"]);
    all += send(&place);
    place.counts_to(all);
    for p in 0..SHARDS {
        wait_until("a snapshot makes up for the delta records, and they are deleted", PATIENCE, || {
            let (low, high) = place.bounds(&deltas, p);
            assert!(high < 500, "as long as it was: the test shows nothing");
            if low > 0 { Ok(()) } else { Err(format!("shard {p} is at {low} to {high}")) }
        });
    }
    worker.stop();
    // What was saved is what is needed.
    let worker = place.insider(&SETTINGS);
    all += send(&place);
    place.counts_to(all);
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn a_journal_of_kafka_that_lost_commits_of_which_the_group_has_not_learned_is_said_loudly() {
    let mut place = Place::start("lost_commits", 1);
    let mut worker = place.worker("worker", &SETTINGS);
    let all = send(&place);
    place.counts_to(all);
    let journal = format!("{}-{}-journal", place.group(), place.topic);
    let (_, then) = place.bounds(&journal, 0);
    // Ticks read nothing, so the group's offset does not tell how many there were.
    let end = wait_until("the partition has ticked", PATIENCE, || match place.bounds(&journal, 0).1 {
        end if end > then + 5 => Ok(end),
        end => Err(format!("{end}")),
    });
    worker.kill();
    place.kafka.damage(|data| cut_end(data, &journal, 0, end - 2));
    // There all the time while the worker says why it does not count it.
    send(&place);
    let mut worker = place.worker("worker", &SETTINGS);
    let log = says(&mut worker, &format!("{journal}[0] ends at commit "));
    assert!(
        log.contains("but shards have received commits up to") && log.contains("Restore it, or start again"),
        "{log}"
    );
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    assert_eq!(place.calls().to_bits(), all.to_bits(), "nothing was counted");
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}
