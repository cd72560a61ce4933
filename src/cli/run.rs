//! `spanmill run`: the worker as a service.

mod progress;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use self::progress::RunProgress;
use super::{ConfigArgs, fail};
use crate::config;
use crate::worker::Worker;
use crate::worker::admin::{Admin, Probes};
use crate::worker::kafka::broker_clock::wall_clock;
use crate::worker::telemetry::Telemetry;

/// How long the end waits for the last spans of its own work to be sent.
const FLUSHES_WITHIN: Duration = Duration::from_secs(2);

/// Runs until a signal or a failure.
pub(super) fn run(args: &ConfigArgs) -> ExitCode {
    let loaded = match args.prepare() {
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
    let worker = Worker::start(config, telemetry.clone())?;
    let probes = Probes { alive: worker.alive_probe(), judged: worker.judged_probe() };
    let admin = Admin::start(&admin_settings, telemetry.clone(), probes)?;
    let mut progress = RunProgress::new(Instant::now());
    while worker.alive() && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        progress.say(&telemetry, Instant::now(), wall_clock());
    }
    let ended = worker.stop();
    if let Some(admin) = admin {
        admin.stop();
    }
    // After the last tasks were closed, however the worker has ended.
    traces.into_iter().for_each(|thread| thread.stop(FLUSHES_WITHIN));
    ended?;
    tracing::info!("stopped");
    Ok(())
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
