//! `produce` against a mock cluster: everything is read back and counted again.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use spanmill::cli::produce::{ProduceArgs, ProduceError, run};
use spanmill::core::model::Counter;
use spanmill::tools::loadgen::{Expectation, partition_of};

const TOPIC: &str = "otlp_spans";

#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    produce: ProduceArgs,
}

/// A record as it was read back.
struct Read {
    partition: i32,
    key: Vec<u8>,
    value: Vec<u8>,
    timestamp: i64,
    headers: Vec<(String, Vec<u8>)>,
}

fn cluster(partitions: i32) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic(TOPIC, partitions, 1).expect("a topic");
    cluster
}

fn args(brokers: &str, line: &str) -> ProduceArgs {
    let fixed = ["produce", "--brokers", brokers, "--print-every", "0s"];
    Cli::try_parse_from(fixed.into_iter().chain(line.split_whitespace())).expect("legal arguments").produce
}

fn reader(brokers: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "reader").create().expect("a consumer")
}

/// The records of a partition.
fn length(consumer: &BaseConsumer, partition: i32) -> i64 {
    let (low, high) = consumer.fetch_watermarks(TOPIC, partition, Duration::from_secs(60)).expect("watermarks");
    high - low
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let headers = message.headers().into_iter().flat_map(BorrowedHeaders::iter);
    headers.map(|h| (h.key.to_owned(), h.value.expect("a value").to_vec())).collect()
}

/// Everything in the topic.
fn read_back(brokers: &str, partitions: i32) -> Vec<Read> {
    let consumer = reader(brokers);
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..partitions {
        left += length(&consumer, partition);
        assignment.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&assignment).expect("an assignment");
    let mut out = Vec::new();
    while (out.len() as i64) < left {
        let message = consumer.poll(Duration::from_secs(20)).expect("a record within 20 s").expect("no error");
        out.push(Read {
            partition: message.partition(),
            key: message.key().expect("a key").to_vec(),
            value: message.payload().expect("a value").to_vec(),
            timestamp: message.timestamp().to_millis().expect("a timestamp"),
            headers: headers(&message),
        });
    }
    out
}

/// Calls and sizes by label set, in the text form of an expectation.
fn recount(records: &[Read]) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for record in records {
        let request = ExportTraceServiceRequest::decode(&*record.value).expect("a record decodes");
        for rs in request.resource_spans {
            let resource = rs.resource.expect("a resource");
            let name = resource.attributes.iter().find(|kv| kv.key == "service.name").expect("a name");
            let Some(Value::StringValue(service)) = name.value.clone().and_then(|v| v.value) else {
                unreachable!("the name of a service is a string")
            };
            for span in rs.scope_spans.into_iter().flat_map(|s| s.spans) {
                let name = span.name.replace('\\', "\\\\").replace('"', "\\\"");
                let kind = SpanKind::try_from(span.kind).expect("a kind").as_str_name();
                let status = span.status.clone().unwrap_or_default().code().as_str_name().to_owned();
                let labels = format!(
                    "{{service=\"{service}\",span_kind=\"{kind}\",span_name=\"{name}\",status_code=\"{status}\"}}"
                );
                *out.entry(format!("traces_spanmetrics_calls_total{labels}")).or_default() += 1;
                *out.entry(format!("traces_spanmetrics_size_total{labels}")).or_default() += span.encoded_len() as u64;
            }
        }
    }
    out
}

fn assert_as_expected(records: &[Read], expectation: &Expectation) {
    let expected: BTreeMap<String, u64> = expectation
        .series()
        .filter(|(k, _)| {
            k.starts_with("traces_spanmetrics_calls_total") || k.starts_with("traces_spanmetrics_size_total")
        })
        .map(|(k, v)| (k.to_owned(), v as u64))
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(recount(records), expected);
    let ledger = expectation.ledger();
    assert_eq!(ledger.get(Counter::RecordsRead), records.len() as u64);
    assert_eq!(ledger.get(Counter::BytesRead), records.iter().map(|r| r.value.len() as u64).sum::<u64>());
}

/// Produces by `line`, reads back and recounts; returns the records, what was printed and the expectation.
fn produce_and_recount(partitions: i32, line: &str) -> (Vec<Read>, String, Expectation) {
    produce_until(&AtomicBool::new(false), &cluster(partitions).bootstrap_servers(), partitions, line)
}

fn produce_until(stop: &AtomicBool, brokers: &str, partitions: i32, line: &str) -> (Vec<Read>, String, Expectation) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("expect.txt");
    let mut args = args(brokers, line);
    args.expect = Some(file.clone());
    let mut out = Vec::new();
    run(&args, stop, &mut out).expect("a load that is produced");
    let expectation = Expectation::parse(&std::fs::read_to_string(file).expect("a file")).expect("an expectation");
    let records = read_back(brokers, partitions);
    assert_as_expected(&records, &expectation);
    (records, String::from_utf8(out).expect("text"), expectation)
}

