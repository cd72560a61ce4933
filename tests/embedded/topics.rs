//! Source topics that a regular expression matches, in formats and for tenants of their own, on the embedded broker.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::time::SystemTime;

use crate::mill::{PATIENCE, config, wait_until};
use crate::samples::{Sample, otlp_proto, samples, zipkin_json};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use spanmill::config::Config;
use spanmill::config::settings::{Secret, Start, TenantSource, TopicSettings};
use spanmill::core::model::Counter;
use spanmill::core::settings::Encoding;
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::kafka::TopicNames;
use spanmill::worker::kafka::topics::Topics;
use spanmill::worker::telemetry::{TaskKind, TaskState, Telemetry};

/// How many spans [`samples`] has.
const SPANS: f64 = 18.0;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn spans() -> Vec<Sample> {
    samples((now().unsigned_abs() - 10_000) * 1_000)
}

fn send(cluster: &Cluster, topic: &str, value: &[u8]) {
    send_at(cluster, topic, value, now());
}

/// Milliseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn send_at(cluster: &Cluster, topic: &str, value: &[u8], timestamp: i64) {
    let mut client = ClientConfig::new();
    let producer: BaseProducer =
        client.set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    let record = BaseRecord::<str, [u8]>::to(topic).payload(value).timestamp(timestamp);
    producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
    producer.flush(PATIENCE).expect("everything is delivered");
}

/// The broker creates no topics for others, so the internal ones are there already, of all of these `sources`. Every one of
/// them matches the regular expression.
fn place(receiver: &Receiver, sources: &[&str]) -> (Cluster, Config) {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let mut config = config(&cluster.bootstrap_servers(), &receiver.url(), TenantSource::Key);
    config.kafka.group = "traces".to_owned();
    config.kafka.topics = vec!["^traces-".to_owned()];
    config.kafka.start = Start::Latest;
    let properties = &mut config.kafka.properties;
    properties.insert("topic.metadata.refresh.interval.ms".to_owned(), Secret::new("100"));
    let names = TopicNames::new(&config.kafka.group);
    let journals = sources.iter().map(|source| names.journal(source));
    for topic in journals.chain([names.deltas(), names.series_journal()]) {
        cluster.create_topic(&topic, 1, 1).expect("a topic");
    }
    (cluster, config)
}

/// The source topics whose tasks run.
fn running(telemetry: &Telemetry) -> Vec<String> {
    let statuses = telemetry.tasks().snapshot().into_iter();
    let spans = statuses.filter(|(id, s)| id.kind == TaskKind::Span && s.state == TaskState::Running);
    spans.map(|(id, _)| id.topic).collect()
}

/// The calls of a tenant.
fn calls(receiver: &Receiver, tenant: &str) -> f64 {
    let prefix = format!("{tenant}/traces_spanmetrics_calls_total");
    let series = receiver.snapshot().into_iter().filter(|(series, _)| series.starts_with(&prefix));
    series.map(|(_, state)| state.last_value).sum()
}

