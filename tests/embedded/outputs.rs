//! Endpoints that are no remote write: receivers of OTLP, a Kafka topic, files. Each gets every sample that remote write gets.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use spanmill::config::settings::{FileFormat, FileOutput, KafkaOutput, OutputType, RemoteWrite};
use spanmill::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::{Request, StepBatch, decode};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::tools::receiver::Receiver;
use spanmill::worker::sender::{Delivered, Exporter, ShardSender};
use spanmill::worker::telemetry::Telemetry;

use crate::endpoints::{Mill, endpoint};
use crate::failures::scene::{Scene, Times};
use crate::mill::wait_until;
use crate::otlp_metrics_as_samples::Flat;

mod checked;
mod collector;

use collector::{Collector, Say, all_samples};

const LONG: Duration = Duration::from_secs(60);
const KINDS: [OutputType; 2] = [OutputType::OtlpHttp, OutputType::OtlpGrpc];

struct House {
    telemetry: Telemetry,
    sender: ShardSender,
    done: mpsc::Receiver<Delivered>,
    _exporter: Exporter,
}

impl House {
    fn new(settings: &RemoteWrite) -> Self {
        let telemetry = Telemetry::new();
        let exporter = Exporter::start(settings, telemetry.clone()).unwrap();
        let (told, done) = mpsc::channel();
        let sender = exporter.open(3, Box::new(move |d| drop(told.send(d))));
        Self { telemetry, sender, done, _exporter: exporter }
    }

    fn send(&self, requests: Vec<Request>) -> Delivered {
        let batch = StepBatch { tenant: SINGLE_TENANT.into(), endpoint: None, step: 15_000, resend: false, requests };
        self.sender.try_send(batch).unwrap();
        self.done.recv_timeout(LONG).unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.telemetry.render();
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0)
    }
}

/// A counter of each service.
fn request(services: std::ops::Range<u32>) -> Request {
    let label = |n: &str, v: String| Label { name: n.to_owned(), value: v };
    let entry = |i: u32| TimeSeries {
        labels: vec![label("__name__", "calls_total".to_owned()), label("service", format!("<s{i}>"))],
        samples: vec![Sample { value: f64::from(i), timestamp: 15_000 }],
        ..TimeSeries::default()
    };
    let n = services.len() as u32;
    let message = WriteRequest { timeseries: services.map(entry).collect() };
    Request::compress(&message.encode_to_vec(), n, n, 0, &mut snap::raw::Encoder::new())
}

#[test]
fn a_receiver_that_is_down_or_busy_is_waited_for_and_gets_everything() {
    for kind in KINDS {
        let collector = Collector::start(kind);
        let house = House::new(&collector.settings());
        let refusals = [(503, 14), (502, 4), (504, 11), (401, 16), (404, 12), (500, 13)];
        collector.say(&refusals.map(|(status, code)| Say::Refused(status, code, None)));
        collector.say(&[Say::Refused(429, 8, Some(1))]);
        let begin = Instant::now();
        let out = house.send(vec![request(0..5)]);
        assert!(begin.elapsed() >= Duration::from_secs(1), "it asks for a second");
        assert_eq!((out.acknowledged, out.rejected), (5, 0), "{kind:?}");
        assert_eq!(collector.with(|inbox| (inbox.refused, inbox.stored.len())), (7, 1));
        assert_eq!(collector.samples().len(), 5);
        let header = |name: &str| collector.with(|i| i.headers[0].get(name).map(|v| v.to_str().unwrap().to_owned()));
        let expected = match kind {
            OutputType::OtlpHttp => [Some("application/x-protobuf"), Some("gzip"), None, None],
            _ => [Some("application/grpc"), None, Some("gzip"), Some("trailers")],
        };
        let got = ["content-type", "content-encoding", "grpc-encoding", "te"].map(header);
        assert_eq!(got.each_ref().map(Option::as_deref), expected);
        assert_eq!(header("x-prometheus-remote-write-version"), None);
    }
}

#[test]
fn points_that_a_receiver_rejects_of_a_request_that_it_stores_are_counted_and_not_sent_again() {
    for kind in KINDS {
        let collector = Collector::start(kind);
        let house = House::new(&collector.settings());
        collector.say(&[Say::Partial(2), Say::Partial(0)]);
        let out = house.send(vec![request(0..5)]);
        assert_eq!((out.acknowledged, out.rejected), (3, 2), "{kind:?}");
        assert_eq!(house.metric("spanmill_samples_rejected_total{reason=\"bad_data\"}"), 2);
        let out = house.send(vec![request(0..5)]);
        assert_eq!((out.acknowledged, out.rejected), (5, 0), "a warning rejects nothing");
        assert_eq!(collector.with(|inbox| inbox.stored.len()), 2);
    }
}

