//! One run: calm, chaos, and the reckoning.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spanmill::core::model::Counter;
use spanmill::tools::loadgen::Expectation;
use spanmill::tools::receiver::Receiver;
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
use crate::schedule::AFTERMATH;
use crate::servers::wait_until;
use crate::settings::{Group, Produced, STEP, Tenant, produce, settings};
use crate::{schedule, wall_clock};

/// The consumer group of the workers.
const GROUP: &str = "mill";
/// How long anything may take to start.
pub const STARTS_WITHIN: Duration = Duration::from_secs(240);
/// There is calm for so long before the chaos, at the least.
const CALM: Duration = Duration::from_secs(5);
/// How long it may take until all leaders tell where the load ends: some go back to brokers that are back.
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

/// A step is over when it is sent. Producers and workers have the clock of one machine, so only who has a wrong one can be
/// further ahead.
const MAX_AHEAD: i64 = 1_000;

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

/// The load: a producer per tenant.
pub struct Load {
    producers: Vec<Producer>,
    pub began: Instant,
}

struct Producer {
    process: Process,
    /// Before the names of its series.
    prefix: String,
    expect: PathBuf,
}

/// When the phases began, by the wall clock.
#[derive(Default)]
struct Phases {
    calm: i64,
    chaos: i64,
    healed: i64,
}

// === impl Load ===

impl Load {
    /// Starts it; its topic is there when this returns.
    pub fn start(args: &Args, what: &Produced<'_>, cluster: &Cluster, dir: &Path) -> Self {
        let began = Instant::now();
        let start = |tenant: Option<&Tenant>| {
            let name = tenant.map_or("", |tenant| tenant.name);
            let expect = dir.join(format!("expected-{name}.txt"));
            let process = produce(args, what, tenant, cluster.straight(), &expect, dir);
            Producer { process, prefix: if name.is_empty() { String::new() } else { format!("{name}/") }, expect }
        };
        let mut producers: Vec<Producer> = what.tenants.iter().map(|tenant| start(Some(tenant))).collect();
        if producers.is_empty() {
            producers.push(start(None));
        }
        let mut load = Self { producers, began };
        wait_until("the topic is there", STARTS_WITHIN, || {
            let run = load.producers.iter_mut().all(|producer| producer.process.exited().is_none());
            assert!(run, "{}", load.tails());
            match cluster.partitions(what.topic) {
                0 => Err("not yet".to_owned()),
                _ => Ok(()),
            }
        });
        load
    }

    /// Sends a signal to all producers.
    pub fn signal(&self, name: &str) {
        self.producers.iter().for_each(|producer| producer.process.signal(name));
    }

    /// Whether all producers have ended.
    pub fn has_ended(&mut self) -> bool {
        self.producers.iter_mut().all(|producer| producer.process.exited().is_some())
    }

    /// What it must count to, once it has ended.
    pub fn expectation(&mut self) -> Result<Expectation, String> {
        let mut all = Expectation::default();
        for producer in &mut self.producers {
            all.merge(&producer.expectation()?);
        }
        Ok(all)
    }

    fn tails(&self) -> String {
        let tails: Vec<String> = self.producers.iter().map(|producer| producer.process.tail(20)).collect();
        tails.join("\n")
    }
}

// === impl Producer ===

