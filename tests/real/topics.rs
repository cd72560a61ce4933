//! What may happen to the source topic while the group is at work or away.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Server};
use spanmill::core::journal::{Frame, FrameKind, SpanCommit};
use spanmill::core::model::Counter;
use spanmill::tools::loadgen::Record;
use spanmill::worker::telemetry::TaskKind;

use super::place::{Place, all_run, counters, records, says, spans};
use super::scene::{child, record, resource, span};
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

/// `kafka.shards` of the tests.
const SHARDS: usize = 4;
/// Edges that are split on purpose, and the service that they belong to.
const SPLIT: u64 = 7;
const STRANGER: &str = "stranger";
const OLD: Duration = Duration::from_secs(3_600);

#[test]
fn partitions_that_are_added_to_a_kafka_topic_under_load_are_read_from_their_beginning_and_split_edges_are_accounted_for()
 {
    let place = Place::start("growing", 3);
    // Where the group begins must not decide where new partitions do.
    let settings = ["kafka.start=latest"];
    let workers = [place.insider(&settings), place.insider(&settings)];
    let both = [&workers[0], &workers[1]];
    all_run(&both, 3 + SHARDS);
    let refresh = ["--property", "topic.metadata.refresh.interval.ms=500"];
    let mut produce = place.produce(&[&["--rate", "400", "--seed", "7"], &refresh[..]].concat());
    wait_until("something is stored", PATIENCE, || {
        assert!(produce.exited().is_none(), "{}", produce.tail());
        if place.receiver.totals().samples > 0 { Ok(()) } else { Err(produce.tail()) }
    });
    // The two sides of an edge that its key sends to one partition before and to another one afterwards.
    let calls: Vec<Span> = (0..SPLIT).map(|id| span(id + 1, "ask", Client, Duration::from_millis(20))).collect();
    let answer = |call: &Span| child(call, span(SPLIT + 1, "answer", Server, Duration::from_millis(10)));
    place.send_value(0, &record(vec![resource(&[("service.name", STRANGER)], calls.clone())]));
    let began = Instant::now();
    place.kafka.tool("TopicCommand", &["--alter", "--topic", place.topic, "--partitions", "6"]);
    all_run(&both, 6 + SHARDS);
    println!("all partitions are read {:.1} s after the topic grew", began.elapsed().as_secs_f64());
    place.send_value(5, &record(vec![resource(&[("service.name", STRANGER)], calls.iter().map(answer).collect())]));
    let sent = || place.bounds(place.topic, 4).1;
    wait_until("the load has found the new partitions", PATIENCE, || {
        if sent() > 20 { Ok(()) } else { Err(sent().to_string()) }
    });
    let expected = place.end(produce);
    place.is_exact(&expected, |series| series.starts_with("traces_spanmetrics_") && !series.contains(STRANGER));

    let ledger = || {
        let mut sum = workers[0].ledger();
        sum.merge(&workers[1].ledger());
        sum
    };
    wait_until("no pending edge waits any more", PATIENCE, || match ledger().pending_edges() {
        0 => Ok(()),
        n => Err(n.to_string()),
    });
    let (found, wanted) = (ledger(), expected.ledger());
    for (counter, more) in [
        (Counter::RecordsRead, 2),
        (Counter::SpansRead, 2 * SPLIT),
        (Counter::SpansCounted, 2 * SPLIT),
        (Counter::EdgeSpans, 2 * SPLIT),
    ] {
        assert_eq!(found.get(counter), wanted.get(counter) + more, "{}", counter.name());
    }
    // Edges of the load may have been split as well.
    let split = wanted.get(Counter::EdgesCompleted) - found.get(Counter::EdgesCompleted);
    let alone = [Counter::EdgesVirtual, Counter::EdgesExpiredClient, Counter::EdgesExpiredServer];
    let more = counters(&found, &alone) - counters(wanted, &alone);
    println!("{} edges were split, and {more} sides more than expected have waited in vain", split + SPLIT);
    assert!(more >= 2 * SPLIT + split, "each side of a split edge is accounted for: {more}, {split}");
    let edges = counters(&found, &[Counter::EdgesCompleted, Counter::EdgesVirtual]) as f64;
    wait_until("the series have as many edges as the ledger", PATIENCE, || {
        let all = place.receiver.snapshot().into_iter();
        let all = all.filter(|(series, _)| series.starts_with("traces_service_graph_request_total"));
        match all.map(|(_, s)| s.last_value).sum::<f64>() {
            sum if sum.to_bits() == edges.to_bits() => Ok(()),
            sum => Err(format!("{sum} of {edges}")),
        }
    });
    workers.into_iter().for_each(super::place::Insider::stop);
}

#[test]
fn a_kafka_topic_that_is_deleted_and_made_again_is_refused_with_the_remedy_which_works() {
    let half = |mut after: Vec<Record>, _| {
        after.truncate(after.len() / 2);
        after
    };
    made_again("anew", "ends at offset", false, half);
}

