//! One test's own world: an embedded broker, a receiver, a configuration; and the checks at the end.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use spanmill::core::journal::frame::claim;
use spanmill::core::journal::{Cause, JournalWriter, Owner, SpanCommit, SpanFold};
use spanmill::core::model::{Counter, Ledger, Millis};
use spanmill::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::tasks::span::{Restored, SpanSettings, SpanTask};
use spanmill::tools::loadgen::Expectation;
use spanmill::tools::receiver::{PATH, Receiver};
use spanmill::worker::kafka::TopicNames;
use tempfile::TempDir;

use super::load::Load;
use super::worker::Worker;
use super::{PATIENCE, SOURCE, wait_until};

/// Partitions of the source topic.
pub const PARTITIONS: i32 = 4;
/// Partitions of the deltas topic.
pub const SHARDS: i32 = 4;
/// A graceful stop may take this long: twice what the configuration says, for the machine may be slow.
pub const STOPS_WITHIN: Duration = Duration::from_secs(40);
/// The consumer group.
pub const GROUP: &str = "mill";
/// How many differences are shown.
const SHOWN: usize = 12;

/// A world.
pub struct Scene {
    seed: u64,
    pub cluster: MockCluster<'static, DefaultProducerContext>,
    pub receiver: Receiver,
    dir: TempDir,
    started: usize,
}

/// The times that a test may be about.
pub struct Times {
    /// `service_graphs.wait`. A load, or the machine, may stand still for as long, and every edge is still counted.
    pub wait: &'static str,
    /// `session.timeout.ms` of the workers.
    pub session: u32,
    /// `time.stall_grace`. No step may be closed by force, unless a test is about that.
    pub stall_grace: &'static str,
}

impl Default for Times {
    fn default() -> Self {
        Self { wait: "12s", session: 4_000, stall_grace: "120s" }
    }
}

// === impl Scene ===

impl Scene {
    /// A world without workers. `seed` decides everything that is random in it.
    pub fn new(brokers: i32, seed: u64) -> Self {
        Self::with(brokers, seed, &Times::default())
    }

    /// The same, with other times.
    pub fn with(brokers: i32, seed: u64, times: &Times) -> Self {
        let cluster = MockCluster::new(brokers).expect("an embedded broker");
        let names = TopicNames::new(GROUP);
        for (topic, partitions) in [
            (SOURCE.to_owned(), PARTITIONS),
            (names.journal(SOURCE), PARTITIONS),
            (names.deltas(), SHARDS),
            (names.series_journal(), SHARDS),
        ] {
            cluster.create_topic(&topic, partitions, brokers).expect("a topic");
        }
        let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        let scene = Self { seed, cluster, receiver, dir, started: 0 };
        std::fs::write(scene.config(), scene.settings(times)).expect("a file can be written");
        scene
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("spanmill.yaml")
    }

    fn settings(&self, times: &Times) -> String {
        let Times { wait, session, stall_grace } = times;
        format!(
            r#"kafka:
  brokers: "{brokers}"
  topics: [{SOURCE}]
  group: {GROUP}
  shards: {SHARDS}
  replication: 1
  properties: {{session.timeout.ms: "{session}", heartbeat.interval.ms: "500"}}
time: {{step: 1s, idle: 700ms, stall_grace: {stall_grace}}}
service_graphs: {{wait: {wait}}}
series: {{snapshot_every: 3s}}
remote_write: {{url: "{url}", timeout: 1s, min_backoff: 20ms, max_backoff: 500ms}}
worker: {{threads: 2, shutdown_timeout: 20s}}
log: {{level: "info,spanmill::worker::kafka=debug"}}
admin: {{listen: "127.0.0.1:0"}}
"#,
            brokers = self.cluster.bootstrap_servers(),
            url = self.receiver.url(),
        )
    }

    /// Starts a worker.
    pub fn worker(&mut self) -> Worker {
        self.worker_with(&[])
    }

    /// Starts a worker with settings of the environment.
    pub fn worker_with(&mut self, settings: &[(&str, &str)]) -> Worker {
        self.started += 1;
        Worker::start(&format!("worker {}", self.started), &self.config(), settings)
    }

