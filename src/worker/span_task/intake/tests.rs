//! A record that causes a panic, on the embedded broker.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::*;
use crate::config::Config;
use crate::core::model::{Counter, StepWidth};
use crate::core::otlp::Batch;
use crate::core::tasks::span::tests::POISON;
use crate::tools::loadgen::{Generator, Options, Topology};
use crate::worker::Worker;
use crate::worker::kafka::TopicNames;
use crate::worker::kafka::broker_clock::wall_clock as now;
use crate::worker::telemetry::Telemetry;

const PATIENCE: Duration = Duration::from_secs(60);
#[test]
fn what_is_not_read_is_said_once_a_minute_for_each_topic_and_kind() {
    let (start, refusals) = (Instant::now(), Refusals::default());
    let note = |topic, kind, seconds| refusals.note(topic, kind, start + Duration::from_secs(seconds));
    assert_eq!(
        [note("spans", "undecodable", 0), note("spans", "no tenant", 0), note("more", "no tenant", 0)],
        [Some(1); 3]
    );
    assert!((1..60).all(|second| note("spans", "undecodable", second).is_none()));
    assert_eq!(note("spans", "undecodable", 60), Some(60));
    assert_eq!(note("spans", "undecodable", 61), None);
    assert_eq!(note("more", "no tenant", 500), Some(1));
}

/// An embedded broker with the topics of a worker, and its settings.
pub(in crate::worker::span_task) fn place() -> (MockCluster<'static, rdkafka::producer::DefaultProducerContext>, Config)
{
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let mut config = Config::default();
    config.kafka.brokers = cluster.bootstrap_servers();
    config.kafka.topics = vec!["spans".to_owned()];
    config.kafka.shards = 1;
    config.kafka.dead_letter_topic = "letters".to_owned();
    config.core.time.step = StepWidth::new(1_000).expect("positive");
    config.core.time.idle = 500;
    config.worker.threads = 1;
    let names = TopicNames::new(&config.kafka.group);
    for topic in ["spans", "letters", &names.journal("spans"), &names.deltas(), &names.series_journal()] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    (cluster, config)
}

#[test]
fn a_record_that_hurts_is_passed_over_after_three_times_and_the_rest_is_counted() {
    let (_cluster, config) = place();
    let options = Options { start: now() - 5_000, rate: 200, spans: Some(300), ..Options::default() };
    let records: Vec<_> = Generator::new(Topology::shop(1), 1, options).collect();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &config.kafka.brokers).create().expect("a producer");
    let (middle, mut spans) = (records.len() / 2, 0);
    for (i, record) in records.iter().enumerate() {
        let send = |value: &[u8]| {
            let message = BaseRecord::<[u8], [u8]>::to("spans").payload(value).timestamp(record.timestamp);
            producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
        };
        if i == middle {
            send(POISON);
        }
        send(&record.value);
        let mut batch = Batch::new();
        batch.decode(&record.value).expect("sound");
        spans += batch.len() as u64;
    }
    producer.flush(PATIENCE).expect("everything is delivered");

    let telemetry = Telemetry::new();
    let worker = Worker::start(config.clone(), telemetry.clone()).expect("a worker");
    let counter =
        |counter: Counter| telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.get(counter)).sum::<u64>();
    let begin = Instant::now();
    while counter(Counter::RecordsRead) <= records.len() as u64 {
        assert!(begin.elapsed() < PATIENCE, "{} of {} records", counter(Counter::RecordsRead), records.len());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(counter(Counter::RecordsIsolated), 1);
    assert_eq!(counter(Counter::RecordsRead), records.len() as u64 + 1);
    assert_eq!(counter(Counter::SpansRead), spans, "the other records are counted once each");
    assert_eq!(counter(Counter::RecordsUndecodable), 0);
    let panics = format!("spanmill_task_panics_total{{kind=\"span\"}} {TRIES}");
    assert!(telemetry.render().contains(&panics), "{}", telemetry.render());
    let (value, reason) = first_letter(&config.kafka.brokers);
    assert_eq!(value, POISON);
    assert!(reason.contains("met a record that hurts"), "{reason}");
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_record_that_hurts_and_waits_at_the_end_of_a_partition_is_passed_over_too() {
    let (cluster, config) = place();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &config.kafka.brokers).create().expect("a producer");
    // Nothing is known of the time of a partition yet, so its first record waits until the end of the log is seen.
    let message = BaseRecord::<[u8], [u8]>::to("spans").payload(POISON).timestamp(now());
    producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    producer.flush(PATIENCE).expect("it is delivered");
    let telemetry = Telemetry::new();
    let worker = Worker::start(config, telemetry.clone()).expect("a worker");
    let isolated =
        || telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.get(Counter::RecordsIsolated)).sum::<u64>();
    let begin = Instant::now();
    while isolated() == 0 {
        assert!(begin.elapsed() < PATIENCE, "{}", telemetry.render());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(isolated(), 1);
    worker.stop().expect("a graceful stop");
    drop(cluster);
}

/// The first dead letter and its reason.
fn first_letter(brokers: &str) -> (Vec<u8>, String) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers).set("group.id", "people");
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("letters", 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("an assignment");
    let message = consumer.poll(PATIENCE).expect("a letter in time").expect("a letter");
    let headers = message.headers().expect("headers");
    let reason = headers.iter().find(|h| h.key == "spanmill-reason").and_then(|h| h.value).expect("a reason");
    (message.payload().unwrap_or_default().to_vec(), String::from_utf8_lossy(reason).into_owned())
}
