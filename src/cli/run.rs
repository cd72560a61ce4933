//! `spanmill run`: the worker as a service.

mod progress;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use self::progress::RunProgress;
use super::{ConfigArgs, fail};
use crate::config;
use crate::worker::admin::{Admin, Probes};
use crate::worker::kafka::broker_clock::wall_clock;
use crate::worker::telemetry::Telemetry;
use crate::worker::{Renewing, Worker};

/// How long the end waits for the last spans of its own work to be sent.
const FLUSHES_WITHIN: Duration = Duration::from_secs(2);

/// What a worker is to do.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Tasks of this worker, as `--set worker.stage=...`: a group needs workers for spans and for series
    #[arg(long, value_name = "STAGE", value_parser = ["both", "spans", "series"])]
    stage: Option<String>,
}

// === impl RunArgs ===

impl RunArgs {
    /// Where the configuration comes from, the stage included.
    fn config(&self) -> ConfigArgs {
        let stage = self.stage.as_ref().map(|stage| format!("worker.stage={stage}"));
        let set = self.config.set.iter().cloned().chain(stage).collect();
        ConfigArgs { config: self.config.config.clone(), set }
    }
}

/// Runs until a signal or a failure.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    let config = args.config();
    let loaded = match config.prepare() {
        Ok(loaded) => loaded,
        Err(code) => return ExitCode::from(code),
    };
    match serve(loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn serve(config: config::Config) -> Result<(), Box<dyn std::error::Error>> {
    let stop = stop_signal()?;
    let telemetry = Telemetry::new();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        group = config.kafka.group,
        topics = ?config.kafka.topics,
        brokers = config.kafka.brokers,
        "starting"
    );
    let traces = telemetry.start_traces(&config.traces, &config.kafka.group)?;
    let admin_settings = config.admin.clone();
    let mut renewing = Renewing::new(&config, Instant::now());
    let mut worker = Worker::start(config, telemetry.clone())?;
    let probed = Probed::new(&worker);
    let admin = Admin::start(&admin_settings, telemetry.clone(), probed.probes())?;
    let mut progress = RunProgress::new(Instant::now());
    let ended = loop {
        if !worker.alive() || stop.load(Ordering::Relaxed) {
            break worker.stop();
        }
        std::thread::sleep(Duration::from_millis(50));
        progress.say(&telemetry, Instant::now(), wall_clock());
        if let Some(config) = renewing.look(&worker, Instant::now()) {
            if let Err(error) = worker.stop() {
                break Err(error);
            }
            worker = Worker::start(config, telemetry.clone())?;
            probed.follow(&worker);
            tracing::info!("all clients are replaced");
        }
    };
    if let Some(admin) = admin {
        admin.stop();
    }
    // After the last tasks were closed, however the worker has ended.
    traces.into_iter().for_each(|thread| thread.stop(FLUSHES_WITHIN));
    ended?;
    tracing::info!("stopped");
    Ok(())
}

/// What the admin server asks, of the present worker of this process.
struct Probed(Arc<RwLock<Probes>>);

// === impl Probed ===

impl Probed {
    fn new(worker: &Worker) -> Self {
        Self(Arc::new(RwLock::new(Self::of(worker))))
    }

    fn of(worker: &Worker) -> Probes {
        Probes { alive: worker.alive_probe(), judged: worker.judged_probe() }
    }

    fn follow(&self, worker: &Worker) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Self::of(worker);
    }

    fn probes(&self) -> Probes {
        let [alive, judged] = [(); 2].map(|()| Arc::clone(&self.0));
        Probes {
            alive: Box::new(move || (alive.read().unwrap_or_else(PoisonError::into_inner).alive)()),
            judged: Box::new(move || (judged.read().unwrap_or_else(PoisonError::into_inner).judged)()),
        }
    }
}

/// A flag that SIGTERM and SIGINT set; a second signal ends the process at once.
pub(super) fn stop_signal() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn a_stage_is_the_last_key_that_is_set_and_another_word_is_refused() {
        let set = |args: &[&str]| Line::try_parse_from([&["run"], args].concat()).map(|line| line.run.config().set);
        let stage = ["--stage", "spans", "--set", "worker.stage=both"];
        assert_eq!(set(&stage).expect("a stage"), ["worker.stage=both", "worker.stage=spans"]);
        assert_eq!(set(&[]).expect("no stage"), [""; 0]);
        assert!(set(&["--stage", "edges"]).is_err());
    }
}
