//! Journals and deltas that lose something on real Kafka: the task does not run, and says what to do.

use std::time::Duration;

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use spanmill::core::journal::{Frame, FrameKind};

use super::place::{Place, records, says, spans};
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

/// By partition, the records of a topic.
type Log = Vec<Vec<Vec<u8>>>;

/// Journals must be there from their first record on, to be put back as they were.
const SETTINGS: [&str; 2] = ["kafka.journal_retention=1h", "service_graphs.enabled=false"];

#[test]
fn a_journal_of_kafka_that_lost_its_end_or_its_beginning_is_said_loudly_and_goes_on_once_it_is_restored() {
    let place = Place::start("damaged", 1);
    let before = records(Duration::from_secs(5));
    place.send(before.iter().map(|r| (0, r)));
    let worker = place.insider(&SETTINGS);
    place.counts_to(spans(&before));
    worker.stop();
    let group = place.group();
    let spans_journal = format!("{group}-{}-journal", place.topic);
    let series_journal = format!("{group}-series-journal");
    let deltas = format!("{group}-deltas");
    for (group, topic, journal) in
        [(&group, place.topic, &spans_journal), (&format!("{group}-shards"), deltas.as_str(), &series_journal)]
    {
        group_knows(&place, group, topic, last_commit(&place.log(journal, 0)));
    }

    for journal in [&series_journal, &spans_journal] {
        let whole: Log = (0..partitions(&place, journal)).map(|p| place.log(journal, p)).collect();
        // Up to its first commit.
        remake(&place, journal, &whole.iter().map(|log| log[..=first_commit(log)].to_vec()).collect());
        let log = refused(&place, &format!("{journal}[0] ends at offset "));
        assert!(log.contains("has lost its end") && log.contains("Restore it, or start again"), "{log}");
        // All of it.
        remake(&place, journal, &whole.iter().map(|_| Vec::new()).collect());
        let log = refused(&place, &format!("{journal}[0] is empty"));
        assert!(log.contains("it was deleted"), "{log}");
        // Its beginning, and more of it than spanmill itself would have deleted.
        remake(&place, journal, &whole);
        behead(&place, journal);
        let log = refused(&place, &format!("{journal}[0]: the journal was cut"));
        assert!(log.contains("restore the topic"), "{log}");
        remake(&place, journal, &whole);
    }
    assert_eq!(place.calls().to_bits(), spans(&before).to_bits(), "nothing was counted meanwhile");

    let after = records(Duration::from_secs(1));
    place.send(after.iter().map(|r| (0, r)));
    let worker = place.insider(&SETTINGS);
    place.counts_to(spans(&before) + spans(&after));
    worker.stop();
    behead(&place, &deltas);
    place.send(after.iter().map(|r| (0, r)));
    // A snapshot makes up for the deltas before it, so they are needed only without one.
    remake(&place, &series_journal, &snapshots_left_out(&place, &series_journal));
    let log = refused(&place, &format!("{deltas}[0] begins at offset "));
    assert!(log.contains("records were deleted by another process"), "{log}");
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

/// Waits until a worker has said this; then it can be stopped as always.
fn refused(place: &Place, what: &str) -> String {
    let mut worker = place.worker("worker", &SETTINGS);
    let log = says(&mut worker, what);
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    log
}

fn partitions(place: &Place, topic: &str) -> i32 {
    i32::try_from(place.kafka.partitions(topic)).expect("few")
}

/// Waits until the group has learned how far the journals were.
fn group_knows(place: &Place, group: &str, topic: &str, wanted: i64) {
    let probe: BaseConsumer = place.client().set("group.id", group).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    wait_until("the group knows the offset", PATIENCE, || {
        let found = probe.committed_offsets(list.clone(), PATIENCE).map_err(|e| e.to_string())?;
        let offset = found.elements()[0].offset();
        if offset == Offset::Offset(wanted) { Ok(()) } else { Err(format!("{offset:?}")) }
    });
}

fn first_commit(log: &[Vec<u8>]) -> usize {
    let is_commit = |record: &Vec<u8>| Frame::decode(record).is_ok_and(|f| f.header.kind == FrameKind::Commit);
    log.iter().position(is_commit).expect("a commit")
}

/// Up to where the last commit goes.
fn last_commit(log: &[Vec<u8>]) -> i64 {
    let mut frames = log.iter().rev().map(|record| Frame::decode(record).expect("a frame").header);
    frames.find(|header| header.kind == FrameKind::Commit).expect("a commit").to
}

fn snapshots_left_out(place: &Place, journal: &str) -> Log {
    let other = |record: &Vec<u8>| Frame::decode(record).is_ok_and(|f| f.header.kind != FrameKind::Snapshot);
    let kept = |p| place.log(journal, p).into_iter().filter(other).collect();
    (0..partitions(place, journal)).map(kept).collect()
}

/// Deletes all records of a topic.
fn behead(place: &Place, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = place.client().create().expect("a client");
    let mut ends = TopicPartitionList::new();
    for p in 0..partitions(place, topic) {
        ends.add_partition_offset(topic, p, Offset::Offset(place.bounds(topic, p).1)).expect("an offset");
    }
    block_on(admin.delete_records(&ends, &AdminOptions::new())).expect("the broker answers");
}

/// Deletes a topic and makes it again with these records.
fn remake(place: &Place, topic: &str, log: &Log) {
    let admin: AdminClient<DefaultClientContext> = place.client().create().expect("a client");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for gone in block_on(admin.delete_topics(&[topic], &options)).expect("the broker answers") {
        gone.expect("the topic was there");
    }
    wait_until("the topic is gone", PATIENCE, || match partitions(place, topic) {
        0 => Ok(()),
        n => Err(format!("{n} partitions")),
    });
    let new = NewTopic::new(topic, log.len() as i32, TopicReplication::Fixed(1));
    let new = new.set("retention.ms", "-1").set("retention.bytes", "-1");
    for made in block_on(admin.create_topics(&[new], &options)).expect("the broker answers") {
        made.expect("the topic is new");
    }
    let producer: BaseProducer = place.client().create().expect("a producer");
    for (p, records) in (0..).zip(log) {
        for record in records {
            let message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(p).payload(record);
            producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
        }
    }
    producer.flush(PATIENCE).expect("everything is delivered");
}