#[test]
fn a_kafka_topic_that_is_made_again_with_more_records_than_before_is_refused_with_the_remedy_which_works() {
    made_again("refilled", "holds another record at offset", false, |after, before| [after, before].concat());
}

#[test]
fn a_kafka_topic_that_is_made_again_between_two_fetches_of_a_worker_is_refused_before_a_record_of_it_counts() {
    made_again("swapped", "holds another record at offset", true, |after, before| [after, before].concat());
}

#[test]
fn a_kafka_topic_that_is_made_again_is_told_by_its_id_when_nothing_is_left_of_what_was_read() {
    let place = Place::start("renamed", 1);
    let settings = ["service_graphs.enabled=false"];
    let before = records(Duration::from_secs(5));
    place.send(before.iter().map(|r| (0, r)));
    let worker = place.insider(&settings);
    place.counts_to(spans(&before));
    worker.stop();
    place.kafka.tool("TopicCommand", &["--delete", "--topic", place.topic]);
    gone(&place, place.topic);
    place.create(1);
    let after = records(Duration::from_secs(1));
    place.send(before.iter().chain(&after).map(|r| (0, r)));
    // As retention would: it begins where the old one was read up to.
    place.delete_below(place.topic, 0, before.len() as i64);

    let mut worker = place.worker("worker", &settings);
    let log = says(&mut worker, "the topic was re-created");
    assert!(log.contains("renamed[0] has the ID ") && log.contains("--reset-offsets"), "{log}");
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    assert_eq!(place.calls().to_bits(), spans(&before).to_bits(), "nothing of another topic counts");
    let group = place.group();
    let reset = ["--group", &group, "--topic", place.topic, "--reset-offsets", "--to-earliest", "--execute"];
    place.kafka.tool("consumer.group.ConsumerGroupCommand", &reset);
    for _ in 0..2 {
        let worker = place.insider(&settings);
        all_run(&[&worker], 1 + SHARDS);
        place.counts_to(spans(&before) + spans(&after));
        worker.stop();
    }
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn two_source_topics_of_kafka_that_have_changed_places_are_both_refused() {
    let place = Place::start("one", 1);
    let other = "other";
    let create = || place.kafka.tool("TopicCommand", &["--create", "--topic", other, "--partitions", "1"]);
    create();
    let settings = ["kafka.topics=one,other", "service_graphs.enabled=false"];
    let [mine, its] = [6, 5].map(|ago| records(Duration::from_secs(ago)));
    place.send_to(place.topic, mine.iter().map(|r| (0, r)));
    place.send_to(other, its.iter().map(|r| (0, r)));
    let worker = place.insider(&settings);
    let counted = spans(&mine) + spans(&its);
    place.counts_to(counted);
    worker.stop();
    for topic in [place.topic, other] {
        place.kafka.tool("TopicCommand", &["--delete", "--topic", topic]);
        gone(&place, topic);
    }
    place.create(1);
    create();
    place.send_to(place.topic, its.iter().map(|r| (0, r)));
    place.send_to(other, mine.iter().map(|r| (0, r)));
    let mut worker = place.worker("worker", &settings);
    for topic in [place.topic, other] {
        says(&mut worker, &format!("{topic}[0] holds another record at offset"));
    }
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    assert_eq!(place.calls().to_bits(), counted.to_bits());
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

/// Waits until a topic that was deleted is gone.
fn gone(place: &Place, topic: &str) {
    wait_until("the topic is gone", PATIENCE, || match place.kafka.partitions(topic) {
        0 => Ok(()),
        n => Err(format!("{n} partitions")),
    });
}

/// Deletes the topic of a group at work and makes it again with the records that `refill` makes of fresh ones and those
/// before. The worker may be `frozen` meanwhile: then no fetch fails.
fn made_again(topic: &'static str, why: &str, frozen: bool, refill: fn(Vec<Record>, Vec<Record>) -> Vec<Record>) {
    let place = Place::start(topic, 1);
    let settings = [
        "service_graphs.enabled=false",
        "kafka.properties.topic.metadata.refresh.interval.ms=1000",
        // It stays a member of the group.
        "kafka.properties.session.timeout.ms=300000",
    ];
    let before = records(Duration::from_secs(5));
    place.send(before.iter().map(|r| (0, r)));
    let mut worker = place.worker("worker", &settings);
    wait_until("everything is counted", PATIENCE, || {
        crate::must_run(&mut worker);
        let calls = place.calls();
        if calls.to_bits() == spans(&before).to_bits() { Ok(()) } else { Err(format!("{calls}\n{}", worker.tail())) }
    });

    if frozen {
        worker.signal("STOP");
    }
    place.kafka.tool("TopicCommand", &["--delete", "--topic", place.topic]);
    gone(&place, place.topic);
    place.create(1);
    let counted = spans(&before);
    let after = refill(records(Duration::from_secs(5)), before);
    place.send(after.iter().map(|r| (0, r)));
    if frozen {
        worker.signal("CONT");
    }
    let log = says(&mut worker, "the topic was re-created");
    assert!(log.contains("kafka-consumer-groups --reset-offsets"), "{log}");
    assert!(!frozen || log.contains("the topic was deleted and re-created"), "{log}");
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    assert_eq!(place.calls().to_bits(), counted.to_bits(), "nothing is read from the middle of another topic");
    let mut worker = place.worker("another worker", &settings);
    let log = says(&mut worker, "the topic was re-created");
    assert!(log.contains(why), "{log}");
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());

    let group = place.group();
    let reset = ["--group", &group, "--topic", place.topic, "--reset-offsets", "--to-earliest", "--execute"];
    place.kafka.tool("consumer.group.ConsumerGroupCommand", &reset);
    // Once it has been followed, it is the topic that the next worker expects.
    for _ in 0..2 {
        let worker = place.insider(&settings);
        all_run(&[&worker], 1 + SHARDS);
        place.counts_to(counted + spans(&after));
        worker.stop();
    }
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn what_kafka_deletes_before_a_stopped_worker_comes_back_is_in_the_ledger_by_partition_and_offsets() {
    let kafka = RealKafka::start_with("log.retention.check.interval.ms=500\nlog.initial.task.delay.ms=500\n");
    let place = Place::start_on(kafka, "expiring", 2);
    let settings = ["service_graphs.enabled=false"];
    let seen = records(OLD);
    place.send((0..2).flat_map(|p| seen.iter().map(move |r| (p, r))));
    let worker = place.insider(&settings);
    let read = |read: u64, worker: &super::place::Insider| {
        wait_until("everything is read", PATIENCE, || match worker.ledger().get(Counter::RecordsRead) {
            n if n == read => Ok(()),
            n => Err(format!("{n} of {read} records")),
        });
    };
    let n = seen.len() as u64;
    read(2 * n, &worker);
    worker.stop();

    // More than it has seen, in one partition only; all of it is older than what may stay.
    place.send(seen.iter().map(|r| (0, r)));
    let deleting =
        ["--alter", "--add-config", "retention.ms=600000", "--entity-type", "topics", "--entity-name", place.topic];
    place.kafka.admin("ConfigCommand", &deleting);
    wait_until("retention has deleted it", PATIENCE, || {
        match (place.bounds(place.topic, 0), place.bounds(place.topic, 1)) {
            ((low, high), (other, end)) if low == high && other == end => Ok(()),
            bounds => Err(format!("{bounds:?}")),
        }
    });
    let fresh = records(Duration::from_secs(5));
    place.send((0..2).flat_map(|p| fresh.iter().map(move |r| (p, r))));

    let mut process = place.worker("worker", &settings);
    let log = says(&mut process, "unread records were deleted by topic retention");
    let line = log.lines().find(|l| l.contains("unread records were deleted")).expect("it says so");
    for word in ["partition=0".to_owned(), format!("from={n}"), format!("to={}", 2 * n)] {
        assert!(line.contains(&word), "{word}: {line}");
    }
    assert_eq!(log.matches("unread records were deleted").count(), 1, "the other partition has lost nothing: {log}");
    assert_eq!(process.terminate(STOPS_WITHIN).code(), Some(0), "{}", process.tail());

    let worker = place.insider(&settings);
    read(4 * n, &worker);
    let lost = |p: i32| {
        let statuses = worker.telemetry.tasks().snapshot().into_iter();
        let own = statuses.filter(|(id, _)| id.kind == TaskKind::Span && id.partition == p);
        own.map(|(_, s)| s.ledger.get(Counter::RecordsLost)).sum::<u64>()
    };
    assert_eq!([lost(0), lost(1)], [n, 0], "records lost, by partition");
    worker.stop();
    // The gap is a commit of its own.
    let losses = losses(&place, 0);
    assert_eq!(losses, [(n as i64, 2 * n as i64, n)]);
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

/// The commits of a partition's journal that count lost records: their offsets, and how many.
fn losses(place: &Place, partition: i32) -> Vec<(i64, i64, u64)> {
    let topic = format!("{}-{}-journal", place.group(), place.topic);
    let (mut before, mut found) = (0, Vec::new());
    for record in place.log(&topic, partition) {
        let frame = Frame::decode(&record).expect("a frame");
        if frame.header.kind != FrameKind::Commit {
            continue;
        }
        let lost = SpanCommit::decode(frame.body).expect("a commit in one part").ledger.get(Counter::RecordsLost);
        if lost > before {
            found.push((frame.header.from, frame.header.to, lost - before));
        }
        before = lost;
    }
    found
}
