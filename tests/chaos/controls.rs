//! Negative controls: a harness that cannot fail proves nothing.
//!
//! For every rule that can be switched off (`journal::sabotage`) there is a scene in which just that happens what the rule
//! protects from. Two workers go through it, each in a group of its own, over the same topic, at the same moment, with the
//! same troubles: one keeps the rule and must come out exact, the other does not and must be noticed. Leaders are placed,
//! and troubles begin and end when something has been seen, so chance decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use spanmill::tools::loadgen::Expectation;
use spanmill::tools::receiver::Receiver;
use tempfile::TempDir;

use crate::args::Args;
use crate::check::Difference;
use crate::cluster::Cluster;
use crate::fleet::Fleet;
use crate::proxy::{Link, Weather};
use crate::run::{Load, STARTS_WITHIN};
use crate::samples::Watched;
use crate::schedule::SESSION;
use crate::servers::wait_until;
use crate::settings::{Group, Produced, STEP, settings};
use crate::wall_clock;

/// The rules, in the order of `all`.
const RULES: [&str; 4] = ["chain", "claim", "contiguity", "emit"];
/// Spans per second; one worker is as good as many here.
const RATE: u64 = 300;
/// The load is ended when the trouble is over.
const LONGEST: u64 = 900;
/// No worker leaves the group while brokers are out of its reach.
const PATIENT: Duration = Duration::from_secs(60);
/// Records that a journal gets from an owner that commits with every record, until it is far ahead of one that commits with
/// every step.
const AHEAD: i64 = 20;
/// So many steps after the end of the load everything is counted that ever will be: pending edges have waited for 12 s, and
/// silence has been believed after 3 s.
const SILENT_STEPS: i64 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many differences are reported.
const SHOWN: usize = 3;
/// The broker that goes out of reach, with the journals that a scene is about.
const AWAY: usize = 0;
/// Another one that goes out of reach, with some of the source partitions.
const APART: usize = 1;
/// A span task reads at most so many steps further while a commit is under way (`COMMITS_IN_FLIGHT`, and the open one).
const READ_AHEAD_STEPS: i64 = 6;

/// What all controls have shown.
#[derive(Debug, Serialize)]
pub struct Controls {
    pub seed: u64,
    pub controls: Vec<Control>,
}

/// What one of them has shown.
#[derive(Debug, Serialize)]
pub struct Control {
    pub rule: &'static str,
    pub milliseconds: u64,
    /// The one that keeps the rule, and the one that does not.
    pub kept: Found,
    pub broken: Found,
}

/// What a receiver has got.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    pub samples: u64,
    pub conflicts: u64,
    pub spans_lost: u64,
    pub spans_double: u64,
    pub series_wrong: u64,
    pub words: Vec<String>,
}

/// A worker, its receiver, and the rule that it does not keep.
struct Side {
    group: String,
    receiver: Receiver,
    watched: Watched,
    fleet: Fleet,
}

struct Scene<'a> {
    args: &'a Args,
    rule: &'static str,
    topic: String,
    cluster: &'a Cluster,
    load: Load,
    /// The one that keeps the rule, and the one that does not.
    sides: [Side; 2],
}

/// Who leads the partitions of the source, of its journal, of the deltas, and of their journal. One journal alone is away
/// when a broker is, and what a task reads is not; except for the source partitions that a step is closed without, which have
/// a broker of their own, so that they can be back before the journal is.
fn leaders(rule: &str) -> [&'static [usize]; 4] {
    const ALL: &[usize] = &[0, 1, 2];
    const GONE: &[usize] = &[AWAY];
    const THERE: &[usize] = &[1, 2];
    const ALWAYS: &[usize] = &[2];
    match rule {
        "contiguity" => [THERE, GONE, THERE, THERE],
        "emit" => [&[APART, 2, 2], ALWAYS, ALWAYS, GONE],
        _ => [ALL; 4],
    }
}