    /// From now on, workers write to a second receiver as well. Both endpoints have names.
    pub fn writes_to_two(&self, second: &str) {
        let settings = std::fs::read_to_string(self.config()).expect("settings");
        let line = settings.lines().find(|line| line.starts_with("remote_write: ")).expect("a receiver");
        let one = line.trim_start_matches("remote_write: ");
        let named =
            |name: &str, url: &str| one.replace('{', &format!("{{name: {name}, ")).replace(&self.receiver.url(), url);
        let list = format!("remote_write: [{}, {}]", named("first", &self.receiver.url()), named("second", second));
        std::fs::write(
            self.config(),
            settings.replace(line, &list).replace("snapshot_every: 3s", "snapshot_every: 8s"),
        )
        .expect("a file can be written");
    }

    /// A broker leads all partitions of a topic from now on.
    pub fn moves_to(&self, topic: &str, broker: i32) {
        for partition in 0..PARTITIONS.max(SHARDS) {
            self.cluster.partition_leader(topic, partition, Some(broker)).expect("a leader");
        }
    }

    /// Sends records of this moment.
    pub fn send(&self, values: &[&[u8]]) {
        self.send_to(SOURCE, None, values.iter().copied());
    }

    /// Sends records of this moment to one partition.
    pub fn send_into(&self, partition: i32, values: &[Vec<u8>]) {
        self.send_to(SOURCE, Some(partition), values.iter().map(Vec::as_slice));
    }

