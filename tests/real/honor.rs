//! `spanmill replay --honor-journal` on a real Kafka: ticks, and steps that were closed without a partition, come again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use spanmill::config;
use spanmill::core::journal::Event;
use spanmill::core::model::{Millis, StepWidth};
use spanmill::tools::loadgen::{Generator, Group, Options, Record, Topology};
use spanmill::tools::replay::ReplayPlan;
use spanmill::worker::Worker;
use spanmill::worker::kafka::LogReader;
use spanmill::worker::kafka::reader::Stretch;
use spanmill::worker::telemetry::{TaskKind, TaskStatus, Telemetry};

use super::replay::{Listener, Said, Scene, TOPIC, assert_same, place};
use crate::PATIENCE;
use crate::servers::api::now;
use crate::servers::wait_until;

const PARTITIONS: u32 = 4;
const SHARDS: usize = 4;
const GROUP: &str = "spans-group";

/// A live worker, and what it says about itself.
struct Live {
    telemetry: Telemetry,
    worker: Worker,
}

#[test]
fn a_replay_from_kafka_that_honors_the_journals_repeats_ticks_and_forced_closes_to_the_bit() {
    let mut scene = Scene::empty(PARTITIONS, &[]);
    let live = Listener::start();
    // Two workers of a group: one loses patience with silent partitions, the other one never does, and does not advance
    // its own either. That one is first: what the hasty one had for a second alone, it would have advanced.
    let patient = Live::start(&scene, &live, "1h");
    wait_until("the patient worker has all partitions", PATIENCE, || match patient.tasks(TaskKind::Span).len() {
        4 => Ok(()),
        count => Err(format!("{count}")),
    });
    let hasty = Live::start(&scene, &live, "1s");
    wait_until("both have partitions and shards", PATIENCE, || {
        let counts = [&hasty, &patient].map(|w| (w.tasks(TaskKind::Span).len(), w.tasks(TaskKind::Series).len()));
        if counts == [(2, 2), (2, 2)] { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    let late = patient.tasks(TaskKind::Span)[0].0;

    // Three stretches of time. Of the second one, a partition of the patient worker gets nothing before the hasty one has
    // closed its steps. The third one is there so that all shards close what came too late.
    let begin = present() - 20_000;
    let (first, second) = (records(begin, 1), records(begin + 5_000, 2));
    let (held_back, prompt): (Vec<_>, Vec<_>) = second.into_iter().partition(|record| place(record) == late);
    let passed = prompt.iter().map(|record| record.timestamp).max().expect("some") / 1_000 * 1_000;
    assert!(held_back.len() > 3);
    scene.send(first);
    wait_until_read(&scene, &hasty, &patient);
    scene.send(prompt);
    wait_until("the hasty worker has closed steps without a partition", PATIENCE, || hasty.has_closed(passed));
    assert!(patient.has_closed(passed).is_err(), "the patient group did not close it");
    scene.send(held_back);
    wait_until_read(&scene, &hasty, &patient);
    let third = records(present() - 3_000, 3);
    let end = |p| third.iter().filter(|record| place(record) == p).map(|record| record.timestamp).max();
    let last = (0..PARTITIONS.cast_signed()).map(end).min().flatten().expect("some") / 1_000 * 1_000;
    scene.send(third);
    wait_until_read(&scene, &hasty, &patient);
    for worker in [&hasty, &patient] {
        wait_until("all shards are close to the end", PATIENCE, || worker.has_closed(last));
    }
    [hasty, patient].into_iter().for_each(|live| live.worker.stop().expect("a graceful stop"));

    let until = |said: BTreeSet<Said>| said.into_iter().filter(|(_, at, ..)| *at <= last).collect::<BTreeSet<_>>();
    let expected = until(live.all());
    let (honest, plain) = (Listener::start(), Listener::start());
    let summary = scene.replay(&honest, &["--id", "honest", "--honor-journal", GROUP]);
    assert_eq!(summary["complete"], true, "{summary:#}");
    let past = past(&scene, &honest, "honest");
    let ticks = past.iter().filter(|event| matches!(event, Event::Tick(..))).count();
    assert!(ticks > 0 && past.len() > ticks, "both have happened: {past:?}");
    assert!(expected.len() > 5_000, "{}", expected.len());
    assert_same(&expected, &until(honest.all()));
    // Without the journals, it is another history.
    scene.replay(&plain, &["--id", "plain"]);
    assert!(expected != until(plain.all()), "forced closes and ticks made no difference");
    // With other shards, it cannot be repeated.
    let args = ["--id", "other", "--honor-journal", GROUP, "--set", "kafka.shards=3"];
    let said = String::from_utf8_lossy(&scene.output(&plain, &args).stderr).into_owned();
    assert!(said.contains("--set kafka.shards=4"), "{said}");
    let said = scene.output(&plain, &["--id", "nobody", "--honor-journal", "nobody"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("group nobody has no journals"), "{said:?}");
}

#[test]
fn a_replay_from_kafka_that_honors_the_journals_repeats_when_a_topic_that_matches_has_joined_to_the_bit() {
    const LATE: &str = "spans-late";
    let mut scene = Scene::empty(PARTITIONS, &[]);
    let live = Listener::start();
    let topics = ["kafka.topics=^spans.*", "kafka.properties.topic.metadata.refresh.interval.ms=500", "time.idle=1s"];
    let worker = Live::with(&scene, &live, "1h", &topics);
    let closed = |step: Millis| {
        let all = worker.tasks(TaskKind::Series);
        let closed = all.iter().filter(|(_, status)| status.closed_step >= Some(step)).count();
        if closed == SHARDS { Ok(()) } else { Err(format!("{closed} shards are past {step}")) }
    };
    let read = |records: usize| {
        let read: i64 = worker.tasks(TaskKind::Span).iter().map(|(_, status)| status.position).sum();
        let pending = worker.telemetry.samples().pending;
        if read == records as i64 && pending == 0 { Ok(()) } else { Err(format!("{read} of {records}, {pending}")) }
    };
    let begin = present();
    scene.send(records(begin - 4_000, 1));
    wait_until("steps are closed", PATIENCE, || closed(begin));
    // What it has lies before the steps that are closed, and goes on behind them.
    scene.kafka.tool("TopicCommand", &["--create", "--topic", LATE, "--partitions", &PARTITIONS.to_string()]);
    let mut late = records(begin - 3_000, 2);
    scene.send_to(LATE, &late);
    wait_until("the topic that has joined is read", PATIENCE, || read(scene.records.len() + late.len()));
    let third = records(present() - 3_000, 3);
    let last = third.iter().map(|record| record.timestamp).max().expect("some") / 1_000 * 1_000;
    let more = records(present() - 3_000, 4);
    scene.send_to(LATE, &more);
    late.extend(more);
    scene.send(third);
    wait_until("everything is read", PATIENCE, || read(scene.records.len() + late.len()));
    wait_until("all shards are at the end", PATIENCE, || closed(last));
    worker.worker.stop().expect("a graceful stop");

    let until = |said: BTreeSet<Said>| said.into_iter().filter(|(_, at, ..)| *at <= last).collect::<BTreeSet<_>>();
    let (expected, honest, plain) = (until(live.all()), Listener::start(), Listener::start());
    assert_eq!(live.receiver.violations(), Vec::<String>::new());
    let set = ["--set", topics[0]];
    let summary = scene.replay(&honest, &[&["--id", "honest", "--honor-journal", GROUP][..], &set].concat());
    assert_eq!(summary["complete"], true, "{summary:#}");
    assert!(expected.len() > 5_000, "{}", expected.len());
    assert_same(&expected, &until(honest.all()));
    scene.replay(&plain, &[&["--id", "plain"][..], &set].concat());
    assert!(expected != until(plain.all()), "that a topic came late made no difference");
    // A run goes with all its topics, also with those that it has matched.
    let removed = scene.output(&plain, &[&["--id", "plain", "--remove"][..], &set].concat());
    assert!(String::from_utf8_lossy(&removed.stdout).contains("deleted 5 topics"), "{removed:?}");
}

fn present() -> Millis {
    (now() * 1_000.0) as Millis
}

/// Some seconds of a shop, with every ninth record a little late.
fn records(start: Millis, seed: u64) -> Vec<Record> {
    let group = Group::Partition(PARTITIONS);
    let options = Options { start, rate: 800, spans: Some(3_000), spans_per_record: 20, group, ..Options::default() };
    let mut records: Vec<Record> = Generator::new(Topology::shop(seed), seed, options).collect();
    records.iter_mut().step_by(9).for_each(|record| record.timestamp -= 1_500);
    records
}

fn wait_until_read(scene: &Scene, hasty: &Live, patient: &Live) {
    wait_until("everything is read", PATIENCE, || {
        let spans = [hasty, patient].map(|worker| worker.tasks(TaskKind::Span)).concat();
        let read: i64 = spans.iter().map(|(_, status)| status.position).sum();
        let pending: u64 = [hasty, patient].iter().map(|worker| worker.telemetry.samples().pending).sum();
        if read == scene.records.len() as i64 && pending == 0 { Ok(()) } else { Err(format!("{read}, {pending}")) }
    });
}

/// What the plan of a run says has happened to the live group.
fn past(scene: &Scene, to: &Listener, id: &str) -> Vec<Event> {
    let kafka = config::load_from(Some(&scene.config(to)), &[]).expect("legal").config.kafka;
    let reader = LogReader::new(&kafka).expect("a reader");
    let topic = format!("{GROUP}-replay-{id}-plan");
    let mut past = Vec::new();
    let stretch = Stretch { topic: &topic, partition: 0, from: 0, to: 1 };
    let read = reader.read::<spanmill::worker::kafka::KafkaError>(
        stretch,
        &Arc::new(AtomicBool::new(false)),
        &mut |_, plan| {
            past.extend(ReplayPlan::decode(plan).expect("a plan").partitions.into_iter().flat_map(|p| p.past));
            Ok(())
        },
    );
    read.expect("it is there");
    past
}

// === impl Live ===

impl Live {
    fn start(scene: &Scene, to: &Listener, patience: &str) -> Self {
        Self::with(scene, to, patience, &[])
    }

    fn with(scene: &Scene, to: &Listener, patience: &str, more: &[&str]) -> Self {
        let set = [
            format!("kafka.topics=[{TOPIC}]"),
            "kafka.journal_retention=1h".to_owned(),
            format!("time.idle={patience}"),
            format!("time.stall_grace={patience}"),
            // No worker is evicted, however busy the machine is: the partitions must stay where they are.
            "kafka.properties.session.timeout.ms=45000".to_owned(),
        ];
        let set: Vec<String> = set.into_iter().chain(more.iter().map(|set| (*set).to_owned())).collect();
        let mut config = config::load_from(Some(&scene.config(to)), &set).expect("legal").config;
        config.core.time.step = StepWidth::new(1_000).expect("positive");
        let telemetry = Telemetry::new();
        Self { telemetry: telemetry.clone(), worker: Worker::start(config, telemetry).expect("a worker") }
    }

    /// The tasks that run here, by partition.
    fn tasks(&self, kind: TaskKind) -> Vec<(i32, TaskStatus)> {
        let all = self.telemetry.tasks().snapshot().into_iter().filter(|(id, s)| id.kind == kind && s.restored);
        all.map(|(id, status)| (id.partition, status)).collect()
    }

    /// Whether the shards of this worker have closed a step.
    fn has_closed(&self, step: Millis) -> Result<(), String> {
        let closed: Vec<_> = self.tasks(TaskKind::Series).iter().map(|(_, status)| status.closed_step).collect();
        let all = closed.len() == SHARDS / 2 && closed.iter().all(|closed| *closed >= Some(step));
        if all { Ok(()) } else { Err(format!("{closed:?} of {step}")) }
    }
}
