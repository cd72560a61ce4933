//! What an operator does to the group with Kafka's own tools.

use std::time::SystemTime;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::config::Config;
use spanmill::core::model::{Counter, StepWidth};
use spanmill::tools::loadgen::{Generator, Options, Record, Topology};
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::telemetry::Telemetry;

use crate::PATIENCE;
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;

const TOPIC: &str = "spans";

#[test]
fn a_reset_with_kafkas_own_tool_is_followed_once_and_accounted_for() {
    let kafka = RealKafka::start();
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let config = config(&kafka.brokers, &receiver.url());
    let records = records();
    let sent = records.len() as u64;
    send(&kafka, &records);
    let calls = || {
        let all = receiver.snapshot().into_iter().filter(|(name, _)| name.contains("calls_total"));
        all.map(|(_, s)| s.last_value).sum::<f64>()
    };
    // Lets a worker read until the ledger says `read`, and returns the ledger's other two lines.
    let work = |read: u64| {
        let telemetry = Telemetry::new();
        let counter =
            |counter: Counter| telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.get(counter)).sum::<u64>();
        let worker = Worker::start(config.clone(), telemetry.clone()).expect("a worker");
        wait_until("everything is read and has arrived", PATIENCE, || {
            let done = counter(Counter::RecordsRead) >= read && calls() >= counter(Counter::SpansCounted) as f64;
            if done { Ok(()) } else { Err(format!("{} of {read} records", counter(Counter::RecordsRead))) }
        });
        let lines = [Counter::RecordsRead, Counter::RecordsReadAgain, Counter::RecordsPassedOver].map(counter);
        worker.stop().expect("a graceful stop");
        lines
    };
    assert_eq!(work(sent), [sent, 0, 0]);
    let once = calls();
    reset(&kafka, &config, &["--to-earliest"]);
    assert_eq!(work(2 * sent), [2 * sent, sent, 0]);
    assert_eq!(calls().to_bits(), (2.0 * once).to_bits(), "everything has been counted once more");
    // It has been followed: the next worker continues where this one has stopped.
    send(&kafka, &records);
    assert_eq!(work(3 * sent), [3 * sent, sent, 0]);
    send(&kafka, &records);
    reset(&kafka, &config, &["--to-latest"]);
    assert_eq!(work(3 * sent), [3 * sent, sent, sent]);
    assert_eq!(calls().to_bits(), (3.0 * once).to_bits());
    assert_eq!(receiver.violations(), Vec::<String>::new());
}

#[test]
fn an_offset_of_the_group_on_real_kafka_decides_where_a_partition_without_a_journal_begins() {
    let kafka = RealKafka::start();
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let config = config(&kafka.brokers, &receiver.url());
    let records = records();
    send(&kafka, &records);
    reset(&kafka, &config, &["--to-offset", "2"]);
    let wanted = records.len() as u64 - 2;
    for _ in 0..2 {
        let telemetry = Telemetry::new();
        let read = || telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.get(Counter::RecordsRead)).sum::<u64>();
        let worker = Worker::start(config.clone(), telemetry.clone()).expect("a worker");
        wait_until("the rest is read", PATIENCE, || match read() {
            n if n >= wanted => Ok(()),
            n => Err(format!("{n} of {wanted} records")),
        });
        assert_eq!(read(), wanted);
        worker.stop().expect("a graceful stop");
    }
}

fn reset(kafka: &RealKafka, config: &Config, to: &[&str]) {
    let group = config.kafka.group.as_str();
    let what = ["--group", group, "--topic", TOPIC, "--reset-offsets", "--execute"];
    let said = kafka.tool("consumer.group.ConsumerGroupCommand", &[&what[..], to].concat());
    assert!(said.contains(TOPIC), "{said}");
}

fn config(brokers: &str, url: &str) -> Config {
    let mut config = Config::default();
    brokers.clone_into(&mut config.kafka.brokers);
    config.kafka.topics = vec![TOPIC.to_owned()];
    config.kafka.shards = 2;
    config.kafka.replication = 1;
    config.core.time.step = StepWidth::new(1_000).expect("positive");
    config.core.time.idle = 500;
    // No pending edge may wait when a worker stops: a reset gives it up.
    config.core.service_graphs.enabled = false;
    url.clone_into(&mut config.remote_write.url);
    config.worker.threads = 1;
    config
}

fn send(kafka: &RealKafka, records: &[Record]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().expect("a producer");
    for record in records {
        let message: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(TOPIC).partition(0).payload(record.value.as_slice()).timestamp(record.timestamp);
        producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
}

fn records() -> Vec<Record> {
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let options = Options { start: start - 5_000, rate: 200, spans: Some(600), ..Options::default() };
    Generator::new(Topology::shop(1), 1, options).collect()
}
