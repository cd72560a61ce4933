//! What `spanmill doctor` finds at a Kafka with a single replica and at a Prometheus.

use std::process::Command;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use spanmill::tools::loadgen::{Generator, Options, Topology};

use crate::PATIENCE;
use crate::servers::kafka::RealKafka;
use crate::servers::metrics::RealPrometheus;

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).expect("after 1970").as_millis()
        as i64
}

#[test]
fn a_doctor_finds_short_retention_a_single_replica_and_what_the_receiver_takes() {
    let (kafka, prometheus) = (RealKafka::start(), RealPrometheus::start());
    let retention = ["--create", "--topic", "visited", "--partitions", "2", "--config", "retention.ms=3600000"];
    kafka.tool("TopicCommand", &retention);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().expect("a producer");
    let options = Options { start: now() - 5_000, rate: 200, spans: Some(400), ..Options::default() };
    let records: Vec<_> = Generator::new(Topology::shop(1), 1, options).collect();
    for record in &records {
        let sent = BaseRecord::<[u8], [u8]>::to("visited").key(&record.key).payload(&record.value);
        producer.send(sent.timestamp(record.timestamp)).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");

    let sets = [
        format!("kafka.brokers={}", kafka.brokers),
        "kafka.topics=visited".to_owned(),
        "kafka.group=visited-group".to_owned(),
        format!("remote_write.url=http://127.0.0.1:{}/api/v1/write", prometheus.port),
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["doctor", "--json", "--pause", "24h"])
        .args(sets.iter().flat_map(|set| ["--set", set]))
        .output()
        .expect("the program runs");
    let log = String::from_utf8_lossy(&output.stderr);
    let told: Value = serde_json::from_slice(&output.stdout).expect(&log);
    let found = told["findings"].as_array().expect("findings");
    let has = |severity: &str, place: &str, text: &str| {
        let is = |one: &Value| {
            let place_is = one["place"].as_str().is_some_and(|found| found.starts_with(place));
            one["severity"] == severity && place_is && one["text"].as_str().is_some_and(|found| found.contains(text))
        };
        assert!(found.iter().any(is), "no {severity} of {place} with {text:?} in {found:#?}");
    };
    has("warning", "topic visited", "records are kept for 60 m (retention.ms)");
    has("note", "topic visited", "a single replica, as there is a single broker");
    has("ok", "topic visited", &format!("{} records with ", records.len()));
    has("ok", "brokers", "is readable");
    has("ok", "receiver", "accepts a request without samples");
    has("note", "group visited-group", "no worker owns a partition now");
    assert_eq!(output.status.code(), Some(0), "{found:#?}\n{log}");
}
