//! `spanmill replay` on a real Kafka: the same samples as live, whatever happens in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use spanmill::config;
use spanmill::core::model::{Counter, StepWidth};
use spanmill::core::remotewrite::decode;
use spanmill::tools::loadgen::{Expectation, Generator, Group, Options, Record, StepValues, Topology, parse_steps};
use spanmill::tools::receiver::Receiver;
use spanmill::worker::Worker;
use spanmill::worker::telemetry::{TaskKind, Telemetry};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::servers::child::Guarded;
use crate::servers::kafka::RealKafka;
use crate::servers::spanmill::worker_config;
use crate::servers::wait_until;

pub(super) const TOPIC: &str = "spans";
const PARTITIONS: u32 = 3;
/// The beginning of the history: long ago, as every history.
const START: i64 = 1_700_000_000_000;

/// A sample or an exemplar: its series, its step, its value's bits, and what else it says.
pub(super) type Said = (String, i64, u64, String);

/// A receiver that remembers everything.
pub(super) struct Listener {
    pub(super) receiver: Receiver,
    said: Arc<Mutex<BTreeSet<Said>>>,
}

pub(super) struct Scene {
    pub(super) kafka: RealKafka,
    pub(super) dir: TempDir,
    pub(super) records: Vec<Record>,
}

#[test]
fn a_replay_from_kafka_says_to_the_bit_what_the_live_workers_said() {
    let scene = Scene::new(0);
    let live = Listener::start();
    let last = scene.live(&live);
    let replayed = Listener::start();
    let summary = scene.replay(&replayed, &["--id", "whole"]);
    assert_eq!(summary["complete"], true, "{summary:#}");
    assert_eq!(number(&summary["ledger"]["records_read"]), scene.records.len() as u64);
    assert_eq!(number(&summary["ledger"]["records_lost"]), 0);
    // The live workers still wait for what comes after the last record; a replay knows that nothing does.
    let until = |said: BTreeSet<Said>| said.into_iter().filter(|(_, at, ..)| *at <= last).collect::<BTreeSet<_>>();
    let (live, replay) = (until(live.all()), until(replayed.all()));
    assert!(live.len() > 10_000, "{}", live.len());
    assert_same(&live, &replay);
    // It has ended: asking again neither counts nor sends anything.
    let silent = Listener::start();
    let again = scene.replay(&silent, &["--id", "whole"]);
    assert_eq!((again["complete"].clone(), silent.all().len()), (true.into(), 0));
    assert_eq!(again["ledger"], summary["ledger"]);
}

#[test]
fn a_replay_from_kafka_says_whether_objectives_were_met_over_its_whole_history() {
    let scene = Scene::new(1);
    let slos = "slos=[{name: fast, good: {latency: 100ms}, objective: 90}, \
                {name: whole, of: traces, good: {latency: 1s}}, {name: calls, of: edges, good: {latency: 50ms}}]";
    let (to, set) = (Listener::start(), ["--set", slos, "--set", "traces.duration=true"]);
    let summary = scene.replay(&to, &[&["--id", "slos"], &set[..]].concat());
    let results = summary["slos"].as_array().expect("a list");
    assert_eq!(results.len(), 3, "{summary:#}");
    let sent = to.receiver.snapshot();
    let total = |metric: &str, slo: &Value| -> f64 {
        let slo = format!("slo={slo}");
        let of = |series: &String| series.contains(&format!("{metric}{{")) && series.contains(&slo);
        sent.iter().filter(|(series, _)| of(series)).map(|(_, state)| state.last_value).sum()
    };
    for result in results {
        let [events, good] =
            ["traces_slo_events_total", "traces_slo_good_total"].map(|metric| total(metric, &result["slo"]));
        assert_eq!((result["events"].as_f64(), result["good"].as_f64()), (Some(events), Some(good)), "{result}");
        assert!(0.0 < good && good < events, "{result}");
    }
    let spans: u32 = scene.records.iter().map(|record| record.spans).sum();
    let fast = results.iter().find(|result| result["slo"] == "fast").expect("an objective of spans");
    assert_eq!(fast["events"].as_f64(), Some(spans.into()));
    let met = fast["good"].as_f64().expect("a number") / f64::from(spans) >= 0.9;
    assert_eq!(fast["met"].as_bool(), Some(met), "{fast}");
    // A run that another process has read, or an earlier one, is not judged by a part of it.
    let again = scene.replay(&Listener::start(), &[&["--id", "slos"], &set[..]].concat());
    assert_eq!(again["slos"].as_array().map(Vec::len), Some(0), "{again:#}");
}

