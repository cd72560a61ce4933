//! Source topics that a regular expression matches: they come, grow and go while the group is at work.

use std::time::Duration;

use spanmill::config::load_from;
use spanmill::tools::loadgen::Record;

use super::place::{Insider, Place, all_run, records, spans};
use crate::PATIENCE;
use crate::servers::wait_until;

/// `kafka.shards` of the tests.
const SHARDS: usize = 4;
/// The internal topics match as well: the names of place, group and topics begin alike.
const SETTINGS: [&str; 4] = [
    "kafka.topics=^traces-.*",
    "kafka.start=latest",
    "kafka.properties.topic.metadata.refresh.interval.ms=500",
    "service_graphs.enabled=false",
];

/// Sends records to the partitions of a topic by turns.
fn send(place: &Place, topic: &str, partitions: i32, records: &[Record]) {
    place.send_to(topic, (0..).zip(records).map(|(i, record): (i32, _)| (i % partitions, record)));
}

fn create(place: &Place, topic: &str, partitions: &str) {
    place.kafka.tool("TopicCommand", &["--create", "--topic", topic, "--partitions", partitions]);
}

/// Waits until a topic is none of the group's any more.
fn forgets(workers: &[&Insider], topic: &str) {
    wait_until("the topic is forgotten", PATIENCE, || {
        let running: Vec<_> = workers.iter().flat_map(|worker| worker.running()).collect();
        if running.iter().any(|id| id.topic == topic) { Err(format!("{running:?}")) } else { Ok(()) }
    });
}

#[test]
fn a_kafka_topic_that_matches_and_is_made_while_workers_run_is_counted_exactly_and_so_are_partitions_that_are_added() {
    let place = Place::start("traces-a", 2);
    let workers = [place.insider(&SETTINGS), place.insider(&SETTINGS)];
    let both = [&workers[0], &workers[1]];
    all_run(&both, 2 + SHARDS);
    let load = records(Duration::from_secs(3));
    let each = spans(&load);
    send(&place, "traces-a", 2, &load);
    place.counts_to(each);

    // What is in a topic before a worker has seen it counts as well, wherever the group was begun; also the history of an hour.
    create(&place, "traces-b", "3");
    send(&place, "traces-b", 3, &load);
    create(&place, "traces-old", "1");
    send(&place, "traces-old", 1, &records(Duration::from_secs(3_600)));
    all_run(&both, 2 + 3 + 1 + SHARDS);
    send(&place, "traces-a", 2, &records(Duration::from_secs(3)));
    place.counts_to(4.0 * each);

    place.kafka.tool("TopicCommand", &["--alter", "--topic", "traces-b", "--partitions", "5"]);
    send(&place, "traces-b", 5, &records(Duration::from_secs(3)));
    all_run(&both, 2 + 5 + 1 + SHARDS);
    place.counts_to(5.0 * each);

    // One that is deleted holds nothing back, and what was counted of it stays.
    place.kafka.tool("TopicCommand", &["--delete", "--topic", "traces-old"]);
    forgets(&both, "traces-old");
    all_run(&both, 2 + 5 + SHARDS);
    send(&place, "traces-a", 2, &records(Duration::from_secs(3)));
    place.counts_to(6.0 * each);
    let [first, second] = workers;
    first.stop();
    all_run(&[&second], 2 + 5 + SHARDS);
    send(&place, "traces-b", 5, &records(Duration::from_secs(3)));
    place.counts_to(7.0 * each);
    second.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
    let sources: Vec<usize> = ["traces-a-group-traces-a-journal", "traces-a-group-traces-a-group-deltas-journal"]
        .map(|topic| place.kafka.partitions(topic))
        .to_vec();
    assert_eq!(sources, [2, 0], "no internal topic is a source");
}

#[test]
fn two_kafka_topics_of_different_formats_and_tenants_are_counted_in_one_worker() {
    let place = Place::start("traces-proto", 1);
    create(&place, "traces-json", "1");
    let file = place.file();
    let settings = "kafka.topic_settings=[{topic: ^.*-json$, encoding: zipkin_json, tenant: globex}, \
                    {topic: traces-proto, encoding: otlp_proto, tenant: acme}]";
    let set: Vec<String> = SETTINGS.iter().map(|set| (*set).to_owned()).chain([settings.to_owned()]).collect();
    load_from(Some(&file), &set).expect("legal settings");
    let worker = place.insider(&[&SETTINGS[..], &[settings, "tenant.source=key"]].concat());
    all_run(&[&worker], 2 + SHARDS);
    let load = records(Duration::from_secs(3));
    send(&place, "traces-proto", 1, &load);
    let now = crate::servers::api::now();
    let zipkin = |id: u64| {
        let (timestamp, id) = ((now * 1e6) as u64, id + 1);
        format!(
            r#"{{"traceId":"{id:032x}","id":"{id:016x}","name":"get","kind":"SERVER","timestamp":{timestamp},"duration":5000,"localEndpoint":{{"serviceName":"legacy"}}}}"#
        )
    };
    let list = format!("[{}]", (0..50).map(zipkin).collect::<Vec<_>>().join(","));
    let record = Record { value: list.into_bytes(), timestamp: (now * 1e3) as i64, ..load[0].clone() };
    place.send_to("traces-json", [(0, &record)]);
    let calls = |tenant: &str| -> f64 {
        let of = format!("{tenant}/traces_spanmetrics_calls_total");
        let series = place.receiver.snapshot().into_iter().filter(|(series, _)| series.starts_with(&of));
        series.map(|(_, state)| state.last_value).sum()
    };
    wait_until("both tenants have their spans", PATIENCE, || {
        let found = [calls("acme"), calls("globex")];
        if found.map(f64::to_bits) == [spans(&load), 50.0].map(f64::to_bits) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
    assert!(
        place.receiver.snapshot().keys().all(|series| series.starts_with("acme/") || series.starts_with("globex/"))
    );
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn a_kafka_topic_that_matches_and_whose_journal_would_expire_is_left_out_alone_until_that_is_mended() {
    let place = Place::start("traces-good", 1);
    create(&place, "traces-bad", "1");
    let journal = "traces-good-group-traces-bad-journal";
    let expires = ["--create", "--topic", journal, "--partitions", "1", "--config", "retention.ms=60000"];
    place.kafka.tool("TopicCommand", &expires);
    let worker = place.insider(&SETTINGS);
    all_run(&[&worker], 1 + SHARDS);
    let load = records(Duration::from_secs(3));
    send(&place, "traces-bad", 1, &load);
    send(&place, "traces-good", 1, &load);
    place.counts_to(spans(&load));
    assert_eq!(worker.metric("spanmill_source_topics_skipped"), 1);

    // One that comes while it is left out is followed.
    create(&place, "traces-new", "1");
    send(&place, "traces-new", 1, &load);
    all_run(&[&worker], 2 + SHARDS);
    place.counts_to(2.0 * spans(&load));

    place.kafka.tool("TopicCommand", &["--delete", "--topic", journal]);
    all_run(&[&worker], 3 + SHARDS);
    place.counts_to(3.0 * spans(&load));
    assert_eq!(worker.metric("spanmill_source_topics_skipped"), 0);
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}
