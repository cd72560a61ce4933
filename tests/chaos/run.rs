//! One run: calm, chaos, and the reckoning.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use spanmill::export::receiver::Receiver;
use spanmill::loadgen::Expectation;
use spanmill::model::Tally;
use tempfile::TempDir;

use crate::args::Args;
use crate::check::{self, Difference};
use crate::cluster::Cluster;
use crate::driver::{Driver, Scene};
use crate::fleet::Fleet;
use crate::process::Process;
use crate::proxy::Link;
use crate::report::{Freshness, Report};
use crate::samples::Watched;
use crate::servers::wait_until;
use crate::{SESSION, schedule, wall_clock};

/// The source topic.
const TOPIC: &str = "spans";
/// The step of the workers, in milliseconds.
const STEP: i64 = 2_000;
/// How long anything may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// A sabotaged run that has not moved for so long, in milliseconds, will not move any more: it is longer than anything that
/// the workers wait for.
const QUIET: i64 = 40_000;
/// The load goes on for so long after the last trouble began, at the least.
const AFTERMATH: Duration = Duration::from_secs(4);

/// Runs workers through chaos and reports.
pub fn chaos(args: &Args) -> Report {
    let dir = TempDir::with_prefix("spanmill-chaos-").expect("a temporary directory");
    let report = Run::start(args, dir.path()).finish(args);
    if !report.violations.is_empty() {
        println!("logs are kept in {}", dir.keep().display());
    }
    report
}

/// Everything that runs.
struct Run {
    cluster: Cluster,
    receiver: Receiver,
    watched: Watched,
    door: Link,
    fleet: Fleet,
    load: Load,
}

/// The load.
struct Load {
    produce: Process,
    expect: PathBuf,
    began: Instant,
}

/// When the phases began, by the wall clock.
#[derive(Default)]
struct Phases {
    calm: i64,
    chaos: i64,
    healed: i64,
}

// === impl Run ===

impl Run {
    /// Starts a cluster, a receiver, the load, and the workers.
    fn start(args: &Args, dir: &Path) -> Self {
        let cluster = Cluster::start(dir);
        let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
        let watched = Watched::new(&receiver);
        if args.seed.unwrap_or_default() % 2 == 1 {
            // As Prometheus does. Resent steps then get 400 for being late.
            receiver.refuse_old();
        }
        let door = Link::start(receiver.addr());
        let expect = dir.join("expected.txt");
        let mut produce = produce(args, cluster.straight(), &expect, dir);
        let began = Instant::now();
        wait_until("the topic is there", STARTS_WITHIN, || {
            assert!(produce.exited().is_none(), "{}", produce.tail(20));
            match cluster.partitions(TOPIC) {
                0 => Err("not yet".to_owned()),
                _ => Ok(()),
            }
        });
        let config = dir.join("spanmill.yaml");
        std::fs::write(&config, settings(args, &cluster.linked(), &door)).expect("a file can be written");
        let mut fleet = Fleet::new(args.places() + 1, config, dir, args.sabotage.as_deref());
        (0..args.places()).for_each(|slot| fleet.start(slot));
        Self { cluster, receiver, watched, door, fleet, load: Load { produce, expect, began } }
    }

    fn finish(mut self, args: &Args) -> Report {
        let mut phases = Phases::default();
        let mut report = Report {
            seed: args.seed.unwrap_or_default(),
            seconds: args.seconds,
            workers: args.places(),
            sabotage: args.sabotage.clone(),
            ..Report::default()
        };
        self.wait_for_calm();
        phases.calm = wall_clock();
        let end = self.load.began + args.load();
        let calm = Instant::now() + end.saturating_duration_since(Instant::now()) / 5;
        let chaos = end.saturating_duration_since(calm).saturating_sub(AFTERMATH);
        let scene =
            Scene { cluster: &mut self.cluster, fleet: &mut self.fleet, receiver: &self.receiver, door: &self.door };
        let mut driver = Driver::new(scene);
        driver.run(calm, |_| false);
        phases.chaos = wall_clock();
        println!("chaos begins");
        driver.schedule(schedule::plan(report.seed, chaos, report.workers, SESSION));
        let receiver = &self.receiver;
        driver.run(calm + chaos, |_| args.sabotage.is_some() && !receiver.violations().is_empty());
        driver.heal();
        phases.healed = wall_clock();
        println!("chaos ends");
        let expected = settle(args, &mut driver, &mut self.load, &self.watched, &mut report);
        let struck = std::mem::take(&mut driver.struck);
        report.notes.append(&mut driver.brokers_ended);
        drop(driver);
        self.reckon(expected.as_ref(), &mut report);
        let samples = self.watched.samples();
        report.troubles(&struck, &samples, STEP);
        report.freshness_calm = Freshness::of(&samples.lags(STEP, phases.calm, phases.chaos));
        report.freshness_chaos = Freshness::of(&samples.lags(STEP, phases.chaos, phases.healed));
        report
    }

    /// Waits until the workers keep up.
    fn wait_for_calm(&mut self) {
        let (fleet, watched) = (&mut self.fleet, &self.watched);
        wait_until("the workers keep up", STARTS_WITHIN, || {
            fleet.tend();
            match wall_clock() - watched.samples().newest() {
                lag if lag < 3 * STEP => Ok(()),
                lag => Err(format!("{lag} ms behind\n{}", fleet.tails(10))),
            }
        });
    }

