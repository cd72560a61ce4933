//! A Kafka, a receiver that checks every sample, and workers as processes or inside the test, where their telemetry is.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use spanmill::config::{Config, load_from};
use spanmill::core::model::{Counter, Ledger};
use spanmill::tools::loadgen::{Expectation, Generator, Options, Record, Topology};
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::admin::{Admin, Probes};
use spanmill::worker::kafka::reader::Stretch;
use spanmill::worker::kafka::{KafkaError, LogReader};
use spanmill::worker::telemetry::{TaskId, TaskKind, TaskState, Telemetry};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::servers::daemon::Daemon;
use crate::servers::kafka::RealKafka;
use crate::servers::spanmill::{PATIENT, spanmill, worker_config};
use crate::servers::wait_until;

/// How many differences are shown.
const SHOWN: usize = 12;

/// Where a test takes place: one source topic, one group.
pub struct Place {
    pub kafka: RealKafka,
    pub receiver: Receiver,
    pub topic: &'static str,
    dir: TempDir,
}

/// A worker inside the test.
pub struct Insider {
    pub telemetry: Telemetry,
    worker: Worker,
}

// === impl Place ===

impl Place {
    /// Starts the servers and makes the topic.
    pub fn start(topic: &'static str, partitions: u32) -> Self {
        Self::start_on(RealKafka::start(), topic, partitions)
    }

    /// The same on a broker that is there.
    pub fn start_on(kafka: RealKafka, topic: &'static str, partitions: u32) -> Self {
        let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        let place = Self { kafka, receiver, topic, dir };
        place.create(partitions);
        place
    }

    /// Makes the topic.
    pub fn create(&self, partitions: u32) {
        let partitions = partitions.to_string();
        self.kafka.tool("TopicCommand", &["--create", "--topic", self.topic, "--partitions", &partitions]);
    }

    /// The consumer group.
    pub fn group(&self) -> String {
        format!("{}-group", self.topic)
    }

    /// The configuration file of a worker.
    pub fn file(&self) -> PathBuf {
        worker_config(self.dir.path(), &self.kafka.brokers, self.topic, &self.receiver.url(), PATIENT)
    }

    /// The configuration of a worker; `settings` are `PATH=VALUE`.
    pub fn config(&self, settings: &[&str]) -> Config {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        load_from(Some(&self.file()), &settings).expect("a configuration of ours").config
    }

    /// Starts a worker inside the test that answers to HTTP requests at the address that is returned.
    pub fn served(&self, settings: &[&str]) -> (Insider, Admin) {
        let config = self.config(settings);
        let (telemetry, admin) = (Telemetry::new(), config.admin.clone());
        let worker = Worker::start(config, telemetry.clone()).expect("a worker");
        let probes = Probes { alive: worker.alive_probe(), judged: worker.judged_probe() };
        let admin = Admin::start(&admin, telemetry.clone(), probes).expect("it listens").expect("it is wanted");
        (Insider { telemetry, worker }, admin)
    }

    /// Starts a worker inside the test.
    pub fn insider(&self, settings: &[&str]) -> Insider {
        let telemetry = Telemetry::new();
        let worker = Worker::start(self.config(settings), telemetry.clone()).expect("a worker");
        Insider { telemetry, worker }
    }

    /// Starts a worker as a process.
    pub fn worker(&self, name: &str, settings: &[&str]) -> Daemon {
        let file = self.file();
        let mut args = vec!["run", "--config", file.to_str().expect("a temporary path is UTF-8")];
        settings.iter().for_each(|set| args.extend(["--set", set]));
        spanmill(name, &args)
    }

    /// Starts a load.
    pub fn produce(&self, args: &[&str]) -> Daemon {
        let expect = self.dir.path().join("expected.txt");
        let to = ["produce", "--brokers", &self.kafka.brokers, "--topic", self.topic, "--spans-per-record", "20"];
        let expect = ["--expect", expect.to_str().expect("a temporary path is UTF-8")];
        spanmill("produce", &[&to[..], &expect, args].concat())
    }