#[test]
fn every_record_has_the_headers_that_were_asked_for_and_no_other_has_any() {
    let load = "--rate 0 --spans 500 --header tenant=acme --header region=eu=west";
    let (records, ..) = produce_and_recount(2, load);
    let wanted = [("tenant".to_owned(), b"acme".to_vec()), ("region".to_owned(), b"eu=west".to_vec())];
    assert!(!records.is_empty() && records.iter().all(|record| record.headers == wanted));
    let (records, ..) = produce_and_recount(2, "--rate 0 --spans 500");
    assert!(!records.is_empty() && records.iter().all(|record| record.headers.is_empty()));
}

#[test]
fn what_is_in_the_topic_is_what_was_expected_trace_by_trace() {
    let line = "--rate 0 --spans 8000 --seed 3 --start-time 2026-01-31T12:00:00Z --virtual-rate 1000";
    let (records, out, _) = produce_and_recount(6, line);
    for record in &records {
        assert_eq!(partition_of(&record.key, 6).cast_signed(), record.partition);
        assert!((1_769_860_800_000..1_769_860_812_000).contains(&record.timestamp));
    }
    for word in ["spans 8", &format!("records {}", records.len()), "bytes ", "seconds ", "expectation "] {
        assert!(out.contains(word), "{word} in {out}");
    }
}

#[test]
fn what_is_in_the_topic_is_what_was_expected_in_full_records() {
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let line = format!(
            "--rate 0 --spans 6000 --group partition --topology scaled --services 12 --operations 140 \
             --spans-per-record 100 --virtual-rate 20000 --compression {compression} --error-share 0.1"
        );
        let (records, ..) = produce_and_recount(3, &line);
        for record in &records {
            assert_eq!(partition_of(&record.key, 3).cast_signed(), record.partition);
        }
    }
}

#[test]
fn a_paced_load_takes_its_time_and_its_timestamps_are_the_wall_clocks() {
    let (records, ..) = produce_and_recount(2, "--rate 2000 --duration 1s --seed 8");
    let (first, last) = (records.iter().map(|r| r.timestamp).min(), records.iter().map(|r| r.timestamp).max());
    let length = last.expect("records") - first.expect("records");
    assert!((900..4_000).contains(&length), "{length} ms");
}

#[test]
fn a_stopped_load_is_delivered_and_its_expectation_holds() {
    let (stop, cluster) = (AtomicBool::new(false), cluster(2));
    let brokers = cluster.bootstrap_servers();
    let (_, _, expectation) = std::thread::scope(|scope| {
        let handle = scope.spawn(|| produce_until(&stop, &brokers, 2, "--rate 3000 --seed 8"));
        let topic = reader(&brokers);
        while !handle.is_finished() && (0..2).all(|partition| length(&topic, partition) == 0) {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        handle.join().expect("no panic")
    });
    assert_eq!(expectation.ledger().pending_edges(), 0);
}

#[test]
fn a_refused_record_is_an_error_and_leaves_no_expectation() {
    let cluster = cluster(2);
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 50];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("expect.txt");
    let mut args = args(&cluster.bootstrap_servers(), "--rate 0 --spans 500");
    args.expect = Some(file.clone());
    let failed = run(&args, &AtomicBool::new(false), &mut Vec::new());
    assert!(matches!(failed, Err(ProduceError::NotDelivered { .. } | ProduceError::Kafka { .. })), "{failed:?}");
    assert!(!file.exists());
}

#[test]
fn a_record_that_the_broker_refused_is_not_called_delivered_because_a_later_one_was() {
    let cluster = cluster(1);
    // Long enough for a second request, were it sent before the first is answered.
    cluster.broker_round_trip_time(1, Duration::from_millis(100)).expect("a broker");
    // One request is refused, as by a broker that is about to lead, and the next one taken, as from a producer that it has
    // never heard of: this broker does not look at sequence numbers.
    let mut errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR; 10];
    errors[9] = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    let brokers = cluster.bootstrap_servers();
    let dir = tempfile::tempdir().expect("a directory");
    let mut args = args(&brokers, "--rate 100 --spans 300 --spans-per-record 5");
    args.expect = Some(dir.path().join("expect.txt"));
    run(&args, &AtomicBool::new(false), &mut Vec::new()).expect("everything is delivered");
    let text = std::fs::read_to_string(args.expect.expect("set above")).expect("an expectation");
    let expected = Expectation::parse(&text).expect("it parses");
    assert_eq!(read_back(&brokers, 1).len() as u64, expected.ledger().get(Counter::RecordsRead));
}