#[test]
fn a_replay_from_kafka_that_is_killed_and_shared_by_workers_ends_like_one_that_was_not() {
    let scene = Scene::new(1);
    let (calm, wild) = (Listener::start(), Listener::start());
    let whole = scene.replay(&calm, &["--id", "calm"]);
    let bytes = number(&whole["ledger"]["bytes_read"]);
    let slow = (bytes / 12).to_string();
    let begin = || scene.begin(&wild, &["--id", "wild", "--read-rate", &slow]);
    let (mut first, mut second) = (begin(), begin());
    for _ in 0..3 {
        let before = wild.receiver.totals().samples;
        wait_until("some samples have arrived", PATIENCE, || match wild.receiver.totals().samples {
            n if n > before + 500 => Ok(()),
            n => Err(format!("{n} samples, {before} before")),
        });
        first.kill().expect("it runs");
        first.wait().expect("it has ended");
        (first, second) = (second, begin());
    }
    for worker in [first, second] {
        let output = worker.output();
        let summary = summary(&output);
        assert_eq!(summary["complete"], true, "{summary:#}");
        assert_eq!(summary["ledger"], whole["ledger"]);
    }
    assert_eq!(wild.receiver.violations(), Vec::<String>::new());
    assert_same(&calm.all(), &wild.all());
}