    fn send_to<'a>(&self, topic: &str, partition: Option<i32>, values: impl Iterator<Item = &'a [u8]>) {
        let brokers = self.cluster.bootstrap_servers();
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a producer");
        for value in values {
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).payload(value);
            let record = BaseRecord { partition, ..record };
            producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
        }
        producer.flush(PATIENCE).expect("everything is delivered");
    }

    /// Writes the journal of a partition that no worker has had: a worker assumed that it was `now`, and has ticked.
    pub fn ticks_at(&self, partition: i32, now: Millis) {
        let config = spanmill::config::load_from(Some(&self.config()), &[]).expect("sound settings").config;
        let settings = SpanSettings::from(&config);
        let mut task =
            SpanTask::new(&settings, SOURCE.into(), partition, Restored::default()).expect("an empty journal");
        task.set_start(0);
        let cut = task.tick(now).expect("it passes the end of a step");
        let commit = SpanCommit {
            cause: Cause::Tick,
            step: cut.step,
            stream_time: Some(cut.stream_time),
            forwarded: 0,
            reread_from: cut.reread_from,
            live: cut.live,
            ledger: cut.ledger,
            delta_records: cut.delta_records,
            witness: None,
        };
        let owner = Owner(1);
        let commit = JournalWriter::new(owner, 0, None, 0).commit(cut.from, cut.to, &commit.encode());
        let records: Vec<Vec<u8>> = [vec![claim(owner, "")], commit].concat();
        self.send_to(&TopicNames::new(GROUP).journal(SOURCE), Some(partition), records.iter().map(Vec::as_slice));
    }

    /// Starts the load.
    pub fn load(&self) -> Load {
        Load::start(&self.cluster.bootstrap_servers(), self.seed)
    }

    /// Waits until steps have been stored beyond those that are there.
    pub fn goes_on(&self) {
        let newest = || self.receiver.snapshot().values().map(|s| s.last_ts).max().unwrap_or_default();
        let before = newest();
        wait_until("two further steps arrive", PATIENCE, || match newest() {
            now if now >= before + 2_000 => Ok(()),
            now => Err(format!("{before}, then {now}")),
        });
    }

    /// Waits until every series has the value that it must end with, and checks what has led there.
    pub fn ends_exactly(&self, expected: &Expectation, workers: &mut [&mut Worker]) {
        self.ends_exactly_without(expected, workers, |_| false);
    }

    /// The same, with series that the receiver must not have.
    pub fn ends_exactly_without(
        &self,
        expected: &Expectation,
        workers: &mut [&mut Worker],
        refused: impl Fn(&str) -> bool,
    ) {
        wait_until("every series is exact", PATIENCE, || {
            workers.iter_mut().for_each(|w| w.must_run());
            self.compare(expected, &refused)
        });
        // An edge may expire last that no series shows.
        wait_until("every edge has been settled", PATIENCE, || {
            workers.iter_mut().for_each(|w| w.must_run());
            let differ = differences(&self.ledger(), expected.ledger());
            if differ.is_empty() { Ok(()) } else { Err(differ.join(", ")) }
        });
        for worker in workers.iter_mut() {
            worker.stop(STOPS_WITHIN);
        }
        // The stop may not have added anything.
        assert_eq!(self.compare(expected, &refused), Ok(()));
        assert_eq!(self.receiver.violations(), Vec::<String>::new());
        self.nothing_was_forgotten(expected);
        assert_eq!(differences(&self.ledger(), expected.ledger()), Vec::<String>::new());
    }

    /// Names the series that differ from the expectation.
    pub fn compare(&self, expected: &Expectation, refused: impl Fn(&str) -> bool) -> Result<(), String> {
        let found: BTreeMap<String, f64> =
            self.receiver.snapshot().into_iter().map(|(name, s)| (name, s.last_value)).collect();
        let mut lines = Vec::new();
        for (series, value) in expected.series().filter(|(s, _)| !refused(s)) {
            match found.get(series) {
                Some(other) if other.to_bits() == value.to_bits() => {}
                Some(other) => lines.push(format!("{series}: expected {value}, found {other}")),
                None => lines.push(format!("{series}: expected {value}, found nothing")),
            }
        }
        for (series, value) in &found {
            if expected.get(series).is_none() || refused(series) {
                lines.push(format!("{series}: not expected, found {value}"));
            }
        }
        let (total, shown) = (lines.len(), lines.iter().take(SHOWN).fold(String::new(), |a, l| a + "\n  " + l));
        let violations = self.receiver.violations();
        match total {
            0 if expected.series().len() > 100 => Ok(()),
            n => Err(format!("seed {}: {n} differences:{shown}\nviolations: {violations:?}", self.seed)),
        }
    }

    /// Writes one sample as any remote-write client would. `series` is the text of a series.
    pub fn write(&self, series: &str, timestamp: i64, value: f64) {
        let (name, labels) = series.split_once('{').expect("labels");
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        let mut all = vec![label("__name__", name)];
        for pair in labels.trim_end_matches('}').split("\",") {
            let (name, value) = pair.split_once("=\"").expect("a label");
            all.push(label(name, value.trim_end_matches('"')));
        }
        let timeseries = TimeSeries {
            labels: all,
            samples: vec![Sample { value, timestamp }],
            exemplars: Vec::new(),
            histograms: Vec::new(),
        };
        let body = WriteRequest { timeseries: vec![timeseries] }.encode_to_vec();
        let body = snap::raw::Encoder::new().compress_vec(&body).expect("small enough");
        let mut socket = TcpStream::connect(self.receiver.addr()).expect("the receiver listens");
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: receiver\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\r\n",
            body.len()
        );
        socket.write_all(&[head.as_bytes(), &body].concat()).expect("a request is taken");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }

    /// The embedded broker forgets silently; then these tests would prove nothing.
    fn nothing_was_forgotten(&self, expected: &Expectation) {
        let names = TopicNames::new(GROUP);
        let reader = self.reader();
        let mut records = 0;
        for topic in [SOURCE, &names.journal(SOURCE), &names.deltas(), &names.series_journal()] {
            for partition in 0..PARTITIONS {
                let (low, high) = reader.fetch_watermarks(topic, partition, PATIENCE).expect("bounds");
                assert_eq!(low, 0, "{topic}[{partition}] lost its beginning: use a smaller load");
                records += if topic == SOURCE { high } else { 0 };
            }
        }
        assert_eq!(records.unsigned_abs(), expected.ledger().get(Counter::RecordsRead), "records in the source");
    }

    /// The sum of the ledgers of all journals.
    fn ledger(&self) -> Ledger {
        let (reader, topic) = (self.reader(), TopicNames::new(GROUP).journal(SOURCE));
        let mut sum = Ledger::default();
        for partition in 0..PARTITIONS {
            let (_, high) = reader.fetch_watermarks(&topic, partition, PATIENCE).expect("bounds");
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, Offset::Beginning).expect("an offset");
            reader.assign(&list).expect("an assignment");
            let mut fold = SpanFold::new();
            let mut next = 0;
            wait_until("the journal is read", PATIENCE, || {
                while next < high {
                    let record = reader.poll(Duration::from_secs(1)).ok_or("no record")?.map_err(|e| e.to_string())?;
                    next = record.offset() + 1;
                    fold.apply(next - 1, record.payload().expect("a frame")).expect("a sound journal");
                }
                Ok(())
            });
            sum.merge(&fold.into_state().expect("a whole journal").ledger);
        }
        sum
    }

    fn reader(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "test")
            .create()
            .expect("a consumer")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}; {:?}", self.seed, self.receiver.totals());
        }
    }
}

fn differences(found: &Ledger, expected: &Ledger) -> Vec<String> {
    let differ = |(counter, n): (Counter, u64)| {
        let m = expected.get(counter);
        (n != m).then(|| format!("{}: expected {m}, found {n}", counter.name()))
    };
    found.iter().filter_map(differ).collect()
}