#[test]
fn topics_that_match_have_formats_and_tenants_of_their_own_and_one_that_comes_later_is_read_from_its_beginning() {
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let (cluster, mut config) = place(&receiver, &["traces-otlp", "traces-zipkin", "traces-late"]);
    let of = |topic: &str, encoding, tenant: &str| TopicSettings {
        topic: topic.to_owned(),
        encoding: Some(encoding),
        tenant: Some(tenant.to_owned()),
    };
    config.kafka.topic_settings =
        vec![of("traces-zipkin", Encoding::ZipkinJson, "globex"), of("^traces-", Encoding::OtlpProto, "acme")];
    for topic in ["traces-otlp", "traces-zipkin", "other"] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    let telemetry = Telemetry::new();
    let worker = Worker::start(config, telemetry.clone()).expect("a worker");
    wait_until("both topics are read", || running(&telemetry) == ["traces-otlp", "traces-zipkin"]);
    send(&cluster, "traces-otlp", &otlp_proto(&spans()));
    send(&cluster, "traces-zipkin", &zipkin_json(&spans()));
    wait_until("both tenants have their spans", || {
        [calls(&receiver, "acme"), calls(&receiver, "globex")].iter().all(|n| n.to_bits() == SPANS.to_bits())
    });
    // Each format is refused on the other topic.
    send(&cluster, "traces-otlp", &zipkin_json(&spans()));
    send(&cluster, "traces-zipkin", &otlp_proto(&spans()));
    let counter = |counter| telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.get(counter)).sum::<u64>();
    wait_until("both are refused", || counter(Counter::RecordsUndecodable) == 2);

    cluster.create_topic("traces-late", 1, 1).expect("a topic");
    send(&cluster, "traces-late", &otlp_proto(&spans()));
    wait_until("the third topic is read", || running(&telemetry) == ["traces-late", "traces-otlp", "traces-zipkin"]);
    send(&cluster, "traces-late", &otlp_proto(&spans()));
    wait_until("all of it is counted", || calls(&receiver, "acme").to_bits() == (3.0 * SPANS).to_bits());
    assert_eq!(calls(&receiver, "globex").to_bits(), SPANS.to_bits());
    assert_eq!(receiver.violations(), Vec::<String>::new());
    assert!(!receiver.snapshot().keys().any(|series| !series.contains('/')), "a record without a tenant was counted");
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_topic_that_joins_and_cannot_be_read_yet_holds_no_step_back_and_is_counted_once_it_is_read() {
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let (cluster, mut config) = place(&receiver, &["traces-a", "traces-old"]);
    config.tenant = TenantSource::Static("acme".to_owned());
    cluster.create_topic("traces-a", 1, 1).expect("a topic");
    let telemetry = Telemetry::new();
    let worker = Worker::start(config.clone(), telemetry.clone()).expect("a worker");
    wait_until("the topic is read", || running(&telemetry) == ["traces-a"]);
    send(&cluster, "traces-a", &otlp_proto(&spans()));
    wait_until("a step is closed", || calls(&receiver, "acme").to_bits() == SPANS.to_bits());
    // Its journal can be written by nobody: whatever it holds, nobody hears of it.
    let names = TopicNames::new(&config.kafka.group);
    cluster.partition_leader(&names.journal("traces-old"), 0, None).expect("a partition without a leader");
    cluster.create_topic("traces-old", 1, 1).expect("a topic");
    wait_until("the group knows of it", || telemetry.tasks().snapshot().iter().any(|(id, _)| id.topic == "traces-old"));
    for round in 2..=3 {
        send(&cluster, "traces-a", &otlp_proto(&spans()));
        let wanted = f64::from(round) * SPANS;
        wait_until("steps are closed without it", || calls(&receiver, "acme").to_bits() == wanted.to_bits());
    }
    assert_eq!(running(&telemetry), ["traces-a"]);
    cluster.partition_leader(&names.journal("traces-old"), 0, Some(1)).expect("a leader again");
    send(&cluster, "traces-old", &otlp_proto(&spans()));
    wait_until("it is counted, too", || calls(&receiver, "acme").to_bits() == (4.0 * SPANS).to_bits());
    let metrics = telemetry.render();
    let mut stalls =
        metrics.lines().filter(|line| line.starts_with("spanmill_steps_closed_total{cause=\"stall_timeout\"}"));
    assert!(stalls.all(|line| line.ends_with(" 0")), "its steps were not waited for: {metrics}");
    assert_eq!(receiver.violations(), Vec::<String>::new());
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_new_owner_of_a_shard_closes_steps_without_a_topic_that_has_joined_and_is_an_hour_behind() {
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let (cluster, mut config) = place(&receiver, &["traces-a", "traces-old"]);
    let old = TopicSettings { topic: "traces-old".to_owned(), encoding: None, tenant: Some("globex".to_owned()) };
    config.kafka.topic_settings = vec![old];
    config.tenant = TenantSource::Static("acme".to_owned());
    // Only records move the time of a partition.
    config.core.time.idle = 7_200_000;
    config.core.time.stall_grace = 600_000;
    cluster.create_topic("traces-a", 1, 1).expect("a topic");
    let closes_a_step = || {
        let before = calls(&receiver, "acme");
        wait_until("a step is closed", || {
            send(&cluster, "traces-a", &otlp_proto(&spans()));
            calls(&receiver, "acme") > before
        });
    };
    let first = Worker::start(config.clone(), Telemetry::new()).expect("a worker");
    closes_a_step();
    cluster.create_topic("traces-old", 1, 1).expect("a topic");
    // The second one ends the step of the first one.
    for at in [now() - 3_600_000, now() - 3_595_000] {
        send_at(&cluster, "traces-old", &otlp_proto(&spans()), at);
    }
    wait_until("the shard knows how far it is behind", || {
        send(&cluster, "traces-a", &otlp_proto(&spans()));
        calls(&receiver, "globex").to_bits() == SPANS.to_bits()
    });
    first.stop().expect("a graceful stop");

    let telemetry = Telemetry::new();
    let second = Worker::start(config, telemetry.clone()).expect("a worker");
    wait_until("both topics are read", || running(&telemetry) == ["traces-a", "traces-old"]);
    closes_a_step();
    closes_a_step();
    assert_eq!(receiver.violations(), Vec::<String>::new());
    second.stop().expect("a graceful stop");
}

#[test]
fn the_sources_are_the_topics_that_are_named_and_those_that_match_without_any_internal_topic() {
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let (cluster, mut config) = place(&receiver, &["traces-a", "series"]);
    config.kafka.topics = vec!["spans".to_owned(), "^.*".to_owned()];
    config.kafka.dead_letter_topic = "dead".to_owned();
    let none = Topics::new(&config.kafka).expect("a client").sources().expect("the broker answers");
    assert_eq!(none, [("spans".to_owned(), None)]);
    for (topic, partitions) in [("traces-a", 3), ("dead", 1), ("spans", 2), ("other-traces-a-journal", 1)] {
        cluster.create_topic(topic, partitions, 1).expect("a topic");
    }
    let sources = Topics::new(&config.kafka).expect("a client").sources().expect("the broker answers");
    assert_eq!(sources, [("spans".to_owned(), Some(2)), ("traces-a".to_owned(), Some(3))]);
    config.kafka.topics = vec!["^nothing".to_owned()];
    let error = Topics::new(&config.kafka).expect("a client").all_sources().expect_err("none").to_string();
    assert!(error.starts_with("no topic matches ^nothing of kafka.topics; create one"), "{error}");
}

#[test]
fn a_worker_that_begins_with_one_topic_reads_many_that_appear_with_smaller_buffers() {
    const MANY: usize = 6;
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let many: Vec<String> = (0..MANY).map(|n| format!("traces-{n}")).collect();
    let (cluster, mut config) = place(&receiver, &many.iter().map(String::as_str).collect::<Vec<_>>());
    config.tenant = TenantSource::Static("acme".to_owned());
    config.worker.memory_limit = 64 << 20;
    cluster.create_topic(&many[0], 1, 1).expect("a topic");
    let telemetry = Telemetry::new();
    let worker = Worker::start(config, telemetry.clone()).expect("a worker");
    wait_until("the first topic is read", || running(&telemetry) == many[..1]);
    send(&cluster, &many[0], &otlp_proto(&spans()));
    wait_until("it is counted", || calls(&receiver, "acme").to_bits() == SPANS.to_bits());
    let reserved = || {
        let metrics = telemetry.render();
        let line =
            metrics.lines().find_map(|l| l.strip_prefix("spanmill_memory_reserved_bytes{part=\"fetch_buffers\"} "));
        line.and_then(|bytes| bytes.parse::<f64>().ok()).unwrap_or_default()
    };
    let before = reserved();
    for topic in &many[1..] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
        send(&cluster, topic, &otlp_proto(&spans()));
    }
    wait_until("all topics are read", || running(&telemetry) == many);
    let all = SPANS * MANY as f64;
    wait_until("all of them are counted", || calls(&receiver, "acme").to_bits() == all.to_bits());
    // At most twice as many partitions as their memory was divided by.
    wait_until("together they take little more than the first one and the shard took", || reserved() <= before * 2.0);
    assert_eq!(receiver.violations(), Vec::<String>::new());
    worker.stop().expect("a graceful stop");
}
