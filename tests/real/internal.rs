//! The topics that spanmill writes itself: dead letters, and what it deletes of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::place::{Insider, Place, all_run, records, spans};
use crate::PATIENCE;
use crate::servers::wait_until;

const LETTERS: &str = "letters";
/// How often each partition must have lost its beginning before its size is judged.
const TRIMS: usize = 8;

type Message<'a> = BaseRecord<'a, [u8], [u8]>;

#[test]
fn what_cannot_be_read_is_in_the_dead_letter_topic_of_kafka_with_its_reason_in_headers() {
    let place = Place::start("unreadable", 1);
    let good = &records(Duration::from_secs(5))[0];
    let mut client = ClientConfig::new();
    let producer: BaseProducer = client.set("bootstrap.servers", &place.kafka.brokers).create().expect("a producer");
    let send = |message: Message<'_>| producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    let at = good.timestamp;
    send(Message::to(place.topic).payload(&good.value).timestamp(at));
    let mine = OwnedHeaders::new().insert(Header { key: "mine", value: Some("kept") });
    send(Message::to(place.topic).key(b"a key").payload(b"\xff\xff not OTLP").timestamp(at).headers(mine));
    send(Message::to(place.topic).payload(&good.value).timestamp(at));
    producer.flush(PATIENCE).expect("everything is delivered");

    let worker = place.insider(&[&format!("kafka.dead_letter_topic={LETTERS}")]);
    wait_until("both good records are counted, and the other one is copied", PATIENCE, || {
        let stored = worker.metric("spanmill_dead_letters_total{outcome=\"stored\"}");
        let calls = place.calls();
        let done = stored == 1 && calls.to_bits() == (2.0 * f64::from(good.spans)).to_bits();
        if done { Ok(()) } else { Err(format!("{stored} letters, {calls} calls")) }
    });
    worker.stop();

    let reader: BaseConsumer = client.set("group.id", "people").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(LETTERS, 0, Offset::Beginning).expect("an offset");
    reader.assign(&list).expect("an assignment");
    let letter = reader.poll(PATIENCE).expect("a letter in time").expect("a letter");
    assert_eq!((letter.key(), letter.payload()), (Some(&b"a key"[..]), Some(&b"\xff\xff not OTLP"[..])));
    assert_eq!(letter.timestamp().to_millis(), Some(at));
    let headers: BTreeMap<String, String> = letter
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|h| (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned()))
        .collect();
    let group = place.group();
    for (key, value) in [
        ("mine", "kept"),
        ("spanmill-topic", place.topic),
        ("spanmill-partition", "0"),
        ("spanmill-offset", "1"),
        ("spanmill-group", group.as_str()),
    ] {
        assert_eq!(headers.get(key).map(String::as_str), Some(value), "{headers:?}");
    }
    assert!(headers.get("spanmill-reason").is_some_and(|reason| reason.contains("OTLP record")), "{headers:?}");
    assert_eq!(place.bounds(LETTERS, 0), (0, 1), "one letter");
}

#[test]
fn internal_topics_of_kafka_do_not_grow_with_the_time_that_a_worker_runs() {
    const PARTITIONS: i32 = 4;
    let place = Place::start("lasting", PARTITIONS.unsigned_abs());
    let worker = place.insider(&[]);
    let shards = i32::try_from(place.config(&[]).kafka.shards).expect("few");
    all_run(&[&worker], PARTITIONS as usize + shards as usize);
    let produce = place.produce(&["--rate", "300", "--seed", "7"]);
    let group = place.group();
    let internal = [
        (format!("{group}-{}-journal", place.topic), PARTITIONS),
        (format!("{group}-deltas"), shards),
        (format!("{group}-series-journal"), shards),
    ];
    // By partition and beginning, the most that it held.
    let mut held: BTreeMap<(&str, i32), BTreeMap<i64, i64>> = BTreeMap::new();
    wait_until("every partition has lost its beginning again and again", 2 * PATIENCE, || {
        for (topic, partitions) in &internal {
            for p in 0..*partitions {
                let (low, high) = place.bounds(topic, p);
                let most = held.entry((topic, p)).or_default().entry(low).or_default();
                *most = (high - low).max(*most);
            }
        }
        let fewest = held.values().map(BTreeMap::len).min().unwrap_or_default();
        if fewest > TRIMS { Ok(()) } else { Err(format!("{fewest} times at the least")) }
    });
    for ((topic, p), sizes) in &held {
        // Low water marks ascend with the time.
        let sizes: Vec<i64> = sizes.values().copied().collect();
        let (early, late) = sizes.split_at(sizes.len() / 2);
        let most = |sizes: &[i64]| sizes.iter().copied().max().unwrap_or_default();
        let ever = place.bounds(topic, *p).1;
        println!("{topic}[{p}]: {ever} records ever, at most {} at a time, then {}", most(early), most(late));
        assert!(2 * most(late) <= ever, "{topic}[{p}] has kept most of its {ever} records: {sizes:?}");
    }
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    worker.stop();
}

/// Waits until every partition of these topics has lost its beginning so many times more.
fn all_trimmed(place: &Place, topics: &[(String, i32)], times: usize) {
    let all: Vec<(&str, i32)> =
        topics.iter().flat_map(|(topic, n)| (0..*n).map(move |p| (topic.as_str(), p))).collect();
    let mut begins: BTreeMap<(&str, i32), BTreeSet<i64>> = BTreeMap::new();
    wait_until("every partition has lost its beginning again and again", 2 * PATIENCE, || {
        let mut held = Vec::new();
        for (topic, p) in &all {
            let (low, high) = place.bounds(topic, *p);
            let seen = begins.entry((topic, *p)).or_default();
            seen.insert(low);
            if seen.len() <= times {
                held.push(format!("{topic}[{p}]: {low} to {high}"));
            }
        }
        if held.is_empty() { Ok(()) } else { Err(format!("{} of {}: {held:?}", held.len(), all.len())) }
    });
}

#[test]
fn internal_topics_of_kafka_do_not_grow_where_shards_have_nothing_to_write_and_all_series_have_ended() {
    let (place, worker, internal) = idle("idle", 4, 16);
    // Nothing has ever come.
    all_trimmed(&place, &internal, 2);
    // Fewer services than shards, in one partition of four; and then all series have ended.
    let sent = records(Duration::from_secs(3));
    place.send(sent.iter().map(|r| (0, r)));
    place.counts_to(spans(&sent));
    all_trimmed(&place, &internal, 4);
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn internal_topics_of_kafka_do_not_grow_where_64_partitions_are_silent() {
    let (place, worker, internal) = idle("silent", 64, 2);
    all_trimmed(&place, &internal, 2);
    worker.stop();
}

/// A worker with so many partitions and shards, and its internal topics.
fn idle(topic: &'static str, partitions: u32, shards: i32) -> (Place, Insider, [(String, i32); 3]) {
    let place = Place::start(topic, partitions);
    let worker = place.insider(&[&format!("kafka.shards={shards}"), "series.stale_after=3s"]);
    let partitions = partitions.cast_signed();
    all_run(&[&worker], (partitions + shards) as usize);
    let group = place.group();
    let internal = [
        (format!("{group}-{topic}-journal"), partitions),
        (format!("{group}-deltas"), shards),
        (format!("{group}-series-journal"), shards),
    ];
    (place, worker, internal)
}