/// A number of a log line.
fn field(line: &str, name: &str) -> Option<i64> {
    line.split_once(name)?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The last step that each shard has closed by force, by a log.
fn forced(log: &str) -> BTreeMap<i64, i64> {
    let lines = log.lines().filter(|line| line.contains("closing a step without"));
    lines.filter_map(|line| Some((field(line, " shard=")?, field(line, " step=")?))).collect()
}

/// The last step that was closed on stall timeout since the journals went away, once all marks since then are known to
/// be lost: a successor looks at the journal before it claims it, and when it has asked for its bounds three times
/// without an answer, the marks before it have waited for longer than their timeout.
fn lost(log: &str) -> Option<i64> {
    let in_vain = log.lines().filter(|line| line.contains("read the bounds of") && line.contains(" attempt=3 "));
    let given_up: BTreeSet<i64> = in_vain.filter_map(|line| field(line, "-series-journal[")).collect();
    let forced = forced(log);
    forced.values().max().copied().filter(|_| forced.keys().all(|shard| given_up.contains(shard)))
}

/// Runs the control of a rule, or all of them.
pub fn run(args: &Args, rules: &str) -> Controls {
    let dir = TempDir::with_prefix("spanmill-chaos-").expect("a temporary directory");
    let cluster = Cluster::start(dir.path());
    let mut out = Controls { seed: args.seed.unwrap_or_default(), controls: Vec::new() };
    for rule in RULES.into_iter().filter(|rule| rules == "all" || rules == *rule) {
        let control = Scene::start(args, rule, &cluster, dir.path()).play();
        println!("{control}");
        out.controls.push(control);
    }
    if !out.are_good() {
        println!("logs are kept in {}", dir.keep().display());
    }
    out
}

// === impl Side ===

impl Side {
    fn start(scene: (&Args, &str, &str), rule: Option<&'static str>, cluster: &Cluster, dir: &Path) -> Self {
        let (args, topic, name) = scene;
        let group = format!("{topic}-{name}");
        let dir = dir.join(&group);
        std::fs::create_dir(&dir).expect("a directory of ours");
        let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
        let (watched, door) = (Watched::new(&receiver), Link::start(receiver.addr()));
        let session = if matches!(topic, "spans-contiguity" | "spans-emit") { PATIENT } else { SESSION };
        let usual = Group { topic, session, commit: "1MiB", wait: "12s", timeout: "10s", ..Group::named(&group) };
        let write = |file: &str, group: &Group<'_>| {
            let path = dir.join(file);
            std::fs::write(&path, settings(args, group, &cluster.linked(), &door)).expect("a file can be written");
            path
        };
        write("rogue.yaml", &Group { commit: "1KiB", ..usual.clone() });
        let mut fleet = Fleet::new(2, &args.program, write("spanmill.yaml", &usual), &dir).sabotaged(rule);
        fleet.start(0);
        Self { group, receiver, watched, fleet }
    }

    /// Looks after the worker. One that ends by itself will do so again.
    fn tend(&mut self) {
        self.fleet.tend();
        assert!(self.fleet.exits.is_empty(), "{}: {:?}", self.group, self.fleet.exits);
    }

    /// Waits until the worker runs all `tasks` and keeps up.
    fn calm(&mut self, tasks: u64) {
        wait_until("all tasks run and keep up", STARTS_WITHIN, || {
            self.tend();
            let lag = wall_clock() - self.watched.samples().slowest();
            // A worker that is scraped too often does little else.
            if lag > 4 * STEP {
                return Err(format!("{lag} ms behind\n{}", self.fleet.tails(10)));
            }
            match self.running() {
                n if n == tasks => Ok(()),
                n => Err(format!("{n} tasks run\n{}", self.fleet.tails(10))),
            }
        });
    }

    fn running(&self) -> u64 {
        let running = ["span", "series"].map(|kind| format!("spanmill_tasks{{kind=\"{kind}\",state=\"running\"}}"));
        running.iter().map(|series| self.fleet.sum(series)).sum()
    }

    /// Waits until something is the case.
    fn sees(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        wait_until(&format!("{}: {what}", self.group), STARTS_WITHIN, || {
            self.tend();
            if is_so(self) { Ok(()) } else { Err(self.fleet.tails(20)) }
        });
    }

    /// What the log says after its first bytes.
    fn since(&self, bytes: usize) -> String {
        self.fleet.logs().get(bytes..).unwrap_or_default().to_owned()
    }

    /// Waits until a line of a log holds all these words.
    fn says(&mut self, words: &[&str]) {
        self.sees(&format!("says {words:?}"), |side| {
            side.fleet.logs().lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    /// How far the slowest of the span tasks is.
    fn slowest_source(&self) -> i64 {
        let metrics = self.fleet.metrics();
        let lines = metrics.iter().flat_map(|text| text.lines());
        let own = lines.filter(|line| line.starts_with("spanmill_stream_time_timestamp_seconds{"));
        let seconds = own.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        seconds.map(|s| (s * 1e3) as i64).min().unwrap_or_default()
    }

    fn is_exact(&self, expected: &Expectation) -> bool {
        Difference::of(expected, &self.receiver.snapshot()).is_none()
    }

    fn found(&self, expected: &Expectation) -> Found {
        let difference = Difference::of(expected, &self.receiver.snapshot());
        let (totals, samples) = (self.receiver.totals(), self.watched.samples());
        let mut words = self.receiver.violations();
        words.extend(samples.words.iter().cloned());
        words.extend(difference.words);
        words.truncate(SHOWN);
        Found {
            samples: totals.samples,
            conflicts: totals.violations + samples.contradicted,
            spans_lost: difference.spans_lost,
            spans_double: difference.spans_double,
            series_wrong: difference.low + difference.high + difference.unexpected,
            words,
        }
    }
}

// === impl Scene ===

impl<'a> Scene<'a> {
    fn start(args: &'a Args, rule: &'static str, cluster: &'a Cluster, dir: &Path) -> Self {
        println!("{rule} ...");
        let topic = format!("spans-{rule}");
        let (partitions, shards) = (args.partitions as usize, args.shards as usize);
        let dir = dir.join(rule);
        std::fs::create_dir(&dir).expect("a directory of ours");
        let [source, journal, deltas, series_journal] = leaders(rule);
        cluster.create(&topic, partitions, source);
        for side in ["kept", "broken"] {
            let internal = |suffix: &str| format!("{topic}-{side}-{suffix}");
            cluster.create(&internal(&format!("{topic}-journal")), partitions, journal);
            cluster.create(&internal("deltas"), shards, deltas);
            cluster.create(&internal("series-journal"), shards, series_journal);
        }
        let produced = Produced { topic: &topic, seconds: LONGEST, rate: RATE, tenants: &[] };
        let load = Load::start(args, &produced, cluster, &dir);
        let side = |name, rule| Side::start((args, &topic, name), rule, cluster, &dir);
        let sides = [side("kept", None), side("broken", Some(rule))];
        Self { args, rule, topic, cluster, load, sides }
    }

    fn play(mut self) -> Control {
        let begin = Instant::now();
        self.calm();
        match self.rule {
            "chain" => self.a_successor_sends_delta_records_again(),
            "claim" => self.two_owners_who_cut_elsewhere(),
            "contiguity" => self.a_commit_is_lost_and_the_next_is_not(),
            _ => self.a_mark_is_lost_and_its_samples_would_not_be(),
        }
        // Only the one that keeps the rule has to recover.
        let tasks = self.tasks();
        self.sides[0].calm(tasks);
        let expected = self.end();
        let [kept, broken] = self.sides.each_ref().map(|side| side.found(&expected));
        Control { rule: self.rule, milliseconds: begin.elapsed().as_millis() as u64, kept, broken }
    }

    fn tasks(&self) -> u64 {
        u64::from(self.args.partitions + self.args.shards)
    }

    fn calm(&mut self) {
        let tasks = self.tasks();
        self.sides.iter_mut().for_each(|side| side.calm(tasks));
    }

    /// The last commit does not know yet that its delta records have arrived, so its successor sends them again.
    fn a_successor_sends_delta_records_again(&mut self) {
        for side in &mut self.sides {
            side.fleet.kill(0);
            side.fleet.start(0);
        }
    }

    /// A second owner who never learns that there is another, and who commits with every record instead of every step,
    /// until he is far ahead. Delta records with the same number are then others.
    fn two_owners_who_cut_elsewhere(&mut self) {
        let journals: Vec<String> =
            self.sides.iter().map(|side| format!("{}-{}-journal", side.group, self.topic)).collect();
        let before = self.cluster.ends(&journals[1]);
        for side in &mut self.sides {
            let config = side.fleet.dir().join("rogue.yaml");
            side.fleet.start_rogue_with(1, &config);
        }
        wait_until("every journal has grown", STARTS_WITHIN, || {
            self.sides.iter_mut().for_each(Side::tend);
            let grown: Vec<i64> = self.cluster.ends(&journals[1]).iter().zip(&before).map(|(a, b)| a - b).collect();
            if grown.iter().all(|n| *n >= AHEAD) { Ok(()) } else { Err(format!("by {grown:?}")) }
        });
        self.sides[0].says(&["another worker has claimed its journal"]);
        self.sides.iter_mut().for_each(|side| side.fleet.kill(1));
    }

    /// A commit is given up for want of a broker, and the one after it is stored when the broker is back.
    fn a_commit_is_lost_and_the_next_is_not(&mut self) {
        self.away(AWAY);
        self.sides[1].says(&["restarting", "span task", "unknown (Message"]);
        self.back(AWAY);
    }

    /// Steps are closed on stall timeout, because some source partitions are out of reach; then the journals of the
    /// marks that say so are, too. The partitions are back before the journals, so the owner that closes the steps
    /// again closes them with what they hold.
    fn a_mark_is_lost_and_its_samples_would_not_be(&mut self) {
        let shards = self.args.shards as usize;
        self.away(APART);
        for side in &mut self.sides {
            side.sees("every shard closes steps by force", |side| forced(&side.fleet.logs()).len() == shards);
        }
        let held = self.away(AWAY);
        for (side, from) in self.sides.iter_mut().zip(held) {
            side.sees("all marks since then are lost", |side| lost(&side.since(from)).is_some());
        }
        let lost = [0, 1].map(|i| lost(&self.sides[i].since(held[i])).unwrap_or_default());
        self.sides[1].sees("samples of a lost mark are stored", |side| {
            side.watched.samples().streams.values().any(|stream| stream.contains_key(&lost[1]))
        });
        self.back(APART);
        for (side, step) in self.sides.iter_mut().zip(lost) {
            side.sees("delta records of all partitions are sent", |side| {
                side.slowest_source() >= step + READ_AHEAD_STEPS * STEP
            });
        }
        self.back(AWAY);
    }

    /// Takes a broker out of reach. What is said to it from now on has certainly not arrived: it is held back for a
    /// while, so that what was on its way before is answered, and then the connections end with all that they hold.
    /// Returns how long the logs were when that began.
    fn away(&self, broker: usize) -> [usize; 2] {
        self.cluster.link(broker).set(Weather { hold_up: true, refuse: true, ..Weather::default() });
        let logs = self.sides.each_ref().map(|side| side.fleet.logs().len());
        let begin = wall_clock();
        wait_until("a step has passed", STARTS_WITHIN, || match wall_clock() - begin {
            passed if passed >= STEP => Ok(()),
            passed => Err(passed.to_string()),
        });
        self.cluster.link(broker).cut();
        logs
    }

    fn back(&self, broker: usize) {
        self.cluster.link(broker).set(Weather::default());
    }

    /// Ends the load and waits until whatever comes has come.
    fn end(&mut self) -> Expectation {
        self.load.signal("TERM");
        wait_until("the load ends", STARTS_WITHIN, || {
            if self.load.has_ended() { Ok(()) } else { Err("it still runs".to_owned()) }
        });
        let expected = self.load.expectation().unwrap_or_else(|why| panic!("{why}"));
        let (ended, tasks) = (wall_clock(), self.tasks());
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(self.args.settle);
        let [kept, broken] = &mut self.sides;
        while Instant::now() < deadline && !kept.is_exact(&expected) {
            kept.tend();
            std::thread::sleep(LOOK_EVERY);
        }
        // The other one may never get there. It has twice the time.
        let deadline = begin + 2 * begin.elapsed() + Duration::from_millis((SILENT_STEPS * STEP).unsigned_abs());
        while Instant::now() < deadline && !broken.is_exact(&expected) {
            broken.tend();
            let silent = broken.watched.samples().slowest() >= ended + SILENT_STEPS * STEP;
            if silent && broken.running() == tasks && broken.fleet.sum("spanmill_lag_records") == 0 {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        expected
    }
}

// === impl Found ===

impl Found {
    /// Nothing is wrong.
    pub fn is_exact(&self) -> bool {
        self.conflicts + self.series_wrong == 0
    }
}

impl Control {
    /// The rule is kept, and needed.
    pub fn is_good(&self) -> bool {
        self.kept.is_exact() && !self.broken.is_exact()
    }
}

impl Controls {
    /// All rules are kept and needed.
    pub fn are_good(&self) -> bool {
        self.controls.iter().all(Control::is_good)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { samples, conflicts, spans_lost, spans_double, series_wrong, words } = self;
        write!(f, "{samples} samples, {conflicts} conflicts, {series_wrong} series wrong, ")?;
        write!(f, "{spans_lost} spans lost, {spans_double} double")?;
        words.iter().try_for_each(|w| write!(f, "\n    {w}"))
    }
}

impl std::fmt::Display for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = match (self.kept.is_exact(), self.broken.is_exact()) {
            (true, false) => "kept and needed",
            (true, true) => "NOT NOTICED",
            (false, _) => "NOT EXACT",
        };
        writeln!(f, "{}: {verdict}, {:.1} s", self.rule, self.milliseconds as f64 / 1e3)?;
        write!(f, "  with it:    {}\n  without it: {}", self.kept, self.broken)
    }
}

impl std::fmt::Display for Controls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.controls.iter().try_for_each(|c| writeln!(f, "{c}"))?;
        let good = self.controls.iter().filter(|c| c.is_good()).count();
        write!(f, "{good} of {} rules are kept and needed", self.controls.len())
    }
}