    /// Ends a load; what it must count to.
    pub fn end(&self, mut produce: Daemon) -> Expectation {
        assert!(produce.terminate(PATIENCE).success(), "{}", produce.tail());
        self.expected()
    }

    /// Waits until a load of so many spans has ended by itself; what it must count to.
    pub fn wait_for(&self, mut produce: Daemon) -> Expectation {
        let status = wait_until("the load is there", PATIENCE, || produce.exited().ok_or_else(|| produce.tail()));
        assert!(status.success(), "{}", produce.tail());
        self.expected()
    }

    fn expected(&self) -> Expectation {
        let text = std::fs::read_to_string(self.dir.path().join("expected.txt")).expect("produce writes it");
        Expectation::parse(&text).expect("an expectation")
    }

    /// A client of the broker.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka.brokers);
        config
    }

    /// Sends records to partitions.
    pub fn send<'a>(&self, records: impl IntoIterator<Item = (i32, &'a Record)>) {
        self.send_to(self.topic, records);
    }

    /// Sends records to partitions of another topic.
    pub fn send_to<'a>(&self, topic: &str, records: impl IntoIterator<Item = (i32, &'a Record)>) {
        let producer: BaseProducer = self.client().create().expect("a producer");
        for (partition, record) in records {
            let message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
            let message = message.payload(record.value.as_slice()).timestamp(record.timestamp);
            producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
        }
        producer.flush(PATIENCE).expect("everything is delivered");
    }

    /// Sends one record of this moment to a partition.
    pub fn send_value(&self, partition: i32, value: &[u8]) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        let (key, value) = ([b'0'; 32], value.to_vec());
        self.send([(partition, &Record { key, value, timestamp: now, spans: 0, partition: None })]);
    }

    /// The first offset that a partition still has, and the one after its last.
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.kafka.bounds(topic, partition)
    }

    /// Deletes the records of a partition below an offset.
    pub fn delete_below(&self, topic: &str, partition: i32, offset: i64) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let mut below = TopicPartitionList::new();
        below.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        let done = block_on(admin.delete_records(&below, &AdminOptions::new())).expect("the broker answers");
        done.elements()[0].error().expect("they are deleted");
    }

    /// All records of a partition of a topic without holes.
    pub fn log(&self, topic: &str, partition: i32) -> Vec<Vec<u8>> {
        let (from, to) = self.bounds(topic, partition);
        let reader = LogReader::new(&self.config(&[]).kafka).expect("a reader");
        let mut log = Vec::new();
        let stretch = Stretch { topic, partition, from, to };
        let read = reader.read::<KafkaError>(stretch, &AtomicBool::new(false), &mut |_, record| {
            log.push(record.to_vec());
            Ok(())
        });
        read.expect("the broker answers");
        log
    }

    /// All calls that the receiver knows of.
    pub fn calls(&self) -> f64 {
        let all = self.receiver.snapshot().into_iter().filter(|(name, _)| name.contains("calls_total"));
        all.map(|(_, s)| s.last_value).sum()
    }

    /// Waits until the receiver knows of so many calls.
    pub fn counts_to(&self, wanted: f64) {
        wait_until("everything is counted", PATIENCE, || match self.calls() {
            calls if calls.to_bits() == wanted.to_bits() => Ok(()),
            calls => Err(format!("{calls} of {wanted}")),
        });
    }

    /// The last step that every series has.
    pub fn slowest(&self) -> i64 {
        self.receiver.snapshot().values().map(|s| s.last_ts).min().unwrap_or_default()
    }

    /// Waits until the series that are wanted are exactly as expected.
    pub fn is_exact(&self, expected: &Expectation, wanted: impl Fn(&str) -> bool) {
        self.is_exact_within(PATIENCE, expected, wanted);
    }

    /// The same, for as long as a large backlog takes.
    pub fn is_exact_within(&self, patience: Duration, expected: &Expectation, wanted: impl Fn(&str) -> bool) {
        wait_until("every series is exact", patience, || {
            let found = self.receiver.snapshot();
            let differs = |(series, value): &(&str, f64)| {
                found.get(*series).is_none_or(|s| s.last_value.to_bits() != value.to_bits())
            };
            let mut wrong: Vec<String> = expected
                .series()
                .filter(|(s, _)| wanted(s))
                .filter(differs)
                .map(|(series, value)| {
                    format!("{series}: expected {value}, found {:?}", found.get(series).map(|s| s.last_value))
                })
                .collect();
            wrong.extend(found.keys().filter(|s| wanted(s) && expected.get(s).is_none()).cloned());
            if wrong.is_empty() {
                return Ok(());
            }
            let n = wrong.len();
            wrong.truncate(SHOWN);
            Err(format!("{n} series: {wrong:#?}"))
        });
        assert_eq!(self.receiver.violations(), Vec::<String>::new());
    }
}

