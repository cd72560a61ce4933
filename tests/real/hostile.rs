//! What producers may do to a worker through a broker that lets them: batches that unpack to far more than they are,
//! records far larger than usual, and dead letters that no topic accepts.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Internal, Server};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rdkafka::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::worker::kafka::reader::Stretch;
use spanmill::worker::kafka::scan::Scanner;
use spanmill::worker::kafka::{KafkaError, LogReader};

use super::memory::Watched;
use super::place::{Place, says};
use super::scene::{child, record, resource, span};
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

/// Records of a bomb, and the bytes of each. Together, zstd unpacks them no more.
const RECORDS: usize = 200;
const RECORD: usize = 1_000_000;
/// snappy packs no tighter than 21:1, and a batch may have a megabyte.
const SNAPPY_RECORDS: usize = 20;
/// What librdkafka takes of anything that is sent to it, by default.
const MORE: &str = "kafka.properties.receive.message.max.bytes=1000000000";
const LIMIT: &str = "worker.memory_limit=64MiB";
/// What a worker may take on top of what it takes at rest and of the unpacked batch, in MiB.
const SLACK: u64 = 64;
/// A record that is far larger than usual.
const LARGE: usize = 16_000_000;
const ALLOWS_LARGE: &str = "max.message.bytes=20000000";

/// Metrics: their names and a label.
const UNREADABLE: (&str, &str) = ("spanmill_records_skipped_total{", "reason=\"unreadable\"");
const UNDECODABLE: (&str, &str) = ("spanmill_records_dropped_total{", "reason=\"undecodable\"");
const READ: (&str, &str) = ("spanmill_records_read_total{", "");
const COMPLETED: (&str, &str) = ("spanmill_edges_closed_total{", "outcome=\"completed\"");
const STORED: (&str, &str) = ("spanmill_dead_letters_total{", "outcome=\"stored\"");
const FAILED: (&str, &str) = ("spanmill_dead_letters_total{", "outcome=\"failed\"");

