//! A transaction of the source that stays open: what lies behind it is there and cannot be read.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::tools::loadgen::Record;

use super::place::{Place, all_run, records, says, spans};
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

/// `kafka.shards` of the tests.
const SHARDS: usize = 4;
/// Partitions that yield nothing for so long are looked at.
const STUCK: &str = "kafka.stuck_after=1s";

/// `service_graphs.wait` of the test of halves, in milliseconds.
const WAIT: i64 = 4_000;

/// Opens a transaction with these records.
fn open(place: &Place, id: &str, records: &[Record]) -> BaseProducer {
    let mut config = place.client();
    config.set("transactional.id", id).set("transaction.timeout.ms", "600000");
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("a coordinator");
    producer.begin_transaction().expect("none is open");
    for record in records {
        let message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(place.topic).partition(0);
        let message = message.payload(record.value.as_slice()).timestamp(record.timestamp);
        producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    producer
}

#[test]
fn records_behind_an_open_transaction_of_kafka_are_waited_for_and_said_and_counted_once_it_ends() {
    let place = Place::start("open", 1);
    let settings = [STUCK, "service_graphs.enabled=false"];
    let [first, pending, behind] = [6, 5, 4].map(|ago| records(Duration::from_secs(ago)));
    place.send(first.iter().map(|r| (0, r)));
    let mut worker = place.worker("worker", &settings);
    let counted = spans(&first);
    place.counts_to(counted);
    let transaction = open(&place, "open", &pending);
    place.send(behind.iter().map(|r| (0, r)));
    let log = says(&mut worker, "an open transaction blocks reading");
    assert!(log.contains("kafka-transactions"), "{log}");
    // Nothing is wrong with the partition: its fetch need not be restarted.
    let log = worker.log();
    assert!(!log.contains("no records received although the partition has unread records"), "{log}");
    assert_eq!(place.calls().to_bits(), counted.to_bits(), "nothing is read that may yet be aborted");
    // A worker that acquires the partition meanwhile waits as well.
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    let worker = place.insider(&settings);
    all_run(&[&worker], 1 + SHARDS);
    assert_eq!(place.calls().to_bits(), counted.to_bits());
    transaction.commit_transaction(PATIENCE).expect("committed");
    let counted = counted + spans(&pending) + spans(&behind);
    place.counts_to(counted);
    // One that is aborted counts nothing, and holds nothing up afterwards.
    let aborted = open(&place, "aborted", &pending);
    place.send(behind.iter().map(|r| (0, r)));
    aborted.abort_transaction(PATIENCE).expect("aborted");
    place.counts_to(counted + spans(&behind));
    assert_eq!(worker.metric("spanmill_partition_stalls_total"), 0);
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn an_edge_whose_other_side_lies_in_an_open_transaction_of_kafka_is_waited_for() {
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Server};

    use super::scene::{child, record, resource, span};
    // The other partition has nothing but the time.
    let place = Place::start("halves", 2);
    let settings = [STUCK, "service_graphs.wait=4s", "time.idle=1s", "time.stall_grace=1h"];
    let call = span(1, "ask", Client, Duration::from_millis(20));
    let answer = child(&call, span(2, "answer", Server, Duration::from_millis(10)));
    let worker = place.insider(&settings);
    all_run(&[&worker], 2 + SHARDS);
    place.send_value(0, &record(vec![resource(&[("service.name", "front")], vec![call])]));
    let value = record(vec![resource(&[("service.name", "back")], vec![answer])]);
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).expect("after 1970");
    let timestamp = now.as_millis() as i64;
    let sent = Record { key: [b'0'; 32], value, timestamp, spans: 1, partition: None };
    let transaction = open(&place, "halves", &[sent]);
    wait_until("the other partition has come to where pending edges of now are given up", PATIENCE, || {
        match worker.stream_time(1) {
            Some(time) if time > timestamp + 2 * WAIT => Ok(()),
            time => Err(format!("{time:?}")),
        }
    });
    assert_eq!(worker.ledger().pending_edges(), 1, "the call still waits");
    transaction.commit_transaction(PATIENCE).expect("committed");
    let completed = || worker.ledger().get(spanmill::core::model::Counter::EdgesCompleted);
    wait_until("the edge is complete", PATIENCE, || match completed() {
        1 => Ok(()),
        n => Err(format!("{n}")),
    });
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}
