//! Determinism: what is sent is a function of the topic, byte for byte, whichever worker computes it.
//!
//! One topic goes through several groups of workers, each with internal topics and a receiver of its own. Their streams
//! of (series, timestamp, value, exemplars) are compared from the first step to the last one that every partition has
//! passed. Silence is believed after an hour only (`time.idle`, `time.stall_grace`), so no step is closed by force and
//! no partition is advanced by the wall clock: those two decisions are journaled ones and would be the only legal
//! differences. That it was so is checked in the workers' logs and telemetry. The first group works under chaos while
//! the load is still being produced; the others read the finished topic.

use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde::Serialize;
use spanmill::tools::receiver::Receiver;
use tempfile::TempDir;
use xxhash_rust::xxh3::Xxh3;

use crate::args::Args;
use crate::cluster::Cluster;
use crate::driver::{Driver, Scene};
use crate::fleet::Fleet;
use crate::proxy::Link;
use crate::report;
use crate::run::{Load, STARTS_WITHIN};
use crate::samples::{Samples, Stream, Watched};
use crate::schedule::{self, Cast, Fault};
use crate::servers::wait_until;
use crate::settings::{Group, Produced, STEP, TOPIC, settings};

/// How many differences are reported.
const SHOWN: usize = 8;
/// How long a broker may take to answer.
const QUESTION: Duration = Duration::from_secs(5);
/// Silence is not believed in these runs.
const PATIENCE: &str = "1h";

/// What was compared.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub seed: u64,
    /// The last step that is compared, by its end.
    pub up_to: i64,
    pub groups: Vec<Outcome>,
    pub violations: Vec<String>,
}

/// What one group of workers has made of the topic.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    pub name: String,
    pub workers: usize,
    pub threads: u32,
    pub troubles: usize,
    pub series: usize,
    pub samples: usize,
    pub exemplars: usize,
    /// Of everything, in order.
    pub hash: String,
    pub forced_closes: u64,
    pub ticks: u64,
    pub milliseconds: u64,
}

/// One group of workers.
struct Set {
    name: &'static str,
    workers: usize,
    threads: u32,
}

const SETS: [Set; 5] = [
    Set { name: "four-in-chaos", workers: 4, threads: 2 },
    Set { name: "one", workers: 1, threads: 2 },
    Set { name: "four", workers: 4, threads: 2 },
    Set { name: "one-thread", workers: 1, threads: 1 },
    Set { name: "four-threads", workers: 1, threads: 4 },
];

/// Runs all groups over one topic.
pub fn compare(args: &Args) -> Comparison {
    let dir = TempDir::with_prefix("spanmill-chaos-").expect("a temporary directory");
    let mut out =
        Comparison { seed: args.seed.unwrap_or_default(), up_to: 0, groups: Vec::new(), violations: Vec::new() };
    let mut cluster = Cluster::start(dir.path());
    // A tenant that waits for its receiver is left out of steps, which is a decision that is journaled, too.
    let produced = Produced { tenants: &[], ..args.produced() };
    let mut load = Load::start(args, &produced, &cluster, dir.path());
    let mut first: Option<Samples> = None;
    for set in &SETS {
        let (outcome, samples) = run(args, set, &mut cluster, &mut load, dir.path(), &mut out);
        println!("{outcome}");
        out.groups.push(outcome);
        match &first {
            None => {
                the_comparison_notices_one_bit(&samples, out.up_to);
                first = Some(samples);
            }
            Some(first) => differences(first, &samples, out.up_to, set.name, &mut out.violations),
        }
    }
    if !out.violations.is_empty() {
        println!("logs are kept in {}", dir.keep().display());
    }
    out
}

