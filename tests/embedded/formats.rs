//! Several formats on one topic, through a running worker on the embedded broker, and files of all of them.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::mill::{PATIENCE, TOPIC, config, create_topics, wait_until};
use crate::samples::{Sample, everything, framed, gzip, push_bytes, samples, zstd};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use spanmill::config::settings::TenantSource;
use spanmill::core::model::{Counter, Ledger};
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::telemetry::Telemetry;

/// What a worker has sent, by series, and its ledger, once it has read all of these records, each with the tenant as its key.
fn run(records: &[(&str, Vec<u8>)]) -> (BTreeMap<String, f64>, BTreeMap<&'static str, u64>) {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let mut config = config(&cluster.bootstrap_servers(), &receiver.url(), TenantSource::Key);
    config.kafka.dead_letter_topic = "dead".to_owned();
    create_topics(&cluster, &config);
    cluster.create_topic("dead", 1, 1).expect("a topic");
    send(&cluster, records);
    let telemetry = Telemetry::new();
    let worker = Worker::start(config, telemetry.clone()).expect("a worker");
    let sum = |name: &str| -> f64 {
        let series = receiver.snapshot().into_iter().filter(|(series, _)| series.contains(name));
        series.map(|(_, state)| state.last_value).sum()
    };
    wait_until("all spans have come", || sum("traces_spanmetrics_calls_total") >= 18.0);
    wait_until("all edges have come", || sum("traces_service_graph_request_total") >= 9.0);
    let ledger = || {
        telemetry.tasks().snapshot().into_iter().fold(Ledger::default(), |mut all, (_, status)| {
            all.merge(&status.ledger);
            all
        })
    };
    wait_until("everything is read", || ledger().get(Counter::RecordsRead) == records.len() as u64);
    let all = ledger();
    worker.stop().expect("a graceful stop");
    let series = receiver.snapshot().into_iter().map(|(name, state)| (name, state.last_value)).collect();
    (series, all.iter().map(|(counter, n)| (counter.name(), n)).collect())
}

fn send(cluster: &MockCluster<'_, DefaultProducerContext>, records: &[(&str, Vec<u8>)]) {
    let mut client = ClientConfig::new();
    let producer: BaseProducer =
        client.set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    for (tenant, value) in records {
        let message = BaseRecord::<str, [u8]>::to(TOPIC).key(tenant).payload(value);
        producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
}

fn spans() -> Vec<Sample> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros() as u64;
    samples(now - 10_000_000)
}

#[test]
fn several_formats_on_one_topic_give_the_series_of_otlp_protobuf() {
    let spans = spans();
    let plain: Vec<_> =
        spans.iter().map(|span| ("t", crate::samples::otlp_proto(std::slice::from_ref(span)))).collect();
    let (expected, _) = run(&plain);
    assert!(expected.len() > 50, "{}", expected.len());
    let mut mixed = Vec::new();
    for (turn, span) in spans.iter().enumerate() {
        let all = everything(std::slice::from_ref(span));
        let value = &all[turn % all.len()].2[0];
        mixed.push((
            "t",
            match turn / all.len() {
                0 => value.clone(),
                1 => framed(value, &[0]),
                _ => zstd(&gzip(value)),
            },
        ));
    }
    mixed.push(("t", push_bytes(&spans, true)));
    mixed.push(("t", b"[{\"traceId\":5}]".to_vec()));
    let (series, ledger) = run(&mixed);
    assert_eq!(series.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let differ = series.iter().filter(|(name, value)| expected[*name].to_bits() != value.to_bits());
    assert_eq!(differ.collect::<Vec<_>>(), []);
    assert_eq!((ledger["records_not_for_metrics"], ledger["records_undecodable"]), (1, 1));
    assert_eq!((ledger["spans_counted"], ledger["edges_completed"]), (18, 6));
}