impl Producer {
    fn expectation(&mut self) -> Result<Expectation, String> {
        match self.process.exited() {
            Some(status) if status.success() => {}
            Some(status) => return Err(format!("the load ended with {status}\n{}", self.process.tail(20))),
            None => return Err(format!("the load has not ended\n{}", self.process.tail(20))),
        }
        let text = std::fs::read_to_string(&self.expect).map_err(|e| e.to_string())?;
        let line =
            |line: &str| if line.starts_with('#') { format!("{line}\n") } else { format!("{}{line}\n", self.prefix) };
        let text: String = text.lines().map(line).collect();
        Expectation::parse(&text).map_err(|e| e.to_string())
    }
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
        let load = Load::start(args, &args.produced(), &cluster, dir);
        let config = dir.join("spanmill.yaml");
        let group = Group { tenants: true, ..Group::named(GROUP) };
        std::fs::write(&config, settings(args, &group, &cluster.linked(), &door)).expect("a file can be written");
        let program = args.older.as_ref().unwrap_or(&args.program);
        let mut fleet = Fleet::new(args.places() + 1, program, config, dir);
        (0..args.places()).for_each(|slot| fleet.start(slot));
        Self { cluster, receiver, watched, door, fleet, load }
    }

    fn finish(mut self, args: &Args) -> Report {
        let mut phases = Phases::default();
        let mut report = Report {
            seed: args.seed.unwrap_or_default(),
            seconds: args.seconds,
            workers: args.places(),
            ..Report::default()
        };
        self.wait_for_calm(args);
        if args.older.is_some() {
            self.upgrade(args);
        }
        phases.calm = wall_clock();
        let begin = self.chaos_begins(args, &mut report);
        let scene = Scene {
            group: GROUP,
            cluster: &mut self.cluster,
            fleet: &mut self.fleet,
            receiver: &self.receiver,
            watched: &self.watched,
            door: &self.door,
            load: &mut self.load,
        };
        let mut driver = Driver::new(scene);
        driver.run(begin, |_| false);
        phases.chaos = wall_clock();
        println!("chaos begins");
        driver.schedule(schedule::plan(report.seed, args.chaos(), args.cast()), args.chaos());
        driver.run(begin + args.chaos(), |_| false);
        driver.heal();
        phases.healed = wall_clock();
        println!("chaos ends");
        let expected = settle(args, &mut driver, &mut report);
        let (struck, refusals) = (std::mem::take(&mut driver.struck), std::mem::take(&mut driver.refusals));
        report.leaders(&driver.leaders);
        report.notes.append(&mut driver.brokers_ended);
        drop(driver);
        report.records_lost = self.cluster.records_lost;
        report.internal_topics = self.cluster.sizes(&format!("{GROUP}-"));
        self.reckon(expected.as_ref(), &mut report);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        report.load = load.split(' ').nth(1).and_then(|five| five.parse().ok()).unwrap_or_default();
        let samples = self.watched.samples();
        report.troubles(&struck, &samples, STEP);
        report.promises(&schedule::promised(args.chaos(), args.cast()), &struck);
        report.freshness_calm = Freshness::of(&samples.lags(STEP, phases.calm, phases.chaos));
        report.freshness_chaos = Freshness::of(&samples.lags(STEP, phases.chaos, phases.healed));
        report.refusals(&refusals, &samples, STEP);
        if samples.ahead > MAX_AHEAD {
            report.violations.push(format!("a sample was {} ms ahead of its time", samples.ahead));
        }
        report
    }

    /// When. Its length is fixed, so that the seed decides what goes wrong; the calm is what the start has left.
    fn chaos_begins(&self, args: &Args, report: &mut Report) -> Instant {
        let (present, end) = (Instant::now(), self.load.began + args.load());
        let calm = end.saturating_duration_since(present).saturating_sub(args.chaos() + AFTERMATH);
        if calm < CALM {
            let late = (CALM - calm).as_secs_f64();
            report.notes.push(format!("the start took long: the last {late:.1} s of the chaos have no load"));
        }
        let calm = calm.max(CALM);
        println!("calm for {:.1} s", calm.as_secs_f64());
        present + calm
    }

    /// Replaces the workers one after the other, as soon as the last one is ready: what an older worker has and cannot read any
    /// more waits until it is replaced itself.
    fn upgrade(&mut self, args: &Args) {
        self.fleet.upgrade(&args.program);
        for slot in 0..args.places() {
            self.fleet.stop(slot);
            let fleet = &mut self.fleet;
            wait_until("an older worker has stopped", STARTS_WITHIN, || {
                fleet.tend();
                if fleet.is_free(slot) { Ok(()) } else { Err(fleet.tails(10)) }
            });
            fleet.start(slot);
            wait_until("the newer worker is ready", STARTS_WITHIN, || {
                fleet.tend();
                match fleet.readiness(slot) {
                    Some(said) if said.starts_with("HTTP/1.1 200") => Ok(()),
                    said => Err(format!("{said:?}\n{}", fleet.tails(10))),
                }
            });
        }
        self.wait_for_calm(args);
        println!("all workers are upgraded");
    }

    /// Waits until the workers keep up.
    fn wait_for_calm(&mut self, args: &Args) {
        let tasks = u64::from(args.partitions + args.shards);
        let (fleet, watched) = (&mut self.fleet, &self.watched);
        wait_until("all tasks run and keep up", STARTS_WITHIN, || {
            fleet.tend();
            let running = ["span", "series"].map(|kind| format!("spanmill_tasks{{kind=\"{kind}\",state=\"running\"}}"));
            let running: u64 = running.iter().map(|series| fleet.sum(series)).sum();
            match wall_clock() - watched.samples().slowest() {
                lag if lag < 3 * STEP && running == tasks => Ok(()),
                lag => Err(format!("{running} tasks run, {lag} ms behind\n{}", fleet.tails(10))),
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
        report.notes.extend(told.first_errors);
        report.violations.extend(told.forbidden.into_iter().take(10));
        report.violations.append(&mut self.fleet.stuck);
        report.worker_exits = self.fleet.exits.len();
        report.notes.append(&mut self.fleet.exits);
        report.longest_graceful_stop = self.fleet.stops.iter().max().map_or(0, |d| d.as_millis() as u64);
    }
}

/// Waits until everything that was produced is counted. The expectation; none when the load failed.
fn settle(args: &Args, driver: &mut Driver<'_>, report: &mut Report) -> Option<Expectation> {
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs(args.settle);
    let mut ended = false;
    while !ended && Instant::now() < deadline {
        driver.run(Instant::now() + Duration::from_millis(500), |_| false);
        ended = driver.load().has_ended();
    }
    let expected = match driver.load().expectation() {
        Ok(expected) => expected,
        Err(why) => {
            report.violations.push(why);
            return None;
        }
    };
    report.spans = expected.ledger().get(Counter::SpansRead);
    let sent = expected.ledger().get(Counter::RecordsRead);
    let mut stored = 0;
    driver.run(Instant::now() + COUNTED_WITHIN, |driver| {
        stored = driver.scene().cluster.ends(args.produced().topic).iter().sum::<i64>().unsigned_abs();
        stored == sent
    });
    if stored != sent {
        // Whatever is counted then says nothing about workers.
        report.violations.push(format!("the load is not as announced: {stored} records are stored, {sent} were sent"));
    }
    driver.run(deadline, |driver| driver.is_healed(args.places()));
    if !driver.is_healed(args.places()) {
        let lasting = driver.lasting().join(", ");
        report.violations.push(format!("not all workers and brokers came back; what still lasts: {lasting}"));
    }
    let mut now_and_then = NowAndThen::default();
    driver.run(deadline, |driver| {
        now_and_then.is_due() && Difference::of(&expected, &driver.scene().receiver.snapshot()).is_none()
    });
    report.settled_after = begin.elapsed().as_millis() as u64;
    let mut wrong = Vec::new();
    driver.run(deadline.max(Instant::now() + Duration::from_secs(10)), |driver| {
        if now_and_then.is_due() {
            wrong = check::ledger(&expected, driver.scene().fleet);
            return wrong.is_empty();
        }
        false
    });
    report.violations.extend(wrong.into_iter().map(|l| format!("ledger: {l}")));
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