// === impl Insider ===

impl Insider {
    /// The tasks that run.
    pub fn running(&self) -> Vec<TaskId> {
        let tasks = self.telemetry.tasks().snapshot().into_iter();
        tasks.filter(|(_, s)| s.state == TaskState::Running).map(|(id, _)| id).collect()
    }

    /// Where a partition of the source is in stream time, in milliseconds since the epoch.
    pub fn stream_time(&self, partition: i32) -> Option<i64> {
        let tasks = self.telemetry.tasks().snapshot();
        let of = |id: &TaskId| id.kind == TaskKind::Span && id.partition == partition;
        tasks.iter().find(|(id, _)| of(id)).and_then(|(_, s)| s.stream_time)
    }

    /// The sum over all series that begin so.
    pub fn metric(&self, series: &str) -> u64 {
        sum_of(&self.telemetry.render(), series, "")
    }

    /// The ledgers of its partitions, added up.
    pub fn ledger(&self) -> Ledger {
        let mut sum = Ledger::default();
        self.telemetry.tasks().snapshot().iter().for_each(|(_, s)| sum.merge(&s.ledger));
        sum
    }

    pub fn stop(self) {
        self.worker.stop().expect("a graceful stop");
    }
}

/// The sum over all series in a page of metrics that begin so and have this label, written `name="value"`; the empty one is in
/// all.
pub fn sum_of(metrics: &str, series: &str, label: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.contains(label)).filter_map(|line| line.strip_prefix(series));
    lines.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
}

/// Waits until workers run so many tasks together.
pub fn all_run(workers: &[&Insider], tasks: usize) {
    wait_until("all tasks run", PATIENCE, || {
        let running: Vec<TaskId> = workers.iter().flat_map(|w| w.running()).collect();
        if running.len() == tasks { Ok(()) } else { Err(format!("{running:?}")) }
    });
}

/// Waits until a worker has written this to its log.
pub fn says(worker: &mut Daemon, what: &str) -> String {
    wait_until(what, PATIENCE, || {
        crate::must_run(worker);
        let log = worker.tail();
        if log.contains(what) { Ok(log) } else { Err(log) }
    })
}

/// What a small shop sends in three seconds that began so long ago.
pub fn records(ago: Duration) -> Vec<Record> {
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970") - ago;
    let options = Options { start: start.as_millis() as i64, rate: 200, spans: Some(600), ..Options::default() };
    Generator::new(Topology::shop(1), 1, options).collect()
}

/// How many spans these are.
pub fn spans(records: &[Record]) -> f64 {
    records.iter().map(|r| f64::from(r.spans)).sum()
}

/// Some counters of a ledger, added up.
pub fn counters(ledger: &Ledger, counters: &[Counter]) -> u64 {
    counters.iter().map(|&t| ledger.get(t)).sum()
}
