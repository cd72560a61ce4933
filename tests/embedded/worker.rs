//! What only the running worker can honor, through the library on the embedded broker: tenants from the record key and
//! from a header, a start at the latest record, and workers that disagree.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::collections::BTreeSet;

use crate::mill::{PATIENCE, TOPIC, config, create_topics, records, wait_until};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use spanmill::config::Config;
use spanmill::config::settings::{Start, TenantSource};
use spanmill::core::model::Counter;
use spanmill::core::settings::{Slo, SloSide, SloSubject};
use spanmill::tools::loadgen::Record;
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::kafka::TopicNames;
use spanmill::worker::telemetry::{TaskKind, TaskState, Telemetry};

#[test]
fn the_record_key_names_the_tenant() {
    tenants_are_kept_apart(TenantSource::Key, |record, tenant| record.key(tenant));
}

#[test]
fn a_header_names_the_tenant() {
    tenants_are_kept_apart(TenantSource::Header("x-tenant".to_owned()), |record, tenant| {
        record.headers(OwnedHeaders::new().insert(Header { key: "x-tenant", value: Some(tenant) }))
    });
}

#[test]
fn a_worker_that_starts_at_the_latest_reads_nothing_older_also_when_it_is_replaced_at_once() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let mut config = config(&cluster.bootstrap_servers(), &receiver.url(), TenantSource::Static("t".to_owned()));
    config.kafka.start = Start::Latest;
    create_topics(&cluster, &config);
    let records = records();
    let (old, new) = records.split_at(records.len() / 2);
    send(&cluster, old);
    let running = |telemetry: &Telemetry| {
        telemetry.tasks().snapshot().iter().any(|(id, s)| id.kind == TaskKind::Span && s.state == TaskState::Running)
    };
    let telemetry = Telemetry::new();
    let first = Worker::start(config.clone(), telemetry.clone()).expect("a worker");
    wait_until("the first worker runs", || running(&telemetry));
    first.stop().expect("a graceful stop");
    // Records that come while no worker runs belong to later workers: the journal holds where they began.
    send(&cluster, new);
    let telemetry = Telemetry::new();
    let second = Worker::start(config, telemetry.clone()).expect("a worker");
    let read = || counter(&telemetry, Counter::RecordsRead);
    wait_until("the second worker has read what is new", || read() >= new.len() as u64);
    assert_eq!(read(), new.len() as u64);
    second.stop().expect("a graceful stop");
}

#[test]
fn workers_with_different_settings_say_so_by_key_and_agree_again_when_one_is_left() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let tenant = TenantSource::Static("t".to_owned());
    let mut old = config(&cluster.bootstrap_servers(), &receiver.url(), tenant);
    old.kafka.topics.push("more".to_owned());
    create_topics(&cluster, &old);
    for topic in ["more", &TopicNames::new(&old.kafka.group).journal("more")] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    let mut new = old.clone();
    new.core.series.stale_after = 60_000;
    let telemetry = [Telemetry::new(), Telemetry::new()];
    let start = |config: &Config, telemetry: &Telemetry| Worker::start(config.clone(), telemetry.clone());
    let first = start(&old, &telemetry[0]).expect("a worker");
    let running = |telemetry: &Telemetry| {
        let statuses = telemetry.tasks().snapshot();
        statuses.iter().filter(|(_, s)| s.state == TaskState::Running).map(|(id, _)| id.kind).collect::<Vec<_>>()
    };
    wait_until("the first worker has everything", || running(&telemetry[0]).len() == 3);
    let second = start(&new, &telemetry[1]).expect("a worker");
    // Each has one of the source partitions; silence makes delta records, too.
    let both = || telemetry.iter().all(|telemetry| running(telemetry).contains(&TaskKind::Span));
    wait_until("both read", both);
    let others =
        || telemetry.iter().flat_map(|t| t.tasks().snapshot()).map(|(_, s)| s.settings).find(|s| s.sources > 0);
    wait_until("the owner of the shard hears that they differ", || others().is_some());
    let others = others().expect("just seen").others;
    let keys: Vec<&String> = others.values().flatten().collect();
    assert!(keys.len() == 1 && keys[0].starts_with("series.stale_after = "), "{keys:?}");
    let said = |telemetry: &Telemetry| telemetry.render().contains("spanmill_settings_differ{");
    assert!(telemetry.iter().any(said));
    assert_ne!(telemetry[0].settings().fingerprint, telemetry[1].settings().fingerprint);

    first.stop().expect("a graceful stop");
    let alone = || {
        let statuses = telemetry[1].tasks().snapshot();
        running(&telemetry[1]).len() == 3 && statuses.iter().all(|(_, s)| s.settings.sources == 0)
    };
    wait_until("the other one has everything and agrees with itself", alone);
    second.stop().expect("a graceful stop");
}