#[test]
fn a_replay_from_kafka_reads_the_range_that_was_asked_for_and_says_what_is_gone() {
    let scene = Scene::new(1);
    let ignored = Listener::start();
    let middle = START + 20_000;
    let (time, from) = ("2023-11-14T22:13:40Z", "spans[1]=7");
    let of = |p: u32, wanted: &dyn Fn(&Record) -> bool| {
        scene.records.iter().filter(|r| r.partition == Some(p) && wanted(r)).count() as u64
    };
    // Records are in the order of time in every partition.
    let until: u64 = (0..PARTITIONS).map(|p| of(p, &|r| r.timestamp < middle)).sum();
    let summary = scene.replay(&ignored, &["--id", "range", "--from", from, "--to", time]);
    assert_eq!(summary["complete"], true, "{summary:#}");
    assert_eq!(number(&summary["ledger"]["records_read"]), until - 7);
    assert!(summary["edges_open"].as_i64().expect("a number") > 0, "what waits at a cut end stays open");

    // The same run has one range for good.
    let output = scene.output(&ignored, &["--id", "range", "--to", "now"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("--to 2023-11-14T22:13:40Z"), "{said}");
    let output = scene.output(&ignored, &["--id", "range", "--set", "time.step=2s"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("- time.step = 1s"), "{said}");

    // Retention takes the beginning of a partition.
    let file = scene.dir.path().join("delete.json");
    let gone = format!(r#"{{"version":1,"partitions":[{{"topic":"{TOPIC}","partition":2,"offset":5}}]}}"#);
    std::fs::write(&file, gone).expect("a file");
    scene.kafka.tool("DeleteRecordsCommand", &["--offset-json-file", file.to_str().expect("UTF-8")]);
    let all = scene.records.len() as u64;
    let summary = scene.replay(&Listener::start(), &["--id", "gone", "--from", "0"]);
    let ledger = |counter: &str| number(&summary["ledger"][counter]);
    assert_eq!([ledger("records_read"), ledger("records_lost")], [all - 5, 5], "{summary:#}");
    assert_eq!(summary["partitions"][2]["cut"], true);

    // And its topics are removed on request.
    let removed = scene.output(&ignored, &["--id", "gone", "--remove"]);
    assert!(String::from_utf8_lossy(&removed.stdout).contains("deleted 4 topics"), "{removed:?}");
    let summary = scene.replay(&Listener::start(), &["--id", "gone", "--from", "0"]);
    assert_eq!(number(&summary["ledger"]["records_read"]), all - 5, "another run of the same name: {summary:#}");
}

#[test]
fn a_replay_from_kafka_says_at_the_end_of_every_step_what_the_generator_says() {
    let scene = Scene::empty(PARTITIONS, &[]);
    let file = scene.dir.path().join("expected.txt");
    let mut produce = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    produce.args(["produce", "--brokers", &scene.kafka.brokers, "--topic", TOPIC, "--spans", "12000", "--rate", "0"]);
    produce.args(["--start-time", "2023-11-14T22:13:20Z", "--virtual-rate", "400", "--group", "partition"]);
    let produced = produce.args(["--expect-steps", "1s", "--expect"]).arg(&file).output().expect("it starts");
    assert!(produced.status.success(), "{produced:?}");
    let text = std::fs::read_to_string(&file).expect("a file");
    let (totals, steps) = (Expectation::parse(&text).expect("totals"), parse_steps(&text).expect("steps"));
    let virtual_nodes = |series: &str| series.contains(r#"connection_type="virtual_node""#);
    let (some, all) = (steps.len(), totals.series().filter(|(series, _)| !virtual_nodes(series)).count());
    assert!(some == all && steps.values().any(|values| values.len() > 20), "{some} of {all} series");

    let to = Listener::start();
    let summary = scene.replay(&to, &["--id", "steps"]);
    assert_eq!(summary["complete"], true, "{summary:#}");
    assert_steps(&steps, &to.all());
    // A record of another step would be noticed.
    let mut wrong = steps;
    let (_, values) = wrong.iter_mut().find(|(_, values)| values.len() > 2).expect("some");
    values.remove(1);
    assert!(catch_unwind(|| assert_steps(&wrong, &to.all())).is_err());
}

/// Every sample of the series in the expectation has the expected value, and none is missing.
fn assert_steps(expected: &StepValues, said: &BTreeSet<Said>) {
    let mut found: BTreeMap<&str, BTreeMap<i64, f64>> = BTreeMap::new();
    for (series, at, bits, _) in said.iter().filter(|(.., exemplar)| exemplar.is_empty()) {
        let series = series.split_once('/').expect("behind the tenant").1;
        found.entry(series).or_default().insert(*at, f64::from_bits(*bits));
    }
    let mut differences = Vec::new();
    for (series, values) in expected {
        let mut samples = found.remove(series.as_str()).unwrap_or_default();
        // The zero before the first value.
        samples.retain(|at, value| at % 1_000 == 0 || value.to_bits() != 0);
        let missing = values.iter().filter(|(at, _)| !samples.contains_key(at)).map(|(at, value)| (*at, *value));
        let of = |at: i64| values.iter().take_while(|(step, _)| *step <= at).last().map(|(_, value)| *value);
        let other = |(at, value): (&i64, &f64)| of(*at).map(f64::to_bits) != Some(value.to_bits());
        let wrong = samples.iter().filter(|&(at, value)| other((at, value))).map(|(at, value)| (*at, *value));
        differences.extend(missing.chain(wrong).map(|difference| (series, difference)));
    }
    let first: Vec<_> = differences.iter().take(5).collect();
    assert!(differences.is_empty(), "{} differences: {first:#?}", differences.len());
}

#[test]
fn a_replay_from_kafka_says_that_a_topic_has_lost_its_end() {
    let mut scene = Scene::empty(1, &[]);
    let group = Group::Partition(1);
    let options = Options { start: START, spans: Some(2_000), spans_per_record: 20, group, ..Options::default() };
    scene.send(Generator::new(Topology::shop(3), 3, options).collect());
    let to = Listener::start();
    let (half, slow) = (scene.records.len() / 2, ["--id", "lost", "--read-rate", "1"]);
    let mut begun = scene.begin(&to, &slow);
    let plan = "spans-group-replay-lost-plan";
    wait_until("the run has its plan", PATIENCE, || match scene.kafka.end(plan, 0) {
        1 => Ok(()),
        n => Err(format!("the plan ends at {n}")),
    });
    begun.kill().expect("it runs");
    begun.wait().expect("it has ended");
    scene.kafka.tool("TopicCommand", &["--delete", "--topic", TOPIC]);
    wait_until("the topic is gone", PATIENCE, || match scene.kafka.partitions(TOPIC) {
        0 => Ok(()),
        n => Err(format!("{n} partitions")),
    });
    scene.kafka.tool("TopicCommand", &["--create", "--topic", TOPIC, "--config", "retention.ms=-1"]);
    let records = std::mem::take(&mut scene.records);
    let (planned, left) = (records.len(), records[..half].to_vec());
    scene.send(left);

    let mut waits = Guarded::start(&mut scene.command(&to, &["--id", "lost"]));
    let told = format!("spans[0] ends at offset {half}, but the run was planned up to {planned}");
    let mut lines = BufReader::new(waits.stderr.take().expect("a pipe")).lines();
    let said = lines.by_ref().map(|line| line.expect("UTF-8")).find(|line| line.contains(&told)).expect(&told);
    assert!(said.contains("another --id"), "{said}");
    waits.kill().expect("it waits");
    waits.wait().expect("it has ended");
    // The rest comes back.
    scene.send(records[half..].to_vec());
    let summary = scene.replay(&to, &["--id", "lost"]);
    assert_eq!(summary["complete"], true, "{summary:#}");
    assert_eq!(number(&summary["ledger"]["records_read"]), planned as u64);
}

// === impl Listener ===

impl Listener {
    pub(super) fn start() -> Self {
        let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
        let said = Arc::<Mutex<BTreeSet<Said>>>::default();
        let heard = Arc::clone(&said);
        receiver.watch(move |tenant, entry| {
            let series = format!("{tenant}/{}", decode::text(&entry.labels));
            let mut heard = heard.lock().expect("no thread panics");
            for s in &entry.samples {
                heard.insert((series.clone(), s.timestamp, s.value.to_bits(), String::new()));
            }
            // An exemplar belongs to the step that it came with; its own time is that of its span.
            let step = entry.samples.iter().map(|s| s.timestamp).max().unwrap_or_default();
            for e in &entry.exemplars {
                let what = format!("{} {}", e.timestamp, decode::text(&e.labels));
                heard.insert((series.clone(), step, e.value.to_bits(), what));
            }
        });
        Self { receiver, said }
    }

    pub(super) fn all(&self) -> BTreeSet<Said> {
        self.said.lock().expect("no thread panics").clone()
    }
}

// === impl Scene ===

impl Scene {
    /// A broker with an empty topic.
    pub(super) fn empty(partitions: u32, more: &[&str]) -> Self {
        Self::on(RealKafka::start(), partitions, more)
    }

    /// The same on a broker of one's own.
    pub(super) fn on(kafka: RealKafka, partitions: u32, more: &[&str]) -> Self {
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        let partitions = partitions.to_string();
        // Old timestamps must not make the broker delete them.
        let kept = ["--partitions", &partitions, "--config", "retention.ms=-1"];
        kafka.tool("TopicCommand", &[&["--create", "--topic", TOPIC], &kept[..], more].concat());
        Self { kafka, dir, records: Vec::new() }
    }

    /// A topic with half a minute of history, and some empty partitions.
    fn new(empty: u32) -> Self {
        let mut scene = Self::empty(PARTITIONS + empty, &[]);
        let options = Options {
            start: START,
            rate: 400,
            spans: Some(12_000),
            spans_per_record: 20,
            group: Group::Partition(PARTITIONS),
            ..Options::default()
        };
        scene.send(Generator::new(Topology::shop(3), 3, options).collect());
        scene
    }

    /// Sends records to their partitions.
    pub(super) fn send(&mut self, records: Vec<Record>) {
        self.send_to(TOPIC, &records);
        self.records.extend(records);
    }

    /// Sends records to their partitions of another topic.
    pub(super) fn send_to(&self, topic: &str, records: &[Record]) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &self.kafka.brokers).create().expect("a producer");
        for record in records {
            let message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
                .partition(place(record))
                .payload(record.value.as_slice())
                .timestamp(record.timestamp);
            producer.send(message).map_err(|(e, _)| e).expect("the queue has room");
        }
        producer.flush(PATIENCE).expect("everything is delivered");
    }

    pub(super) fn config(&self, to: &Listener) -> PathBuf {
        worker_config(self.dir.path(), &self.kafka.brokers, TOPIC, &to.receiver.url(), "5s")
    }

    /// Lets two live workers read everything; returns the last step that all shards have closed.
    fn live(&self, to: &Listener) -> i64 {
        let set = vec![format!("kafka.topics=[{TOPIC}]"), "time.idle=1h".to_owned(), "time.stall_grace=1h".to_owned()];
        let mut config = config::load_from(Some(&self.config(to)), &set).expect("legal").config;
        config.core.time.step = StepWidth::new(1_000).expect("positive");
        let telemetry: Vec<Telemetry> = (0..2).map(|_| Telemetry::new()).collect();
        let workers: Vec<Worker> =
            telemetry.iter().map(|t| Worker::start(config.clone(), t.clone()).expect("a worker")).collect();
        let last = wait_until("the live workers have closed and sent everything", PATIENCE, || {
            let statuses: Vec<_> = telemetry.iter().flat_map(|t| t.tasks().snapshot()).collect();
            let spans = statuses.iter().filter(|(id, _)| id.kind == TaskKind::Span);
            let read: u64 = spans.clone().map(|(_, s)| s.ledger.get(Counter::RecordsRead)).sum();
            let slowest = spans.filter_map(|(_, s)| s.stream_time).min().unwrap_or_default();
            let passed = config.core.time.step.passed(slowest);
            let closed = statuses.iter().filter(|(id, s)| id.kind == TaskKind::Series && s.closed_step == Some(passed));
            let (closed, pending) = (closed.count(), telemetry.iter().map(|t| t.samples().pending).sum::<u64>());
            if read == self.records.len() as u64 && closed == 4 && pending == 0 {
                Ok(passed)
            } else {
                Err(format!("{read} records, {closed} shards at {passed}, {pending} samples on their way"))
            }
        });
        workers.into_iter().for_each(|worker| worker.stop().expect("a graceful stop"));
        last
    }

    fn command(&self, to: &Listener, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
        command.args(["replay", "--json", "--skip-preflight", "--config"]).arg(self.config(to)).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn begin(&self, to: &Listener, args: &[&str]) -> Guarded {
        Guarded::start(self.command(to, args).stderr(Stdio::null()))
    }

    pub(super) fn output(&self, to: &Listener, args: &[&str]) -> Output {
        self.command(to, args).output().expect("it starts")
    }

    /// Replays to the end; returns the summary.
    pub(super) fn replay(&self, to: &Listener, args: &[&str]) -> Value {
        let summary = summary(&self.output(to, args));
        assert_eq!(to.receiver.violations(), Vec::<String>::new());
        summary
    }
}

fn summary(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}\n{said}"))
}

pub(super) fn place(record: &Record) -> i32 {
    record.partition.and_then(|p| i32::try_from(p).ok()).expect("each has a place")
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

pub(super) fn assert_same(one: &BTreeSet<Said>, other: &BTreeSet<Said>) {
    let missing: Vec<_> = one.difference(other).take(5).collect();
    let new: Vec<_> = other.difference(one).take(5).collect();
    let both = (one.len(), other.len());
    assert!(
        missing.is_empty() && new.is_empty(),
        "{both:?}: only the first says {missing:#?}, only the second {new:#?}"
    );
}
