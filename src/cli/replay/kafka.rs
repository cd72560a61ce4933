//! A replay of what Kafka still holds.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::show::{Look, Screen, Summary};
use super::{ReportArgs, TargetArgs, TargetError};
use crate::cli::console;
use crate::cli::produce::{duration, wall_clock};
use crate::cli::survey::{conclude, look_at};
use crate::cli::{ConfigArgs, USAGE};
use crate::config::{self, Loaded, Problems};
use crate::core::model::{Millis, Namer, Seed};
use crate::tools::replay::{Bound, ReplayPlan, ReplayProgress, RunError, Wanted, Watch, agree, propose, remove};
use crate::tools::slos::{SloResult, SloRun};
use crate::tools::spool::Claim;
use crate::tools::survey::Survey;
use crate::worker::admin::{Admin, Probes};
use crate::worker::kafka;
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::scan::Scanner;
use crate::worker::telemetry::{TaskKind, Telemetry};
use crate::worker::{DeltaWatch, Replay, Worker, WorkerError};

/// How often the picture changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the journals are read, once this worker has nothing more to do.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Brackets would be links in the documentation.
const FROM: &str = "Start of the range: record time (such as 2026-11-20T10:00:00Z), offset, `earliest` or `now`, \
                    optionally prefixed by TOPIC= or TOPIC[PARTITION]=. Repeatable; the most specific one applies \
                    [default: earliest]";

/// What to replay from Kafka, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaArgs {
    /// Name of the run. Workers with the same name share it, and a stopped run continues. Without a name, a new run is
    /// started
    #[arg(long, value_name = "NAME", value_parser = id)]
    pub id: Option<String>,
    /// Where to begin; see [`Bound`].
    #[arg(long, value_name = "POINT", help = FROM)]
    pub from: Vec<Bound>,
    /// End of the range (exclusive), in the same form. Unpaired spans at the end stay open [default: now; unpaired
    /// spans at the end of a partition then get their wait]
    #[arg(long, value_name = "POINT")]
    pub to: Vec<Bound>,
    /// Read to the current end of the topics, which is the default
    #[arg(long, conflicts_with = "to")]
    pub until_now: bool,
    /// Maximum event-time lead of a partition over the slowest one
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub lead: Duration,
    /// Reproduce the ticks and stall-timeout closes of this live group, as far back as its journals reach
    #[arg(long, value_name = "GROUP")]
    pub honor_journal: Option<String>,
    /// Maximum bytes of records that this worker reads per second
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub read_rate: Option<u64>,
    /// Serve the metrics of this worker at this address, as `run` does
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Delete the topics of the run --id; it cannot continue afterwards
    #[arg(long, requires = "id", conflicts_with_all = ["from", "to", "until_now"])]
    pub remove: bool,
}

/// A replay that could not begin or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is no run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The worker ended.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The destination of the samples cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its samples were kept elsewhere.
    #[error(
        "run {id} is complete, but {dir} has none of its samples: an unnamed spool is deleted when its files are \
         written or all series are equal, so start another run with another --id; a named spool is read with --spool \
         DIR"
    )]
    Elsewhere {
        /// The run.
        id: String,
        /// The directory that was to be used.
        dir: PathBuf,
    },
    /// There is no such run.
    #[error(
        "run {id} does not exist in the Kafka at {brokers}, so nothing was deleted; check --id, and kafka.group, \
         which is part of its topic names"
    )]
    NoRun {
        /// Its name.
        id: String,
        /// Where it was looked for.
        brokers: String,
    },
    /// Logs, metrics or the output do not work.
    #[error("{0}")]
    Other(String),
}

// === impl KafkaArgs ===

impl KafkaArgs {
    fn wanted(&self) -> Wanted<'_> {
        Wanted { from: &self.from, to: &self.to, honor: self.honor_journal.as_deref() }
    }
}

