//! `spanmill top`, as a program beside a worker: what it prints once is what the receiver has.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::config::settings::TenantSource;
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::telemetry::Telemetry;

use crate::child::{Guarded, signal};
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
    let once = ["--once", "-o", "json", "--window", "1h"];
    wait_until("what is printed is what the receiver has, before and after", || {
        let before = stored();
        let (code, text) = top(&brokers, &once);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(code, Some(0), "{text}");
        let edges = json["edges"].as_array().expect("edges").iter();
        let edges = edges.filter(|edge| edge["now"]["rate"].as_f64() > Some(0.0)).count();
        let metrics = json["series"].as_array().expect("series").iter();
        let of_edges = metrics.filter(|metric| metric["metric"] == "traces_service_graph_request_total");
        let series: Vec<_> = of_edges.map(|metric| metric["series"].as_u64()).collect();
        (edges, series) == (before, vec![Some(before as u64)]) && stored() == before
    });
    let (_, text) = top(&brokers, &once);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["tenants"], serde_json::json!(["t\u{202e}"]));
    let rows = json["partitions"]["partitions"].as_array().expect("partitions").iter();
    assert_eq!(rows.map(|row| row["kind"].as_str()).collect::<Vec<_>>(), [Some("source"), Some("shard")], "{text}");
    assert_eq!(json["partitions"]["partitions"][0]["lag_records"], 0, "everything was read: {text}");

    let shard = &json["samples"][0];
    assert_eq!((json["samples"].as_array().map(Vec::len), &shard["kind"]), (Some(1), &"shard".into()), "{text}");
    wait_until("what the receiver has stored is acknowledged in the journal", || {
        let (code, text) = top(&brokers, &["--tab", "samples", "-o", "json"]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let sending = &json["samples"][0]["sending"];
        let [closed, acknowledged] = ["closed", "acknowledged"].map(|key| sending[key].as_i64());
        let newest = receiver.snapshot().values().map(|series| series.last_ts).max();
        assert!(acknowledged <= closed, "{text}");
        // The journal is at most some steps behind the receiver, and never ahead of it.
        assert!(acknowledged <= newest, "{text}: {newest:?}");
        assert!(json.get("services").is_none() && sending["skipped"] == serde_json::json!({}), "{text}");
        code == Some(0) && acknowledged > Some(0)
    });

    // Standard output is no terminal here: that is the same as `--once`.
    let (code, text) = top(&brokers, &["--tab", "services"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("tenant t\\u202e") && !text.contains('\u{202e}'), "{text:?}");
    assert!(text.contains("\nservices\nSERVICE") && !text.contains("\nedges\n"), "{text}");

    let (code, text) = top(&brokers, &["--once", "--tab", "edges", "--tenant", "other"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("missing: tenant other has counted nothing; these have: t\\u202e"), "{text}");
    worker.stop().expect("a graceful stop");
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

/// Runs it on a terminal of `script`, and ends it with a key, or with a signal to the program itself. Returns how it ended, and all
/// that the terminal was sent.
fn on_a_terminal(brokers: &str, end: &str) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_spanmill");
    let command =
        format!("stty rows 24 cols 100; exec {program} top --set kafka.brokers={brokers} --set kafka.topics={TOPIC}");
    let mut script = Command::new("script");
    let script = script.args(["-qefc", &command, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Guarded::start(script);
    let (mut keys, mut terminal) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut seen = String::new();
    let mut more = |seen: &mut String| {
        let mut bytes = [0; 4_096];
        let n = terminal.read(&mut bytes).expect("what it draws");
        seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
        n > 0
    };
    while !seen.contains("RATE/S v") {
        assert!(more(&mut seen), "{seen}");
    }
    match end {
        "TERM" => {
            let children = format!("/proc/{0}/task/{0}/children", child.id());
            let children = std::fs::read_to_string(children).expect("the children of script");
            assert!(signal(children.trim().parse().expect("one child"), "TERM"));
        }
        key => keys.write_all(key.as_bytes()).expect("a key is pressed"),
    }
    while more(&mut seen) {}
    (child.wait().expect("it ends").code(), seen)
}

#[test]
fn the_terminal_is_given_back_after_a_key_and_after_a_signal() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    for end in ["q", "\u{3}", "TERM"] {
        let (code, seen) = on_a_terminal(&cluster.bootstrap_servers(), end);
        assert_eq!(code, Some(0), "{end:?}: {seen:?}");
        let (taken, given_back) = (seen.find("\u{1b}[?1049h"), seen.rfind("\u{1b}[?1049l"));
        assert!(taken.is_some() && given_back > taken, "{end:?}: {seen:?}");
        assert!(seen.trim_end().ends_with("\u{1b}[?25h"), "the cursor is shown: {end:?}: {seen:?}");
    }
}
