//! The worker: group membership, worker threads, and the tasks that they own.
//!
//! ```text
//! member thread ──Open/Close──▶ worker thread ──claim──▶ take-over pool ──Ready──▶ worker thread: runner.run() ...
//!                                    ▲                                                 │
//!                                    └── fates of appended records, deliveries ────────┘
//! ```
//!
//! *In:* what the group assigns. *Out:* commits, delta records, remote-write batches. *Owner:* the process, through [`Worker`].
//! *Never:* two threads in one task; a wait on the hot path.
//! *Next:* `repartition` comes before all of it where topics are not partitioned by trace ID; `group` opens tasks and runs
//! them, `restore` acquires them, `span_task` and `series_task` are the running tasks around the pure halves in
//! [`crate::core::tasks`]; `task` is what all of these share, `health` watches.

#![allow(clippy::disallowed_methods, reason = "an edge: the wall clock enters here, as an argument")]

pub mod admin;
pub mod kafka;
pub mod sender;
pub mod telemetry;

mod group;
mod health;
mod identity;
mod renewing;
mod repartition;
pub mod reshard;
mod restore;
mod series_task;
mod span_task;
mod task;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::core::settings::HistogramMode;
use crate::worker::kafka::KafkaError;
use crate::worker::sender::Exporter;
use crate::worker::telemetry::Telemetry;
use group::Parts;
use health::Watched;
pub use renewing::Renewing;
pub use task::{DeltaWatch, OverridesError, Replay, ReplayRange, WorkerError};

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    parts: Parts,
    member: JoinHandle<Result<(), WorkerError>>,
    /// Follows the file with the overrides, if there is one.
    overrides: Option<JoinHandle<()>>,
    /// Watches over what the worker needs.
    health: JoinHandle<()>,
}

impl Worker {
    /// Starts a worker. It waits for the source topics in the background; look at the telemetry for its progress.
    ///
    /// # Errors
    /// When a client cannot be built from the configuration, or the overrides cannot be used.
    pub fn start(config: Config, telemetry: Telemetry) -> Result<Self, WorkerError> {
        let exporter = Exporter::start(&config.remote_write, telemetry.clone())?;
        exporter.look_ahead(config.core.time.step.ms(), config.core.histograms.mode != HistogramMode::Classic);
        Self::launch(config, telemetry, exporter, None)
    }

    /// Starts a worker that replays a stretch of every source partition, under the group of `config`, which must not be
    /// that of live workers. The samples go to `exporter`. [`Worker::done`] returns whether the work is complete.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub fn replay(
        config: Config,
        telemetry: Telemetry,
        exporter: Exporter,
        replay: Replay,
    ) -> Result<Self, WorkerError> {
        Self::launch(config, telemetry, exporter, Some(replay))
    }

    fn launch(
        config: Config,
        telemetry: Telemetry,
        exporter: Exporter,
        replay: Option<Replay>,
    ) -> Result<Self, WorkerError> {
        let (tenants, watch) = group::at_start(config, &exporter, &telemetry)?;
        health::begin(telemetry.conditions());
        let parts = Parts::new(tenants, telemetry, exporter, replay)?;
        // Within a replay, everything is counted by the same settings.
        let watch = watch.filter(|_| parts.mode.follows_changes());
        let overrides = watch.map(|watch| group::follow(&parts, watch)).transpose()?;
        let member = {
            let parts = parts.clone();
            std::thread::Builder::new()
                .name("member".to_owned())
                .spawn(move || group::run(&parts))
                .map_err(WorkerError::Thread)?
        };
        let health = health::watch(Watched {
            clients: Arc::clone(&parts.clients),
            groups: Arc::clone(&parts.groups),
            liveness: Arc::clone(&parts.liveness),
            stop: Arc::clone(&parts.stop),
        });
        let health = health.map_err(WorkerError::Thread)?;
        Ok(Self { parts, member, overrides, health })
    }

    /// Whether the worker still serves its group. False after it ended by itself; [`Worker::stop`] returns the reason.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.member.is_finished()
    }

    /// Whether this worker of a replay owns tasks, and all of them are done. The group may still give it others.
    #[must_use]
    pub fn done(&self) -> bool {
        let tasks = self.parts.clients.telemetry.tasks().snapshot();
        !tasks.is_empty() && tasks.iter().all(|(_, status)| status.done)
    }

    /// A probe for the admin server: whether the main loop has made progress within the last 30 s.
    #[must_use]
    pub fn alive_probe(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let liveness = Arc::clone(&self.parts.liveness);
        Box::new(move || liveness.beat_age() < Duration::from_secs(30))
    }

    /// A probe for the admin server: how long ago the readiness conditions were last checked.
    #[must_use]
    pub fn judged_probe(&self) -> Box<dyn Fn() -> Duration + Send + Sync> {
        let liveness = Arc::clone(&self.parts.liveness);
        Box::new(move || liveness.judged_ago())
    }

    /// Whether this worker has joined both groups.
    #[must_use]
    pub fn joined_probe(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let liveness = Arc::clone(&self.parts.liveness);
        Box::new(move || liveness.has_joined())
    }

    /// Stops gracefully: drains, commits, releases, leaves the group. Returns within `worker.shutdown_timeout`.
    ///
    /// # Errors
    /// The reason why the worker ended, if it did not end because of this call.
    pub fn stop(self) -> Result<(), WorkerError> {
        self.parts.stop.store(true, Ordering::Relaxed);
        let patience = Duration::from_millis(self.parts.clients.config.worker.shutdown_timeout.unsigned_abs());
        let asked = Instant::now();
        while !self.member.is_finished() && asked.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = if self.member.is_finished() {
            self.member.join().unwrap_or_else(|_| Err(WorkerError::Fatal("the member thread died".to_owned())))
        } else {
            // Its threads wait for brokers that do not answer. Nothing is lost: what was not committed is read again.
            tracing::warn!("shutdown timed out, stopping with open tasks; uncommitted records will be read again");
            Ok(())
        };
        if self.health.join().is_err() {
            tracing::error!("the health thread died");
        }
        if self.overrides.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the overrides thread died");
        }
        self.parts.clients.exporter.stop(Duration::from_secs(1));
        match ended {
            Err(WorkerError::Kafka(KafkaError::Stopping)) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_does_not_wait_for_a_broker_that_does_not_answer() {
        // The system accepts connections, and no broker ever answers.
        let broker = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut config = Config::default();
        config.kafka.brokers = broker.local_addr().expect("bound").to_string();
        config.worker.shutdown_timeout = 500;
        let worker = Worker::start(config, Telemetry::new()).expect("starts without a broker");
        let asked = Instant::now();
        worker.stop().expect("stops");
        // Half a second on an idle machine; it would be ten if the stop waited for the request for topics.
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    }
}