/// Replays as the arguments ask; returns the exit code.
///
/// # Errors
/// When the replay cannot begin or continue.
pub fn run(
    config: &ConfigArgs,
    args: &KafkaArgs,
    target: &TargetArgs,
    report: &ReportArgs,
    stop: &Arc<AtomicBool>,
) -> Result<u8, ReplayError> {
    let id = args.id.clone().unwrap_or_else(new_id);
    let loaded = match load(config, target, &id) {
        Ok(loaded) => loaded,
        Err(problems) => {
            console::say(&problems);
            return Ok(USAGE);
        }
    };
    if let Err(error) = kafka::client::check(&loaded.config.kafka) {
        console::say(&error);
        return Ok(USAGE);
    }
    let screen = Screen::new(report);
    screen.init_log(&loaded.config.log).map_err(|e| ReplayError::Other(e.to_string()))?;
    if args.remove {
        let removed = remove(&loaded)?;
        if removed.is_empty() {
            return Err(ReplayError::NoRun { id, brokers: loaded.config.kafka.brokers });
        }
        drop(writeln!(console::out(), "deleted {} topics of run {id}", removed.len()));
        return Ok(0);
    }
    if target.dry_run {
        return dry_run(&loaded, args).map(|()| 0);
    }
    let run = agree(&loaded, &args.wanted(), wall_clock())?;
    let claim = target.claim(&loaded.tenants, &id, run.plan.described(), run.new)?;
    screen.begin(&id, &run.plan, run.new);
    if let Some(claim) = claim.as_ref().filter(|claim| claim.is_fresh() && !run.new) {
        if Watch::new(&loaded.config, &run.plan, Arc::clone(stop))?.look().is_ok_and(|progress| progress.complete()) {
            return Err(ReplayError::Elsewhere { id, dir: claim.dir().to_owned() });
        }
        screen.say(&format!("this worker writes to {} from now on", claim.dir().display()));
    }
    if let Some(begins) = run.plan.begins() {
        target.preflight(&loaded.config, (begins, wall_clock()), &id)?;
    }
    let slos = SloRun::new(&loaded.tenants).map(|slos| Arc::new(Mutex::new(slos)));
    let (progress, mut summary) = work(&loaded, args, (target, &id), &run.plan, (&screen, slos.as_ref()), stop)?;
    if progress.complete() {
        summary.slos = slos.as_ref().and_then(|slos| results(slos, &progress)).unwrap_or_default();
        let joined_late = claim.as_ref().is_some_and(Claim::is_fresh) && !run.new;
        let shared = joined_late || summary.shared;
        summary.finished = target.finish(&loaded.config, claim, shared);
        if slos.is_some() && summary.slos.is_empty() {
            screen.say(
                "other workers, or an earlier one, have read a part of this run: to see whether objectives were met, run \
                 the same command with --dry-run",
            );
        }
    }
    screen.end(&id, &run.plan, &progress, &summary).map_err(|e| ReplayError::Other(e.to_string()))?;
    if let Some(stuck) = &summary.stuck {
        return Err(ReplayError::Other(format!("{stuck}; free disk space and run the command again with --id {id}")));
    }
    Ok(u8::from(!progress.complete() || !summary.is_good()))
}

/// Whether objectives were met, if this process has read the whole run.
fn results(slos: &Mutex<SloRun>, progress: &ReplayProgress) -> Option<Vec<SloResult>> {
    let commits = progress.partitions.iter().map(|((topic, p), partition)| (topic.as_str(), *p, partition.commits));
    let slos = slos.lock().unwrap_or_else(PoisonError::into_inner);
    slos.results(i32::try_from(progress.shards).ok()?, commits)
}

/// Reads the range and reports its expected result.
fn dry_run(loaded: &Loaded, args: &KafkaArgs) -> Result<(), ReplayError> {
    let plan = propose(loaded, &args.wanted(), wall_clock())?;
    let scanner = Scanner::new(&loaded.config.kafka).map_err(RunError::from)?;
    let mut survey = Survey::new(&loaded.tenants, Seed::new(rand::random()));
    for p in &plan.partitions {
        let stretch = Stretch { topic: &p.topic, partition: p.partition, from: p.from, to: p.to };
        look_at(&scanner, &mut survey, &loaded.tenants, stretch).map_err(|e| ReplayError::Other(e.to_string()))?;
    }
    conclude(survey, &loaded.tenants, &loaded.config.kafka.topics.join(", "), &mut console::out())
        .map_err(|e| ReplayError::Other(e.to_string()))
}

/// The configuration of the run: under a group of its own, and without what only live workers do.
fn load(config: &ConfigArgs, target: &TargetArgs, id: &str) -> Result<Loaded, Problems> {
    let mut loaded = target.load(config)?;
    let kafka = &mut loaded.config.kafka;
    kafka.group = format!("{}{}{id}", kafka.group, Namer::REPLAY);
    // The live workers have copied dead letters already.
    kafka.dead_letter_topic.clear();
    Ok(loaded)
}

