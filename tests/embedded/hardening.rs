//! What a worker does with hostile records and under bad conditions, through the library on the embedded broker.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::mill::{PATIENCE, TOPIC, config, create_topics, records, wait_until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use spanmill::config::settings::{Secret, TenantSource};
use spanmill::core::model::Counter;
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::telemetry::{TaskState, Telemetry};

const LETTERS: &str = "letters";

type Message<'a> = BaseRecord<'a, [u8], [u8]>;

/// A dead letter.
#[derive(Debug)]
struct Letter {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Option<i64>,
    headers: BTreeMap<String, String>,
}

#[test]
fn what_cannot_be_read_is_copied_with_everything_it_had_and_the_reason() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let brokers = cluster.bootstrap_servers();
    let mut config = config(&brokers, &receiver.url(), TenantSource::Header("x-tenant".to_owned()));
    config.kafka.dead_letter_topic = LETTERS.to_owned();
    create_topics(&cluster, &config);
    cluster.create_topic(LETTERS, 1, 1).expect("a topic");

    let records = records();
    let tenant = || OwnedHeaders::new().insert(Header { key: "x-tenant", value: Some("acme") });
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    let send = |message: Message<'_>| producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    let good = &records[0];
    send(Message::to(TOPIC).payload(&good.value).timestamp(good.timestamp).headers(tenant()));
    let mine = tenant().insert(Header { key: "mine", value: Some("kept") });
    send(Message::to(TOPIC).key(b"a key").payload(b"\xff\xff not OTLP").timestamp(good.timestamp).headers(mine));
    send(Message::to(TOPIC).payload(&good.value).timestamp(good.timestamp));
    producer.flush(PATIENCE).expect("everything is delivered");

    let telemetry = Telemetry::new();
    let worker = Worker::start(config.clone(), telemetry.clone()).expect("a worker");
    let stored = "spanmill_dead_letters_total{outcome=\"stored\"} 2";
    wait_until("both letters are stored", || telemetry.render().contains(stored));
    let letters = letters(&brokers, 2);
    let of = |letter: &Letter, key: &str| letter.headers.get(key).cloned().unwrap_or_default();

    assert_eq!(letters[0].key.as_deref(), Some(b"a key".as_slice()));
    assert_eq!(letters[0].value.as_deref(), Some(b"\xff\xff not OTLP".as_slice()));
    assert_eq!(letters[0].timestamp, Some(good.timestamp));
    assert_eq!((of(&letters[0], "mine"), of(&letters[0], "x-tenant")), ("kept".to_owned(), "acme".to_owned()));
    assert!(of(&letters[0], "spanmill-reason").contains("OTLP record"), "{:?}", letters[0]);
    assert_eq!(letters[1].value.as_deref(), Some(good.value.as_slice()));
    assert!(of(&letters[1], "spanmill-reason").contains("tenant"), "{:?}", letters[1]);
    for (letter, offset) in letters.iter().zip(["1", "2"]) {
        assert_eq!(of(letter, "spanmill-topic"), TOPIC);
        assert_eq!(of(letter, "spanmill-partition"), "0");
        assert_eq!(of(letter, "spanmill-offset"), offset);
        assert_eq!(of(letter, "spanmill-group"), config.kafka.group);
    }
    let counter =
        |counter: Counter| telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.get(counter)).sum::<u64>();
    wait_until("the ledger is shown", || counter(Counter::RecordsRead) == 3);
    assert_eq!((counter(Counter::RecordsUndecodable), counter(Counter::RecordsWithoutTenant)), (1, 1));
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_backlog_is_read_completely_within_a_small_budget() {
    const LIMIT: usize = 1 << 19;
    /// One record, and a commit that is there twice until it is stored: once here, once in the producer's queue.
    const MARGIN: usize = LIMIT / 2 * 3;
    const RECORDS: i64 = 40;
    const NAMES: i64 = 100;
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let brokers = cluster.bootstrap_servers();
    let mut config = config(&brokers, &receiver.url(), TenantSource::Static("t".to_owned()));
    config.worker.memory_limit = LIMIT;
    (config.core.series.stale_after, config.core.series.forget_after) = (2_000, 2_000);
    create_topics(&cluster, &config);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    for i in 0..RECORDS {
        let value = strangers(i * NAMES, NAMES);
        let message = Message::to(TOPIC).payload(&value).timestamp(start + (i - RECORDS) * 1_000);
        producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");

    let telemetry = Telemetry::new();
    let worker = Worker::start(config, telemetry.clone()).expect("a worker");
    let counter =
        |counter: Counter| telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.get(counter)).sum::<u64>();
    let (most, throttled) = (RefCell::new((0, Vec::new())), Cell::new(false));
    wait_until("the backlog is read", || {
        let text = telemetry.render();
        let lines = text.lines().filter_map(|line| line.strip_prefix("spanmill_memory_bytes"));
        let parts: Vec<String> = lines.map(str::to_owned).collect();
        let held: usize = parts.iter().filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).sum();
        most.replace_with(|most| if held > most.0 { (held, parts) } else { std::mem::take(most) });
        throttled.set(throttled.get() || text.contains("\nspanmill_memory_throttled 1\n"));
        counter(Counter::RecordsRead) == RECORDS.unsigned_abs()
    });
    let (most, parts) = most.into_inner();
    assert!(throttled.get(), "{most} bytes were not too much: {parts:?}");
    assert!(most <= LIMIT + MARGIN, "{most} bytes: {parts:?}");
    println!("at most {most} bytes: {parts:?}");
    assert_eq!(counter(Counter::SpansCounted), (RECORDS * NAMES).unsigned_abs());
    assert_eq!(receiver.violations(), Vec::<String>::new());
    worker.stop().expect("a graceful stop");
}

#[test]
fn static_members_join_both_groups_and_work_and_come_back() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let mut config = config(&cluster.bootstrap_servers(), &receiver.url(), TenantSource::Static("t".to_owned()));
    for (key, value) in [("group.instance.id", "worker-1"), ("session.timeout.ms", "6000")] {
        config.kafka.properties.insert(key.to_owned(), Secret::new(value));
    }
    create_topics(&cluster, &config);
    for _ in 0..2 {
        let telemetry = Telemetry::new();
        let worker = Worker::start(config.clone(), telemetry.clone()).expect("a worker");
        wait_until("it works in both groups", || {
            let tasks = telemetry.tasks().snapshot();
            let running = tasks.iter().all(|(_, status)| status.state == TaskState::Running);
            tasks.len() == 2 && running && worker.joined_probe()()
        });
        worker.stop().expect("a graceful stop");
    }
}

/// A record of `n` spans with new names.
fn strangers(first: i64, n: i64) -> Vec<u8> {
    let span = |i: i64| Span {
        name: format!("operation {i}"),
        kind: 1,
        trace_id: vec![1; 16],
        span_id: i.to_be_bytes().to_vec(),
        end_time_unix_nano: 1_000_000,
        ..Span::default()
    };
    let spans = (first + 1..=first + n).map(span).collect();
    let scopes = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans: scopes, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn letters(brokers: &str, n: usize) -> Vec<Letter> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers).set("group.id", "people");
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(LETTERS, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("an assignment");
    let read = |_| {
        let message = consumer.poll(PATIENCE).expect("a letter in time").expect("a letter");
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let headers = message.headers().map(|h| h.iter().map(|h| (h.key.to_owned(), text(h.value))).collect());
        Letter {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            timestamp: message.timestamp().to_millis(),
            headers: headers.unwrap_or_default(),
        }
    };
    (0..n).map(read).collect()
}