/// Lets one group work until the last step that all partitions have passed.
fn run(
    args: &Args,
    set: &Set,
    cluster: &mut Cluster,
    load: &mut Load,
    dir: &Path,
    out: &mut Comparison,
) -> (Outcome, Samples) {
    let begin = Instant::now();
    let own = dir.join(set.name);
    std::fs::create_dir(&own).expect("a directory of ours");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let (watched, door) = (Watched::new(&receiver), Link::start(receiver.addr()));
    let config = own.join("spanmill.yaml");
    let group = Group { threads: set.threads, patience: PATIENCE, ..Group::named(set.name) };
    std::fs::write(&config, settings(args, &group, &cluster.linked(), &door)).expect("a file can be written");
    let mut fleet = Fleet::new(set.workers + 1, &args.program, config, &own);
    (0..set.workers).for_each(|slot| fleet.start(slot));
    let scene = Scene {
        group: set.name,
        cluster,
        fleet: &mut fleet,
        receiver: &receiver,
        watched: &watched,
        door: &door,
        load,
    };
    let mut driver = Driver::new(scene);
    let troubles = if out.groups.is_empty() { chaos(args, set, &mut driver) } else { 0 };
    out.violations.append(&mut driver.brokers_ended);
    drop(driver);
    if out.up_to == 0 {
        load.expectation().expect("the load has been produced");
        out.up_to = last_step(cluster, args.partitions);
    }
    wait_until("every shard has closed the last step", Duration::from_secs(args.settle), || {
        fleet.tend();
        match closed(&fleet, out.up_to) {
            n if n == u64::from(args.shards) => Ok(()),
            n => Err(format!("{n} shards\n{}", fleet.tails(10))),
        }
    });
    let ticks = fleet.sum("spanmill_idle_ticks_total");
    stop(&mut fleet);
    let told = fleet.told();
    let samples = std::mem::take(&mut *watched.samples());
    let mut violations = receiver.violations();
    violations.extend(samples.words.iter().cloned());
    violations.append(&mut fleet.stuck);
    violations.extend(told.forbidden);
    if told.forced + ticks > 0 {
        violations.push(format!("{} forced closes and {ticks} ticks, where none may be", told.forced));
    }
    out.violations.extend(violations.into_iter().map(|v| format!("{}: {v}", set.name)));
    let outcome = Outcome {
        name: set.name.to_owned(),
        workers: set.workers,
        threads: set.threads,
        troubles,
        series: samples.streams.len(),
        samples: samples.streams.values().map(Stream::len).sum(),
        exemplars: samples.streams.values().flat_map(|s| s.values()).map(|p| p.exemplars.len()).sum(),
        hash: hash(&samples, out.up_to),
        forced_closes: told.forced,
        ticks,
        milliseconds: begin.elapsed().as_millis() as u64,
    };
    (outcome, samples)
}

/// Stops all workers. A graceful stop delivers what has been closed.
fn stop(fleet: &mut Fleet) {
    (0..fleet.len()).for_each(|slot| fleet.stop(slot));
    wait_until("the workers have stopped", STARTS_WITHIN, || {
        fleet.tend();
        if (0..fleet.len()).all(|slot| fleet.is_free(slot)) { Ok(()) } else { Err(fleet.tails(10)) }
    });
}

/// Chaos while the load lasts. How many troubles there were.
fn chaos(args: &Args, set: &Set, driver: &mut Driver<'_>) -> usize {
    let cast = Cast { workers: set.workers, ..args.cast() };
    let mut events = schedule::plan(args.seed.unwrap_or_default(), args.load(), cast);
    // A series that is refused is not in the stream, and there are no tenants.
    events.retain(|event| !matches!(event.fault, Fault::Poison { .. } | Fault::RefuseTenant { .. }));
    driver.schedule(events, args.load());
    driver.run(Instant::now() + args.load(), |_| false);
    driver.heal();
    let deadline = Instant::now() + Duration::from_secs(args.settle);
    driver.run(deadline, |driver| driver.is_healed(set.workers));
    while !driver.load().has_ended() && Instant::now() < deadline {
        driver.run(Instant::now() + Duration::from_millis(500), |_| false);
    }
    driver.struck.iter().filter(|s| s.skipped.is_none()).count()
}