    /// Ends everything and compares what is there with what must be there.
    fn reckon(&mut self, expected: Option<&Expectation>, report: &mut Report) {
        for slot in 0..self.fleet.len() {
            self.fleet.stop(slot);
        }
        wait_until("all workers have stopped", Duration::from_secs(60), || {
            self.fleet.tend();
            if (0..self.fleet.len()).all(|slot| self.fleet.is_free(slot)) { Ok(()) } else { Err(self.fleet.tails(10)) }
        });
        if let Some(expected) = expected {
            let difference = Difference::of(expected, &self.receiver.snapshot());
            if !difference.is_none() {
                report.violations.push(difference.to_string());
            }
            report.spans_lost = difference.spans_lost;
            report.spans_double = difference.spans_double;
            report.series_low = difference.low;
            report.series_high = difference.high;
            report.series_unexpected = difference.unexpected;
            report.series = expected.series().len();
        }
        let samples = self.watched.samples();
        let totals = self.receiver.totals();
        report.samples_checked = totals.samples;
        report.samples_resent = totals.resent;
        report.exemplars = totals.exemplars;
        report.conflicts = totals.violations + samples.contradicted;
        report.violations.extend(self.receiver.violations().into_iter().take(10));
        report.violations.extend(samples.words.iter().cloned());
        let told = self.fleet.told();
        report.fenced = told.fenced;
        report.forced_closes = told.forced;
        report.log_errors = told.errors;
        report.violations.extend(told.forbidden.into_iter().take(10));
        report.violations.append(&mut self.fleet.stuck);
        report.worker_exits = self.fleet.exits.len();
        report.notes.append(&mut self.fleet.exits);
        report.longest_graceful_stop = self.fleet.stops.iter().max().map_or(0, |d| d.as_millis() as u64);
    }
}

/// Waits until everything that was produced is counted. The expectation; none when the load failed.
fn settle(args: &Args, driver: &mut Driver<'_>, load: &mut Load, watched: &Watched, report: &mut Report) -> Option<Expectation> {
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs(args.settle);
    driver.run(deadline, |_| load.produce.exited().is_some());
    if !load.produce.exited().is_some_and(|s| s.success()) {
        report.violations.push(format!("the load was not produced\n{}", load.produce.tail(20)));
        return None;
    }
    let text = std::fs::read_to_string(&load.expect).expect("produce writes the expectation");
    let expected = Expectation::parse(&text).expect("an expectation");
    report.spans = expected.ledger().get(Tally::SpansRead);
    driver.run(deadline, |driver| driver.is_healed(args.places()));
    if !driver.is_healed(args.places()) {
        report.violations.push("not all workers and brokers came back".to_owned());
    }
    let mut now_and_then = NowAndThen::default();
    driver.run(deadline, |driver| {
        let exact = now_and_then.is_due() && Difference::of(&expected, &driver.scene().receiver.snapshot()).is_none();
        // What has been sabotaged may never be exact: nothing new for long enough is the end, too.
        exact || args.sabotage.is_some() && wall_clock() - watched.samples().moved > QUIET
    });
    report.settled_after = begin.elapsed().as_millis() as u64;
    if args.sabotage.is_none() {
        let mut wrong = Vec::new();
        driver.run(deadline.max(Instant::now() + Duration::from_secs(10)), |driver| {
            if now_and_then.is_due() {
                wrong = check::ledger(&expected, driver.scene().fleet);
                return wrong.is_empty();
            }
            false
        });
        report.violations.extend(wrong.into_iter().map(|l| format!("ledger: {l}")));
    }
    Some(expected)
}

// === impl NowAndThen ===

/// For conditions that cost something.
#[derive(Default)]
struct NowAndThen(Option<Instant>);

impl NowAndThen {
    /// True once a second.
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() > Duration::from_secs(1));
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// Starts a steady load into a new topic, straight to the brokers.
fn produce(args: &Args, brokers: &str, expect: &Path, dir: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    command.args(["produce", "--brokers", brokers, "--topic", TOPIC, "--spans-per-record", "20", "--print-every", "0s"]);
    for (flag, value) in [
        ("--create-partitions", args.partitions.to_string()),
        ("--rate", args.rate.to_string()),
        ("--duration", format!("{}s", args.seconds)),
        ("--seed", args.seed.unwrap_or_default().to_string()),
        ("--expect", expect.display().to_string()),
    ] {
        command.args([flag, &value]);
    }
    Process::start("produce", &mut command, dir)
}

/// The workers' configuration. Everything is short, so that much happens; only half edges wait for longer than any trouble
/// of the load itself, because the expectation is that all of them meet.
fn settings(args: &Args, brokers: &str, door: &Link) -> String {
    format!(
        r#"kafka:
  brokers: "{brokers}"
  topics: [{TOPIC}]
  group: mill
  shards: {shards}
  replication: 3
  properties:
    session.timeout.ms: "{session}"
    heartbeat.interval.ms: "700"
    socket.timeout.ms: "6000"
    message.timeout.ms: "5000"
    reconnect.backoff.max.ms: "1000"
    topic.metadata.refresh.interval.ms: "5000"
time: {{step: {STEP}ms, idle: 4s, stall_grace: 6s}}
service_graphs: {{wait: 20s}}
series: {{snapshot_every: 10s}}
remote_write: {{url: "http://{door}/api/v1/write", timeout: 2s, min_backoff: 50ms, max_backoff: 1s, max_samples: 400}}
worker: {{threads: 2, max_commit_bytes: 16KiB, shutdown_timeout: 20s}}
log: {{level: "info"}}
admin: {{listen: "127.0.0.1:0"}}
"#,
        shards = args.shards,
        session = SESSION.as_millis(),
        door = door.addr(),
    )
}
