//! A replay of what Kafka still holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::show::{Look, Screen, Summary};
use crate::admin::{Admin, Probes};
use crate::cli::produce::duration;
use crate::cli::{ConfigArgs, USAGE};
use crate::config::{self, Loaded, Problems};
use crate::export::{ExportError, Exporter};
use crate::kafka;
use crate::model::Millis;
use crate::replay::{Bound, Plan, Progress, RunError, Watch, agree, remove};
use crate::telemetry::{self, Telemetry};
use crate::worker::{Worker, WorkerError};

/// How often the picture changes, and how often a line is printed where there is no terminal.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const PRINT_EVERY: Duration = Duration::from_secs(10);
/// How often the journals are read, once this worker has nothing more to do.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What to replay from Kafka, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaArgs {
    /// The name of the run: workers with the same name share it, and a run that was stopped goes on. Without one, a new run
    /// begins
    #[arg(long, value_name = "NAME", value_parser = id)]
    pub id: Option<String>,
    /// Where to begin: a time such as 2026-11-20T10:00:00Z (of records), an offset, earliest or now; before it TOPIC= or
    /// TOPIC[PARTITION]= if it is not for all. May be repeated, the most precise counts [default: earliest]
    #[arg(long, value_name = "POINT")]
    pub from: Vec<Bound>,
    /// Where to end, likewise; that point itself is left out. Half edges that still wait there stay open [default: now, when
    /// half edges that still wait at the end of a partition get their wait]
    #[arg(long, value_name = "POINT")]
    pub to: Vec<Bound>,
    /// Read to the present end, which is the default
    #[arg(long, conflicts_with = "to")]
    pub until_now: bool,
    /// How far a partition may run ahead of the slowest, in event time
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub lead: Duration,
    /// A label for every series of the replay, such as replay=monday; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<String>,
    /// Read at most this many bytes of records per second, in this worker
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub read_rate: Option<u64>,
    /// Send at most this many samples per second, from this worker
    #[arg(long, value_name = "SAMPLES", value_parser = clap::value_parser!(u64).range(1..))]
    pub write_rate: Option<u64>,
    /// Print the summary as JSON, and nothing else, to standard output
    #[arg(long)]
    pub json: bool,
    /// Serve metrics of this worker at this address, as `run` does
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Delete the topics of the run --id instead: it cannot go on then
    #[arg(long, requires = "id", conflicts_with_all = ["from", "to", "until_now"])]
    pub remove: bool,
}

/// A replay that could not begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is no run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The worker ended.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// Nothing can be sent.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Logs, metrics or the output do not work.
    #[error("{0}")]
    Other(String),
}

/// Replays as the arguments say; returns the exit code.
///
/// # Errors
/// When the replay cannot begin or go on.
pub fn run(config: &ConfigArgs, args: &KafkaArgs, stop: &Arc<AtomicBool>) -> Result<u8, ReplayError> {
    let id = args.id.clone().unwrap_or_else(new_id);
    let loaded = match load(config, args, &id) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(USAGE);
        }
    };
    if let Err(error) = kafka::client::check(&loaded.config.kafka) {
        eprintln!("{error}");
        return Ok(USAGE);
    }
    let screen = Screen::new(args.json);
    if !screen.is_live() {
        let log = &loaded.config.log;
        telemetry::log::init(&log.level, log.format).map_err(|e| ReplayError::Other(e.to_string()))?;
    }
    if args.remove {
        let removed = remove(&loaded)?;
        println!("deleted {} topics of run {id}", removed.len());
        return Ok(0);
    }
    let run = agree(&loaded, &args.from, &args.to, now())?;
    screen.begin(&id, &run.plan, run.new);
    let (progress, summary) = work(&loaded, args, &run.plan, &screen, stop)?;
    screen.end(&id, &run.plan, &progress, &summary).map_err(|e| ReplayError::Other(e.to_string()))?;
    Ok(u8::from(!progress.complete() || summary.rejected > 0))
}

/// The configuration of the run: under a group of its own, and without what only live workers do.
fn load(config: &ConfigArgs, args: &KafkaArgs, id: &str) -> Result<Loaded, Problems> {
    let labels = args.label.iter().map(|label| format!("series.external_labels.{label}"));
    let set: Vec<String> = config.set.iter().cloned().chain(labels).collect();
    let mut loaded = config::load_from(config.config.as_deref(), &set)?;
    let kafka = &mut loaded.config.kafka;
    kafka.group = format!("{}-replay-{id}", kafka.group);
    // The live workers have seen to that.
    kafka.dead_letter_topic.clear();
    Ok(loaded)
}

/// Works until the run is over or is stopped.
fn work(
    loaded: &Loaded,
    args: &KafkaArgs,
    plan: &Plan,
    screen: &Screen,
    stop: &Arc<AtomicBool>,
) -> Result<(Progress, Summary), ReplayError> {
    let (telemetry, config) = (Telemetry::new(), loaded.config.clone());
    let exporter = Exporter::start(&config.remote_write, telemetry.clone())?;
    if let Some(rate) = args.write_rate {
        exporter.limit(rate);
    }
    let lead = lead(args.lead, &config);
    let started = Instant::now();
    let worker = Worker::replay(config.clone(), telemetry.clone(), exporter, plan.replay(lead, args.read_rate))?;
    let admin = serve(args.listen.as_deref(), &config, &telemetry, &worker)?;
    let mut watch = Watch::new(&config, plan, Arc::clone(stop))?;
    let (mut looked, mut watched, mut printed) = (started, started, started);
    while worker.alive() && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        if looked.elapsed() >= LOOK_EVERY {
            let look = Look::of(&telemetry, plan, started.elapsed());
            screen.show(&look);
            if printed.elapsed() >= PRINT_EVERY {
                screen.print(&look);
                printed = Instant::now();
            }
            looked = Instant::now();
        }
        if worker.done() && watched.elapsed() >= WATCH_EVERY {
            match watch.look() {
                Ok(progress) if progress.complete() => break,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the journals are looked at again"),
            }
            watched = Instant::now();
        }
    }
    let ended = worker.stop();
    if let Some(admin) = admin {
        admin.stop();
    }
    ended?;
    // A stop that was asked for must not hide how far the run has come.
    let mut watch = Watch::new(&config, plan, Arc::new(AtomicBool::new(false)))?;
    Ok((watch.look()?, Summary::of(&telemetry, started.elapsed())))
}

fn serve(
    listen: Option<&str>,
    config: &config::Config,
    telemetry: &Telemetry,
    worker: &Worker,
) -> Result<Option<Admin>, ReplayError> {
    let Some(address) = listen else { return Ok(None) };
    let settings = config::settings::Admin { listen: address.to_owned(), ..config.admin.clone() };
    let probes = Probes { alive: worker.alive_probe(), joined: worker.joined_probe() };
    Admin::start(&settings, telemetry.clone(), probes).map_err(|e| ReplayError::Other(e.to_string()))
}

/// A partition that may not even finish the steps under way would stop all.
fn lead(asked: Duration, config: &config::Config) -> Millis {
    let least = config.time.step.ms().saturating_mul(4);
    Millis::try_from(asked.as_millis()).unwrap_or(Millis::MAX).max(least)
}

fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// A name for a run that was given none: the time, to the second.
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

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        kafka: KafkaArgs,
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
        let loaded = load(&ConfigArgs { config: None, set }, &parsed.kafka, "r1").expect("legal");
        assert_eq!(loaded.config.kafka.group, "spanmill-replay-r1");
        assert!(loaded.config.kafka.dead_letter_topic.is_empty());
        assert_eq!(loaded.config.series.external_labels["replay"], "r1");
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