#[test]
fn one_bad_series_costs_no_other_one() {
    for kind in KINDS {
        let collector = Collector::start(kind);
        let house = House::new(&collector.settings());
        collector.usually(Some(Say::RefusedWith("<s7>")));
        let out = house.send(vec![request(0..20)]);
        assert_eq!((out.acknowledged, out.rejected), (19, 1), "{kind:?}");
        assert_eq!(collector.samples().len(), 19);
    }
}

#[test]
fn an_answer_that_is_lost_is_no_success_and_the_same_is_sent_again() {
    for kind in KINDS {
        let collector = Collector::start(kind);
        let house = House::new(&collector.settings());
        collector.say(&[Say::StoredInSilence]);
        let out = house.send(vec![request(0..3)]);
        assert_eq!((out.acknowledged, out.already_there), (3, 0), "{kind:?}");
        let twice = collector.with(|inbox| inbox.stored.clone());
        assert_eq!(twice.len(), 2);
        assert_eq!(twice[0], twice[1]);
    }
}

/// What a receiver of remote write has: the values of every series by time.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<BTreeMap<(String, i64), String>>>);

impl Written {
    fn of(receiver: &Receiver) -> Self {
        let written = Self::default();
        let own = written.clone();
        receiver.watch(move |_, entry| {
            let series = decode::text(&entry.labels);
            let mut all = own.0.lock().unwrap();
            for sample in &entry.samples {
                let value = if decode::is_stale(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
                all.insert((series.clone(), sample.timestamp), value);
            }
        });
        written
    }

    fn newest(&self) -> i64 {
        self.0.lock().unwrap().keys().map(|(_, at)| *at).max().unwrap_or(0)
    }

    /// Fails with what differs up to a time. A zero may be the start of a point instead of a sample.
    fn same(&self, other: &Flat, from: i64, to: i64) -> Result<usize, String> {
        let all = self.0.lock().unwrap();
        let starts: std::collections::BTreeSet<(&str, i64)> =
            other.iter().map(|((series, _), (_, start))| (series.as_str(), *start)).collect();
        let within = |at: i64| (from..=to).contains(&at);
        let mut same = 0;
        for (key, value) in all.iter().filter(|((_, at), _)| within(*at)) {
            match other.get(key) {
                Some((there, _)) if there == value => same += 1,
                // A point that ends a classic histogram has no buckets.
                None if value == "stale" && key.0.contains("_bucket{") => {}
                None if value == "0" && starts.contains(&(key.0.as_str(), key.1)) => {}
                there => return Err(format!("{key:?} is {value} and there {there:?}")),
            }
        }
        let surplus = other.iter().find(|(key, (value, _))| {
            within(key.1) && !all.contains_key(*key) && !(value == "stale" && key.0.contains("_bucket{"))
        });
        surplus.map_or(Ok(same), |(key, value)| Err(format!("{key:?} is not in remote write: {value:?}")))
    }
}

fn lines(path: &Path) -> Vec<ExportMetricsServiceRequest> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(!text.contains(":null"), "the Collector refuses it where a number may be");
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn messages(path: &Path) -> Vec<ExportMetricsServiceRequest> {
    let (bytes, mut at, mut out) = (std::fs::read(path).unwrap_or_default(), 0, Vec::new());
    while let Some(head) = bytes.get(at..at + 4) {
        let len = u32::from_be_bytes(head.try_into().unwrap()) as usize;
        let Some(message) = bytes.get(at + 4..at + 4 + len) else { break };
        out.push(ExportMetricsServiceRequest::decode(message).unwrap());
        at += 4 + len;
    }
    out
}

/// The records of a topic with one partition, with their keys.
fn topic(brokers: &str, name: &str) -> Vec<(String, ExportMetricsServiceRequest)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(name, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut out = Vec::new();
    loop {
        match consumer.poll(LONG) {
            Some(Ok(record)) => {
                let key = String::from_utf8_lossy(record.key().unwrap()).into_owned();
                out.push((key, ExportMetricsServiceRequest::decode(record.payload().unwrap()).unwrap()));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return out,
            other => panic!("{:?}", other.map(|r| r.map(|_| ()))),
        }
    }
}

#[test]
fn every_output_of_a_worker_has_the_samples_of_remote_write() {
    let mill = Mill::new();
    let receiver = Receiver::start("127.0.0.1:0").unwrap();
    let written = Written::of(&receiver);
    let collectors = KINDS.map(Collector::start);
    let [json, proto] = ["metrics.json", "metrics.proto"].map(|name| mill.dir.path().join(name));
    mill.cluster.create_topic("samples", 1, 1).unwrap();
    let (brokers, topic_name) = (mill.cluster.bootstrap_servers(), "samples".to_owned());
    let named = |name: &str, settings: RemoteWrite| RemoteWrite { name: name.to_owned(), ..settings };
    let file = |path: &Path, format| {
        let file = FileOutput { path: Some(path.to_owned()), format, ..FileOutput::default() };
        RemoteWrite { kind: OutputType::File, file, ..RemoteWrite::default() }
    };
    let kafka = KafkaOutput { topic: topic_name, bootstrap_servers: brokers.clone(), ..KafkaOutput::default() };
    let endpoints = [
        endpoint("written", &receiver),
        named("http", collectors[0].settings()),
        named("grpc", collectors[1].settings()),
        named("kafka", RemoteWrite { kind: OutputType::Kafka, kafka, ..RemoteWrite::default() }),
        named("json", file(&json, FileFormat::Json)),
        named("proto", file(&proto, FileFormat::Proto)),
    ];
    let worker = mill.start(&endpoints, None);
    mill.send(&["acme"]);
    wait_until("some steps", || written.newest() > 0 && collectors[1].with(|inbox| inbox.stored.len() > 20));
    let to = written.newest();
    let outputs = || {
        let records = topic(&brokers, "samples");
        [
            ("http", collectors[0].samples()),
            ("grpc", collectors[1].samples()),
            ("kafka", all_samples(records.iter().map(|(_, request)| request))),
            ("json", all_samples(&lines(&json))),
            ("proto", all_samples(&messages(&proto))),
        ]
    };
    // Each endpoint is as late as it is; a stop waits for none of them for ever.
    wait_until("every output has all steps up to now", || {
        outputs().iter().all(|(_, samples)| written.same(samples, 0, to).is_ok_and(|same| same > 1_000))
    });
    worker.stop().unwrap();
    let records = topic(&brokers, "samples");
    assert!(records.iter().all(|(key, _)| key == "acme"));
    let tenant = collectors[0].with(|i| i.headers[0].get("x-scope-orgid").map(|v| v.to_str().unwrap().to_owned()));
    assert_eq!(tenant.as_deref(), Some("acme"));
    for (name, samples) in outputs() {
        match written.same(&samples, 0, to) {
            Ok(same) => assert!(same > 1_000, "{name}: {same}"),
            Err(why) => panic!("{name}: {why}"),
        }
    }
}

#[test]
fn an_otlp_receiver_that_is_down_while_workers_die_gets_every_step_with_the_values_of_remote_write() {
    let collector = Collector::start(OutputType::OtlpHttp);
    let mut scene = Scene::with(1, 31, &Times::default());
    scene.writes_to_two(&collector.settings().url);
    let file = std::fs::read_to_string(scene.config()).unwrap();
    std::fs::write(scene.config(), file.replace("name: second,", "name: second, type: otlp_http,")).unwrap();
    let written = Written::of(&scene.receiver);
    let mut worker = scene.worker();
    let load = scene.load();
    worker.works_alone();
    scene.goes_on();
    wait_until("both have samples", || collector.with(|inbox| !inbox.stored.is_empty()));
    collector.usually(Some(Say::Refused(503, 14, None)));
    let behind = written.newest();
    wait_until("the first is ahead", || written.newest() >= behind + 4_000);
    worker.kill();
    let mut next = scene.worker();
    next.works_alone();
    scene.goes_on();
    collector.usually(None);
    let expected = load.end();
    scene.ends_exactly(&expected, &mut [&mut next]);
    let end = written.newest();
    let newest = || collector.samples().keys().map(|(_, at)| *at).max().unwrap_or(0);
    wait_until("it has what remote write has", || newest() >= end);
    let same = written.same(&collector.samples(), 0, end - 1).unwrap();
    assert!(same > 1_000, "{same}");
}