/// Runs until the run is complete or is stopped.
fn work(
    loaded: &Loaded,
    args: &KafkaArgs,
    (target, id): (&TargetArgs, &str),
    plan: &ReplayPlan,
    (screen, slos): (&Screen, Option<&Arc<Mutex<SloRun>>>),
    stop: &Arc<AtomicBool>,
) -> Result<(ReplayProgress, Summary), ReplayError> {
    let (telemetry, config) = (Telemetry::new(), loaded.config.clone());
    let exporter = target.exporter(&config, telemetry.clone(), id)?;
    let spool = exporter.clone();
    let lead = lead(args.lead, &config);
    let started = Instant::now();
    let watch = slos.map(|slos| {
        let slos = Arc::clone(slos);
        DeltaWatch::new(move |shard, record| slos.lock().unwrap_or_else(PoisonError::into_inner).hear(shard, record))
    });
    let replay = Replay { watch, ..plan.replay(lead, args.read_rate) };
    let worker = Worker::replay(config.clone(), telemetry.clone(), exporter, replay)?;
    let admin = serve(args.listen.as_deref(), &config, &telemetry, &worker)?;
    let mut watch = Watch::new(&config, plan, Arc::clone(stop))?;
    let (mut looked, mut watched) = (started, started);
    let patience = target.sink.spool_patience;
    let over = || spool.stuck().filter(|stuck| stuck.since.elapsed() >= patience);
    while over().is_none() && worker.alive() && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        if looked.elapsed() >= LOOK_EVERY {
            let stuck = spool.stuck().map(|stuck| stuck.text(patience));
            screen.show(&Look::of(&telemetry, plan, started.elapsed()).or_stuck(stuck));
            looked = Instant::now();
        }
        if worker.done() && watched.elapsed() >= WATCH_EVERY {
            match watch.look() {
                Ok(progress) if progress.complete() => break,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "checking the journals again"),
            }
            watched = Instant::now();
        }
    }
    let stuck = spool.stuck().map(|stuck| stuck.why);
    if stuck.is_some() {
        // The run does not wait for a disk that accepts nothing.
        spool.stop(Duration::ZERO);
    }
    // Whether other workers have had a part of it.
    let owned = telemetry.tasks().snapshot().iter().filter(|(id, _)| id.kind == TaskKind::Series).count();
    let shared = telemetry.has_let_go() || owned < config.kafka.shards as usize;
    let ended = worker.stop();
    if let Some(admin) = admin {
        admin.stop();
    }
    ended?;
    // A stop that was asked for must not hide how far the run has come.
    let mut watch = Watch::new(&config, plan, Arc::new(AtomicBool::new(false)))?;
    let mut summary = Summary::of(&telemetry, started.elapsed());
    summary.stuck = stuck;
    summary.shared = shared;
    Ok((watch.look()?, summary))
}

fn serve(
    listen: Option<&str>,
    config: &config::Config,
    telemetry: &Telemetry,
    worker: &Worker,
) -> Result<Option<Admin>, ReplayError> {
    let Some(address) = listen else { return Ok(None) };
    let settings = config::settings::Admin { listen: address.to_owned(), ..config.admin.clone() };
    let probes = Probes { alive: worker.alive_probe(), judged: worker.judged_probe() };
    Admin::start(&settings, telemetry.clone(), probes).map_err(|e| ReplayError::Other(e.to_string()))
}

/// A partition that may not even finish the open steps would block all others.
fn lead(asked: Duration, config: &config::Config) -> Millis {
    let least = config.core.time.step.ms().saturating_mul(4);
    Millis::try_from(asked.as_millis()).unwrap_or(Millis::MAX).max(least)
}

/// The name of a run without `--id`: the time, to the second.
fn new_id() -> String {
    Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
}

/// What may stand in the name of a topic, in lower case.
fn id(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if !text.is_empty() && text.len() <= 64 && text.chars().all(legal) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 of a-z, 0-9, '-', '_' and '.'".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    use super::super::ReplayArgs;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        replay: ReplayArgs,
    }

    #[test]
    fn a_run_has_a_name_that_topics_can_have() {
        for good in ["r1", "2026-11-22", "a.b_c"] {
            assert_eq!(id(good), Ok(good.to_owned()));
        }
        for bad in ["", "A", "a b", "ä", &"x".repeat(65)] {
            assert!(id(bad).is_err(), "{bad}");
        }
        assert!(id(&new_id()).is_ok());
    }

    #[test]
    fn the_group_of_a_run_is_nobody_elses_and_its_labels_are_on_every_series() {
        let parsed = Args::try_parse_from(["replay", "--label", "replay=r1", "--from", "spans=12"]).expect("legal");
        let set = vec!["kafka.dead_letter_topic=dead".to_owned()];
        let loaded = load(&ConfigArgs { config: None, set }, &parsed.replay.target, "r1").expect("legal");
        assert_eq!(loaded.config.kafka.group, "spanmill-replay-r1");
        assert!(loaded.config.kafka.dead_letter_topic.is_empty());
        assert_eq!(loaded.config.core.series.external_labels["replay"], "r1");
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for wrong in [["--from", "yesterday"], ["--label", "replay"], ["--read-rate", "0"], ["--id", "A"]] {
            assert!(Args::try_parse_from(["replay"].iter().chain(&wrong)).is_err(), "{wrong:?}");
        }
        assert!(Args::try_parse_from(["replay", "--remove"]).is_err(), "of which run?");
    }

    #[test]
    fn partitions_may_always_be_a_few_steps_apart() {
        let config = config::Config::default();
        assert_eq!(lead(Duration::ZERO, &config), 60_000);
        assert_eq!(lead(Duration::from_secs(600), &config), 600_000);
    }
}
