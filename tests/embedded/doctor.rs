//! `spanmill doctor` on the embedded broker and receiver: what it finds, and how it ends.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::process::{Command, Output};
use std::time::SystemTime;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use spanmill::tools::receiver::Receiver;
use spanmill::worker::kafka::TopicNames;

use crate::mill::{PATIENCE, records};

const TOPIC: &str = "examined";
const GROUP: &str = "examined-group";

/// A broker with a topic, and a receiver.
struct Scene {
    cluster: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    receiver: Receiver,
}

// === impl Scene ===

impl Scene {
    fn new() -> Self {
        let cluster = MockCluster::new(1).expect("an embedded broker");
        let names = TopicNames::new(GROUP);
        for (topic, partitions) in
            [(TOPIC.to_owned(), 2), (names.journal(TOPIC), 2), (names.deltas(), 16), (names.series_journal(), 16)]
        {
            cluster.create_topic(&topic, partitions, 1).expect("a topic");
        }
        Self { cluster, receiver: Receiver::start("127.0.0.1:0").expect("a receiver") }
    }

    /// Writes records with these keys, values and timestamps.
    fn send(&self, records: &[(Vec<u8>, Vec<u8>, i64)]) {
        let mut client = ClientConfig::new();
        let producer: BaseProducer =
            client.set("bootstrap.servers", self.cluster.bootstrap_servers()).create().expect("a producer");
        for (key, value, timestamp) in records {
            let record = BaseRecord::<[u8], [u8]>::to(TOPIC).key(key).payload(value).timestamp(*timestamp);
            producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
        }
        producer.flush(PATIENCE).expect("everything is delivered");
    }

    fn doctor(&self, options: &[&str]) -> Output {
        let sets = [
            format!("kafka.brokers={}", self.cluster.bootstrap_servers()),
            format!("kafka.topics={TOPIC}"),
            format!("kafka.group={GROUP}"),
            format!("remote_write.url={}", self.receiver.url()),
            "log.level=error".to_owned(),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
        command.arg("doctor").args(sets.iter().flat_map(|set| ["--set", set])).args(options);
        command.output().expect("the program runs")
    }

    /// The exit code and the findings.
    fn findings(&self, options: &[&str]) -> (Option<i32>, Vec<Value>) {
        let output = self.doctor(&[&["--json"], options].concat());
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), told["findings"].as_array().expect("findings").clone())
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Whether a finding with this severity has this in its text or remedy.
fn has(found: &[Value], severity: &str, text: &str) -> bool {
    let is = |one: &&Value| one["severity"] == severity && one.to_string().contains(text);
    found.iter().any(|one| is(&one))
}

fn assert_has(found: &[Value], severity: &str, text: &str) {
    assert!(has(found, severity, text), "no {severity} with {text:?} in {found:#?}");
}

#[test]
fn a_group_that_could_start_has_no_error() {
    let scene = Scene::new();
    let load: Vec<_> = records().into_iter().map(|r| (r.key.to_vec(), r.value, r.timestamp)).collect();
    scene.send(&load);
    let (code, found) = scene.findings(&[]);
    let errors: Vec<_> = found.iter().filter(|one| one["severity"] == "error").collect();
    assert!(code == Some(0) && errors.is_empty(), "{errors:#?}");
    assert_has(&found, "ok", &format!("{} records with ", load.len()));
    assert_has(&found, "ok", "is readable");
    assert_has(&found, "ok", "keys");
    assert_has(&found, "ok", "label sets");
    assert_has(&found, "ok", "accepts remote write 2.0");
    // The embedded broker knows neither of these requests.
    assert_has(&found, "note", "the brokers do not report its settings");
    assert_has(&found, "note", "the brokers do not report its members");
    let text = scene.doctor(&[]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&format!("topic {TOPIC}\n")) && text.contains("0 errors, "), "{text}");
}

#[test]
fn records_that_are_no_spans_and_come_from_the_future_are_errors() {
    let scene = Scene::new();
    let foreign = |n: i64| (vec![n as u8], b"{\"hello\": 1}".to_vec(), now() + 3_600_000);
    scene.send(&(0..20).map(foreign).collect::<Vec<_>>());
    let (code, found) = scene.findings(&[]);
    assert_eq!(code, Some(1));
    assert_has(&found, "error", "20 of 20 records are dropped (undecodable)");
    assert_has(&found, "error", "in the future by this machine's clock");
}

#[test]
fn a_topic_without_records_is_a_note_and_one_that_is_missing_an_error() {
    let scene = Scene::new();
    let (code, found) = scene.findings(&[]);
    assert_eq!(code, Some(0), "{found:#?}");
    assert_has(&found, "note", "there are no records yet");
    let (code, found) = scene.findings(&["--set", "kafka.topics=nowhere"]);
    assert_eq!(code, Some(1), "{found:#?}");
    assert_has(&found, "error", "topic nowhere does not exist");
}

#[test]
fn a_receiver_that_does_not_answer_is_an_error_and_a_wrong_setting_ends_with_64() {
    let scene = Scene::new();
    let (code, found) = scene.findings(&["--set", "remote_write.url=http://127.0.0.1:1/api/v1/write"]);
    assert_eq!(code, Some(1), "{found:#?}");
    let refused = found.iter().filter(|one| one["severity"] == "error").collect::<Vec<_>>();
    assert!(
        refused.iter().any(|one| one["place"].as_str().is_some_and(|place| place.starts_with("receiver "))),
        "{refused:#?}"
    );
    assert_eq!(scene.doctor(&["--set", "time.step=15"]).status.code(), Some(64));
}