fn counter(telemetry: &Telemetry, counter: Counter) -> u64 {
    telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.get(counter)).sum()
}

fn send(cluster: &MockCluster<'_, DefaultProducerContext>, records: &[Record]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    for record in records {
        let message = Message::to(TOPIC).payload(record.value.as_slice()).timestamp(record.timestamp);
        producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
}

type Message<'a> = BaseRecord<'a, str, [u8]>;

/// Two tenants get the same spans, a third record names none: each tenant has its own series, with the same values.
fn tenants_are_kept_apart(source: TenantSource, label: impl for<'a> Fn(Message<'a>, &'a str) -> Message<'a>) {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let config = config(&cluster.bootstrap_servers(), &receiver.url(), source);
    create_topics(&cluster, &config);
    let telemetry = Telemetry::new();
    let worker = Worker::start(config, telemetry.clone()).expect("a worker");

    let records = records();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    for record in &records {
        let message = || Message::to(TOPIC).payload(record.value.as_slice()).timestamp(record.timestamp);
        for message in [label(message(), "acme"), label(message(), "globex"), message()] {
            producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
        }
    }
    producer.flush(PATIENCE).expect("everything is delivered");

    let of = |tenant: &str| -> BTreeSet<(String, u64)> {
        let mine = receiver.snapshot().into_iter().filter_map(|(name, s)| {
            let name = name.strip_prefix(tenant)?.strip_prefix('/')?.to_owned();
            Some((name, s.last_value.to_bits()))
        });
        mine.collect()
    };
    let pending = || telemetry.tasks().snapshot().iter().map(|(_, s)| s.ledger.pending_edges()).sum::<i128>();
    let read = || counter(&telemetry, Counter::RecordsRead);
    wait_until("both tenants have all their series", || {
        let (acme, globex) = (of("acme"), of("globex"));
        read() == 3 * records.len() as u64 && pending() == 0 && acme.len() > 100 && acme == globex
    });
    let nobody: Vec<_> = receiver.snapshot().into_keys().filter(|name| !name.contains('/')).collect();
    assert!(nobody.is_empty(), "series without a tenant: {nobody:?}");
    assert_eq!(counter(&telemetry, Counter::RecordsWithoutTenant), records.len() as u64);
    assert_eq!(receiver.violations(), Vec::<String>::new());
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_worker_counts_objectives_of_spans_and_of_edges_as_its_ledger_does() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let mut config = config(&cluster.bootstrap_servers(), &receiver.url(), TenantSource::Static("t".to_owned()));
    config.core.service_graphs.topology = true;
    let slo = |name: &str, of| Slo {
        name: name.to_owned(),
        of,
        matching: Vec::new(),
        latency_ns: None,
        failed: Slo::failed_by_status(),
        labels: Slo::default_labels(of),
        objective: None,
    };
    config.core.slos = vec![slo("spans", SloSubject::Spans), slo("edges", SloSubject::Edges(SloSide::Client))];
    create_topics(&cluster, &config);
    send(&cluster, &records());
    let telemetry = Telemetry::new();
    let worker = Worker::start(config, telemetry.clone()).expect("a worker");
    let spans = || counter(&telemetry, Counter::SpansRead);
    let edges = || counter(&telemetry, Counter::EdgesCompleted) + counter(&telemetry, Counter::EdgesVirtual);
    let total = |metric: &str, slo: &str| {
        let found = receiver.snapshot();
        let name = format!("slo=\"{slo}\"");
        let all = found.iter().filter(|(series, _)| series.contains(metric) && series.contains(&name));
        all.map(|(_, state)| state.last_value).sum::<f64>()
    };
    wait_until("both objectives are at the receiver", || {
        let events = ["spans", "edges"].map(|slo| total("traces_slo_events_total", slo) as u64);
        edges() > 0 && spans() >= 600 && events == [spans(), edges()]
    });
    assert_eq!(counter(&telemetry, Counter::SloEventsCounted), spans() + edges());
    assert!(total("traces_slo_good_total", "edges") > 0.0);
    let first_seen = receiver.snapshot().keys().filter(|series| series.contains("edge_first_seen")).count();
    assert!(first_seen > 3, "{first_seen} edges");
    worker.stop().expect("a graceful stop");
}
