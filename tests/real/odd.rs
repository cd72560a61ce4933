//! `spanmill replay` of topics on a real Kafka that are odd in ways that topics are: holes, markers, hot and empty partitions,
//! records out of order, timestamps that say nothing. What must come out is what the generator says, down to the ledger.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use spanmill::tools::loadgen::{Expectation, Generator, Group, Options, Record, Topology};

use super::replay::{Listener, Scene, TOPIC, number};
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;
use crate::{PATIENCE, SHOWN};

const START: i64 = 1_700_000_000_000;
/// The generator's partitions. The first three have a partition of the topic each, the others one together, and one more
/// stays empty.
const MADE: u32 = 13;
const PARTITIONS: u32 = 5;
const IN_TRANSACTIONS: i32 = 0;
const COMPACTED: i32 = 1;
const OUT_OF_ORDER: i32 = 2;
const HOT: i32 = 3;

#[test]
fn a_replay_from_kafka_is_exact_over_markers_holes_hot_and_empty_partitions_and_records_out_of_order() {
    // Segments end early, and are cleaned at once.
    let kafka = RealKafka::start_with("log.cleaner.backoff.ms=200\n");
    let compacted =
        ["cleanup.policy=compact", "segment.ms=1", "min.cleanable.dirty.ratio=0.001", "delete.retention.ms=0"];
    let configs: Vec<&str> = compacted.iter().flat_map(|config| ["--config", config]).collect();
    let scene = Scene::on(kafka, PARTITIONS, &configs);
    let (records, expected) = history();
    let of = |p: i32| records.iter().filter(move |record| place(record) == p).collect::<Vec<_>>();

    let producer = producer(&scene, &[]);
    let jitter = |i: usize| [0, -1_400, 700, -700, 1_400][i % 5];
    for (i, record) in of(OUT_OF_ORDER).into_iter().enumerate() {
        send(&producer, OUT_OF_ORDER, i, record.timestamp + jitter(i), &record.value);
    }
    for (i, record) in of(HOT).into_iter().enumerate() {
        send(&producer, HOT, i, record.timestamp, &record.value);
    }
    let (all, last) = (of(COMPACTED), of(COMPACTED).len() - 1);
    for (i, record) in all.iter().enumerate() {
        if i < last {
            // Of two records with one key, the later one stays.
            send(&producer, COMPACTED, i, record.timestamp, &record.value);
        } else {
            // What is sent now is in the last segment, which is not cleaned.
            producer.flush(PATIENCE).expect("everything is delivered");
        }
        send(&producer, COMPACTED, i, record.timestamp, &record.value);
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    in_transactions(&scene, &of(IN_TRANSACTIONS));
    wait_until("the log is compacted", PATIENCE, || match count(&scene, COMPACTED) {
        n if n == all.len() => Ok(()),
        n => Err(format!("{n} records, {} should be left", all.len())),
    });
    assert!(scene.kafka.bounds(TOPIC, COMPACTED).1 as usize > all.len(), "there are holes");
    let [hot, other] = [HOT, OUT_OF_ORDER].map(|partition| scene.kafka.bounds(TOPIC, partition).1);
    assert!(hot > 5 * other, "one partition has most");

    let to = Listener::start();
    let summary = scene.replay(&to, &["--id", "odd", "--set", "service_graphs.wait=10s"]);
    assert_exact(&summary, &to, &expected);
}

#[test]
fn a_replay_from_kafka_of_a_bulk_load_is_exact_by_the_ends_of_spans() {
    let scene = Scene::empty(PARTITIONS, &[]);
    let (records, expected) = history();
    let producer = producer(&scene, &[]);
    for (i, record) in records.iter().enumerate() {
        // When they were loaded, and not even in order.
        let loaded = START + 900_000_000 + (i as i64 * 7_919) % 60_000;
        send(&producer, place(record), i, loaded, &record.value);
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    let by_spans = ["--set", "time.source=span_end", "--set", "time.lateness=10s", "--set", "service_graphs.wait=10s"];
    let to = Listener::start();
    let summary = scene.replay(&to, &[&["--id", "bulk"], &by_spans[..]].concat());
    assert_exact(&summary, &to, &expected);
    // The steps are those of the spans.
    let steps: Vec<i64> = to.all().iter().map(|(_, at, ..)| *at).collect();
    let (first, last) = (steps.iter().min().expect("some"), steps.iter().max().expect("some"));
    assert!(*first > START - 2_000 && *last < START + 120_000, "{first} {last}");
}

/// A history of half a minute, and what it must come to.
fn history() -> (Vec<Record>, Expectation) {
    let group = Group::Partition(MADE);
    let options =
        Options { start: START, rate: 400, spans: Some(12_000), spans_per_record: 20, group, ..Options::default() };
    let mut generator = Generator::new(Topology::shop(3), 3, options);
    let records = generator.by_ref().collect();
    (records, generator.expectation())
}

fn place(record: &Record) -> i32 {
    record.partition.expect("each has a place").cast_signed().min(HOT)
}

fn producer(scene: &Scene, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &scene.kafka.brokers);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().expect("a producer")
}

fn send(producer: &BaseProducer, partition: i32, key: usize, timestamp: i64, value: &[u8]) {
    let key = format!("{key}");
    let record = BaseRecord::to(TOPIC).partition(partition).key(&key).payload(value).timestamp(timestamp);
    producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
}

/// Some records are committed one by one; what is aborted was not sent, and the last offset is a marker.
fn in_transactions(scene: &Scene, records: &[&Record]) {
    let producer = producer(scene, &[("transactional.id", "odd")]);
    producer.init_transactions(PATIENCE).expect("a coordinator");
    let mut keys = 0..;
    let mut sent = |records: &[&Record]| {
        producer.begin_transaction().expect("none is open");
        for (record, key) in records.iter().zip(&mut keys) {
            send(&producer, IN_TRANSACTIONS, key, record.timestamp, &record.value);
        }
        producer.flush(PATIENCE).expect("everything is delivered");
    };
    let (first, then) = records.split_at(records.len() / 2);
    for part in [&first[..3], &first[3..], then] {
        sent(part);
        producer.commit_transaction(PATIENCE).expect("committed");
        sent(&first[..5]);
        producer.abort_transaction(PATIENCE).expect("aborted");
    }
}

/// The records that a consumer gets of a partition.
fn count(scene: &Scene, partition: i32) -> usize {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &scene.kafka.brokers).set("group.id", "count").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("an offset");
    consumer.assign(&place).expect("a place");
    let mut count = 0;
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(_)) => count += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => return count,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
}

/// Every series and every counter is what the generator says.
fn assert_exact(summary: &Value, to: &Listener, expected: &Expectation) {
    assert_eq!(summary["complete"], true, "{summary:#}");
    let found = to.receiver.snapshot();
    let mut differences = Vec::new();
    for (series, value) in expected.series() {
        let other = found.get(series).map(|state| state.last_value);
        if other.map(f64::to_bits) != Some(value.to_bits()) {
            differences.push(format!("{series}: {value}, found {other:?}"));
        }
    }
    let new = found.keys().filter(|series| expected.get(series).is_none()).map(|series| format!("{series}: new"));
    differences.extend(new);
    let counters =
        expected.ledger().iter().map(|(counter, n)| (counter.name(), n, number(&summary["ledger"][counter.name()])));
    differences
        .extend(counters.filter(|(_, n, found)| n != found).map(|(name, n, found)| format!("{name}: {n}, {found}")));
    let first: Vec<_> = differences.iter().take(SHOWN).collect();
    assert!(differences.is_empty(), "{} differences in {}: {first:#?}", differences.len(), expected.series().len());
}
