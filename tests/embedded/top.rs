//! `spanmill top`, as a program beside a worker: what it prints once is what the receiver has.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::process::Command;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::config::settings::TenantSource;
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::telemetry::Telemetry;

use crate::mill::{PATIENCE, TOPIC, config, create_topics, records, wait_until};

/// Runs it once against a broker. Returns its exit code and what it printed.
fn top(brokers: &str, more: &[&str]) -> (Option<i32>, String) {
    let brokers = format!("kafka.brokers={brokers}");
    let topics = format!("kafka.topics={TOPIC}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    command.args(["top", "--set", &brokers, "--set", &topics, "--set", "kafka.shards=1", "--set", "time.step=1s"]);
    let output = command.args(more).output().expect("the program runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn what_is_printed_once_beside_a_worker_is_what_the_receiver_has() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let brokers = cluster.bootstrap_servers();
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let config = config(&brokers, &receiver.url(), TenantSource::Static("t\u{202e}".to_owned()));
    create_topics(&cluster, &config);
    let worker = Worker::start(config, Telemetry::new()).expect("a worker");
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    for record in records() {
        producer.send(BaseRecord::<[u8], [u8]>::to(TOPIC).payload(&record.value)).map_err(|(e, _)| e).expect("sent");
    }
    producer.flush(PATIENCE).expect("sent");
    let stored = || {
        let names = receiver.snapshot().into_keys();
        names.filter(|series| series.contains("/traces_service_graph_request_total{")).count()
    };
    wait_until("the receiver has edges", || stored() > 10);
    worker.stop().expect("a graceful stop");
    let stored = stored();

    let (code, text) = top(&brokers, &["--once", "-o", "json", "--window", "1h"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(json["tenants"], serde_json::json!(["t\u{202e}"]));
    let edges = json["edges"].as_array().expect("edges").iter().filter(|edge| edge["now"]["rate"].as_f64() > Some(0.0));
    assert_eq!(edges.count(), stored, "{text}");
    let metrics = json["series"].as_array().expect("series").iter();
    let of_edges = metrics.filter(|metric| metric["metric"] == "traces_service_graph_request_total");
    assert_eq!(of_edges.map(|metric| metric["series"].as_u64()).collect::<Vec<_>>(), [Some(stored as u64)]);
    let rows = json["partitions"]["partitions"].as_array().expect("partitions");
    let rows: Vec<_> = rows.iter().map(|row| (row["kind"].as_str(), row["lag_records"].as_i64())).collect();
    assert_eq!(rows, [(Some("source"), Some(0)), (Some("shard"), Some(0))], "{text}");

    // Standard output is no terminal here: that is the same as `--once`.
    let (code, text) = top(&brokers, &["--tab", "services"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("tenant t\\u202e") && !text.contains('\u{202e}'), "{text:?}");
    assert!(text.contains("\nservices\nSERVICE") && !text.contains("\nedges\n"), "{text}");

    let (code, text) = top(&brokers, &["--once", "--tab", "edges", "--tenant", "other"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("missing: tenant other has counted nothing; these have: t\\u202e"), "{text}");
}

#[test]
fn a_group_that_does_not_exist_is_named_and_the_exit_code_is_1() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    let more = ["--once", "--set", "kafka.group=nowhere"];
    let (code, text) = top(&cluster.bootstrap_servers(), &more);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("missing: topic nowhere-deltas does not exist; start a worker of this group"), "{text}");
}

#[test]
fn a_wrong_setting_is_refused_before_anything_is_read() {
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill")).args(["top", "--set", "kafka.shards=none"]).output();
    let output = output.expect("the program runs");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("kafka.shards"));
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill")).args(["top", "--window", "2h"]).output();
    let output = output.expect("the program runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("use 1s to 1h"));
}