/// Sends records to a partition in one batch.
fn send_batch(place: &Place, codec: &str, partition: i32, values: &[&[u8]]) {
    let settings = [
        ("compression.type", codec),
        ("message.max.bytes", "1000000000"),
        ("batch.size", "2147483647"),
        ("batch.num.messages", "1000000"),
        // Nothing is sent before all is there.
        ("linger.ms", "100000"),
        ("queue.buffering.max.kbytes", "2097151"),
        ("message.timeout.ms", "120000"),
    ];
    let mut config = place.client();
    for (key, value) in settings {
        config.set(key, value);
    }
    let producer: BaseProducer = config.create().expect("a producer");
    let before = place.bounds(place.topic, partition).1;
    for value in values {
        let message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(place.topic).partition(partition).payload(value);
        producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("the fate of all is known");
    assert_eq!(place.bounds(place.topic, partition).1, before + values.len() as i64, "the broker takes them");
}

/// One span, in a record with as much ballast as is wanted.
fn heavy(id: u64, ballast: usize) -> Vec<u8> {
    let ballast = "x".repeat(ballast);
    let spans = vec![span(id, "work", Internal, Duration::from_millis(3))];
    record(vec![resource(&[("service.name", "shop"), ("ballast", &ballast)], spans)])
}

fn counted(place: &Place, worker: &mut Watched, calls: usize) {
    wait_until("everything is counted", PATIENCE, || {
        worker.look();
        match place.calls() {
            found if found.to_bits() == (calls as f64).to_bits() => Ok(()),
            found => Err(format!("{found} of {calls}\n{}", worker.worker.tail())),
        }
    });
}

/// Waits until a metric, which is shown twice a second, is this.
fn reaches(worker: &mut Watched, (name, label): (&str, &str), n: u64) {
    wait_until(label, PATIENCE, || {
        worker.look();
        match worker.metric(name, label) {
            found if found == n => Ok(()),
            found => Err(format!("{found} of {n}\n{}", worker.worker.tail())),
        }
    });
}

#[test]
fn batches_in_kafka_that_unpack_to_two_hundred_times_their_size_are_counted_or_passed_over_aloud() {
    let place = Place::start("bombs", 5);
    let value = heavy(1, RECORD);
    let (mut calls, mut fresh) = (0, None);
    // librdkafka unpacks a batch as a whole, with gzip and lz4 whatever it comes to.
    for (partition, codec, records, settings, unpacks) in [
        (0, "gzip", RECORDS, vec![LIMIT], true),
        (1, "lz4", RECORDS, vec![LIMIT], true),
        (2, "snappy", SNAPPY_RECORDS, vec![LIMIT], true),
        (3, "zstd", RECORDS, vec![LIMIT], false),
        (4, "zstd", RECORDS, vec![LIMIT, MORE], true),
    ] {
        let mut worker = Watched::start(&place, &settings);
        // To tell the first partition by its first record, which is in a bomb, it has unpacked that bomb.
        let takes = worker.takes();
        assert!(takes <= *fresh.get_or_insert(takes) + SLACK, "{takes} MiB before the bomb");
        if partition > 0 {
            place.send_value(partition, &heavy(2, 0));
            calls += 1;
        }
        send_batch(&place, codec, partition, &vec![value.as_slice(); records]);
        place.send_value(partition, &heavy(3, 0));
        calls += 1 + if unpacks { records } else { 0 };
        counted(&place, &mut worker, calls);
        let log = worker.worker.tail();
        assert_eq!(log.contains("skipping a batch that cannot be decompressed"), !unpacks, "{log}");
        if !unpacks {
            let line = log.lines().find(|line| line.contains("skipping a batch")).expect("it is there");
            for word in ["from=1 ", &format!("to={} ", 1 + records), "receive.message.max.bytes"] {
                assert!(line.contains(word), "{word}: {line}");
            }
            reaches(&mut worker, UNREADABLE, records as u64);
        }
        let unpacked = (records * value.len()) as u64 >> 20;
        let (rest, most) = (worker.rest, worker.most());
        println!("bomb | {codec} | {unpacked} MiB | unpacks: {unpacks} | at rest {rest} MiB | at most {most} MiB");
        assert!(most <= rest + unpacked + SLACK, "{most} MiB\n{}", worker.worker.tail());
        assert_eq!(worker.worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.worker.tail());
    }
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn batches_in_kafka_that_cannot_be_unpacked_cost_themselves_only_also_over_a_restart_and_between_two_sides_of_an_edge()
{
    let place = Place::start("locked", 1);
    let settings = ["service_graphs.wait=10m", LIMIT];
    let call = span(7, "ask", Client, Duration::from_millis(20));
    let side = |span| record(vec![resource(&[("service.name", "shop")], vec![span])]);
    let value = heavy(1, 4 * RECORD);
    let bomb = vec![value.as_slice(); RECORDS / 4];
    let lost = 2 * bomb.len() as u64;

    place.send_value(0, &side(call.clone()));
    send_batch(&place, "zstd", 0, &bomb);
    place.send_value(0, &heavy(2, 0));
    send_batch(&place, "zstd", 0, &bomb);
    let reader = LogReader::new(&place.config(&[]).kafka).expect("a reader");
    let first = |from: i64| {
        let stretch = Stretch { topic: place.topic, partition: 0, from, to: from + 1 };
        reader.first(stretch, &AtomicBool::new(false), |m| m.offset()).expect("no time-out")
    };
    assert_eq!([first(0), first(2)], [Some(0), None], "what lies in a bomb cannot be looked up");
    let scanner = Scanner::new(&place.config(&[]).kafka).expect("a scanner");
    assert!(scanner.timestamp_at(place.topic, 0, 0).expect("an answer").is_some());
    assert_eq!(scanner.timestamp_at(place.topic, 0, 2).expect("an answer"), None);
    let all = Stretch { topic: place.topic, partition: 0, from: 0, to: 2 };
    let failed = scanner.read::<KafkaError>(all, &mut |_| Ok(())).expect_err("it comes to a bomb").to_string();
    assert!(failed.contains("offset 1") && failed.contains("Invalid compressed data"), "{failed}");
    let mut worker = Watched::start(&place, &settings);
    // The second one has nothing behind it.
    reaches(&mut worker, UNREADABLE, lost);
    counted(&place, &mut worker, 2);
    // `kill -9`: the next owner reads the pending edge again, and both batches.
    drop(worker);
    let answer = span(8, "answer", Server, Duration::from_millis(10));
    place.send_value(0, &side(child(&call, answer)));
    let mut worker = Watched::start(&place, &settings);
    counted(&place, &mut worker, 3);
    assert_eq!(worker.worker.tail().matches("skipping a batch").count(), 2, "{}", worker.worker.tail());
    reaches(&mut worker, COMPLETED, 1);
    // Each is counted once.
    reaches(&mut worker, UNREADABLE, lost);
    reaches(&mut worker, READ, 3);
    assert_eq!(worker.worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.worker.tail());
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

/// Bytes that no codec makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut noise);
    noise
}

/// The sizes of what is in the dead-letter topic.
fn letters(place: &Place, topic: &str) -> Vec<usize> {
    place.log(topic, 0).iter().map(Vec::len).collect()
}

/// A place whose topic takes large records, with a dead-letter topic that is configured so.
fn large(topic: &'static str, letters: &[&str]) -> Place {
    let place = Place::start(topic, 1);
    let allow = ["--alter", "--add-config", ALLOWS_LARGE, "--entity-type", "topics", "--entity-name", topic];
    place.kafka.admin("ConfigCommand", &allow);
    let dead = format!("{topic}-dead");
    place.kafka.tool("TopicCommand", &[&["--create", "--topic", &dead, "--partitions", "1"], letters].concat());
    place
}

#[test]
fn records_of_16_mb_in_kafka_are_counted_or_become_dead_letters() {
    let place = large("large", &["--config", ALLOWS_LARGE]);
    let mut worker = Watched::start(&place, &["kafka.dead_letter_topic=large-dead", LIMIT]);
    let name = "n".repeat(400);
    let spans: Vec<_> =
        (0..LARGE as u64 / 480).map(|id| span(id + 1, &name, Internal, Duration::from_millis(3))).collect();
    let (n, valid) = (spans.len(), record(vec![resource(&[("service.name", "shop")], spans)]));
    assert!(valid.len() > LARGE * 9 / 10, "{}", valid.len());
    let garbage = [vec![0xff; LARGE], noise(LARGE)];
    let codecs = ["none", "gzip", "lz4", "zstd", "snappy"];
    for codec in codecs {
        for value in garbage.iter().chain([&valid]) {
            send_batch(&place, codec, 0, &[value]);
        }
    }
    place.send_value(0, &heavy(1, 0));
    counted(&place, &mut worker, codecs.len() * n + 1);
    let dead = 2 * codecs.len();
    reaches(&mut worker, STORED, dead as u64);
    assert_eq!(letters(&place, "large-dead"), vec![LARGE; dead]);
    reaches(&mut worker, UNDECODABLE, dead as u64);
    let (rest, most) = (worker.rest, worker.most());
    println!("large | {} records of 16 MB | at rest {rest} MiB | at most {most} MiB", 3 * codecs.len());
    // Two records with what they are unpacked from, one to be read and one to come, up to 64 MiB of dead letters on their
    // way, and what compresses them.
    assert!(most <= rest + 3 * SLACK, "{most} MiB");
    assert_eq!(worker.worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.worker.tail());
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn a_dead_letter_that_is_too_large_for_its_kafka_topic_is_counted_and_said_and_holds_nothing_up() {
    let place = large("heavy", &[]);
    let mut worker = Watched::start(&place, &["kafka.dead_letter_topic=heavy-dead", LIMIT]);
    let small = b"\xffnothing";
    send_batch(&place, "none", 0, &[small]);
    send_batch(&place, "none", 0, &[&noise(LARGE)]);
    send_batch(&place, "none", 0, &[small]);
    place.send_value(0, &heavy(1, 0));
    counted(&place, &mut worker, 1);
    let log = says(&mut worker.worker, "dead letter not stored");
    assert!(log.contains("kafka.dead_letter_topic"), "{log}");
    reaches(&mut worker, STORED, 2);
    reaches(&mut worker, FAILED, 1);
    assert_eq!(letters(&place, "heavy-dead"), [small.len(); 2]);
    reaches(&mut worker, UNDECODABLE, 3);
    assert_eq!(worker.worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.worker.tail());
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}