/// The end of the last step that every partition has passed. Timestamps ascend in each of them.
fn last_step(cluster: &Cluster, partitions: u32) -> i64 {
    let probe = cluster.probe();
    let passed = (0..i32::try_from(partitions).expect("few")).map(|partition| {
        // Leaders go back to brokers that are back.
        let (_, high) = wait_until("a leader tells the bounds", STARTS_WITHIN, || {
            probe.fetch_watermarks(TOPIC, partition, QUESTION).map_err(|e| e.to_string())
        });
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, partition, Offset::Offset(high - 1)).expect("an offset");
        probe.assign(&list).expect("an assignment");
        wait_until("the last record comes", STARTS_WITHIN, || match probe.poll(Duration::from_secs(1)) {
            Some(Ok(m)) if m.partition() == partition => m.timestamp().to_millis().ok_or_else(|| "no time".to_owned()),
            other => Err(format!("{:?}", other.map(|r| r.map(|m| m.offset())))),
        })
    });
    let passed = passed.min().expect("at least one partition");
    probe.unassign().expect("nothing is assigned");
    passed - passed.rem_euclid(STEP)
}

/// How many shards have closed that step.
fn closed(fleet: &Fleet, step: i64) -> u64 {
    let metrics = fleet.metrics();
    let lines = metrics
        .iter()
        .flat_map(|t| t.lines())
        .filter(|l| l.starts_with("spanmill_last_closed_step_timestamp_seconds{"));
    let steps = lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok());
    steps.filter(|s| (s * 1e3).round() as i64 >= step).count() as u64
}

/// A comparison that notices nothing would find everything the same.
fn the_comparison_notices_one_bit(samples: &Samples, up_to: i64) {
    let mut other = samples.clone();
    let stream = other.streams.values_mut().last().expect("there are series");
    let (_, point) = stream.range_mut(..=up_to).next_back().expect("it has samples");
    point.bits ^= 1;
    let mut found = Vec::new();
    differences(samples, &other, up_to, "one bit", &mut found);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_ne!(hash(samples, up_to), hash(&other, up_to));
}

fn hash(samples: &Samples, up_to: i64) -> String {
    let mut hash = Xxh3::new();
    for (name, stream) in &samples.streams {
        hash.update(name.as_bytes());
        for (at, point) in stream.range(..=up_to) {
            hash.update(&at.to_le_bytes());
            hash.update(&point.bits.to_le_bytes());
            point.exemplars.iter().for_each(|e| hash.update(e));
        }
    }
    format!("{:032x}", hash.digest128())
}

/// What is in one of two streams only, or differs.
fn differences(first: &Samples, other: &Samples, up_to: i64, name: &str, out: &mut Vec<String>) {
    let mut found = Vec::new();
    let empty = Stream::new();
    let names = first.streams.keys().chain(other.streams.keys().filter(|n| !first.streams.contains_key(*n)));
    for series in names {
        let [a, b] = [first, other].map(|s| s.streams.get(series).unwrap_or(&empty));
        let times =
            a.range(..=up_to).map(|(t, _)| t).chain(b.range(..=up_to).map(|(t, _)| t).filter(|t| !a.contains_key(t)));
        for at in times {
            let [x, y] = [a, b].map(|s| s.get(at).map(|p| (f64::from_bits(p.bits), &p.exemplars)));
            if x.map(|(v, e)| (v.to_bits(), e)) != y.map(|(v, e)| (v.to_bits(), e)) {
                found.push(format!("{name}: {series} at {at}: {y:?}, in the first group {x:?}"));
            }
        }
    }
    if !found.is_empty() {
        out.push(format!("{name}: {} samples differ from the first group", found.len()));
        out.extend(found.into_iter().take(SHOWN));
    }
}

// === impl Display ===

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, workers, threads, troubles, series, samples, exemplars, hash, milliseconds, .. } = self;
        write!(
            f,
            "{name:14} {workers} workers x {threads} threads, {troubles} troubles: {series} series, {samples} samples, \
             {exemplars} exemplars, {hash}, {:.1} s",
            *milliseconds as f64 / 1e3
        )
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.groups.iter().try_for_each(|g| writeln!(f, "{g}"))?;
        report::verdict(f, &self.violations, "the same, byte for byte", "NOT THE SAME")
    }
}
