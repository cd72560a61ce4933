//! The worker: group membership, worker threads, and the tasks that they own.
//!
//! ```text
//! member thread ──Open/Close──▶ worker thread ──claim──▶ take-over pool ──Ready──▶ worker thread: runner.run() ...
//!                                    ▲                                                 │
//!                                    └── fates of appended records, deliveries ────────┘
//! ```
//!
//! *In:* what the group assigns. *Out:* commits, shares, remote-write batches. *Owner:* the process, through [`Worker`].
//! *Never:* two threads in one task; a wait on the hot path.
//! *Next:* `member` opens tasks, `thread` runs them, `takeover` restores them, `span` and `series` are the running tasks
//! around the pure halves in [`crate::tasks`].

#![allow(clippy::disallowed_methods, reason = "an edge: the wall clock enters here, as an argument")]

mod command;
mod delivering;
mod evidence;
mod intake;
mod journal;
mod member;
mod membership;
mod memory;
mod overrides;
mod replay;
mod reset;
mod series;
mod shared;
mod span;
mod takeover;
mod thread;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::export::{ExportError, Exporter};
use crate::kafka::KafkaError;
use crate::model::Millis;
use crate::telemetry::Telemetry;
pub use overrides::OverridesError;
use replay::Replaying;
pub use replay::{Replay, Stretch};
use shared::Shared;

/// Why a worker could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// Kafka refused or did not answer.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The remote-write client cannot be built.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The settings of the tenants cannot be used.
    #[error(transparent)]
    Overrides(#[from] OverridesError),
    /// The operating system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// Something that only a restart can mend.
    #[error("{0}; restart the worker")]
    Fatal(String),
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    member: JoinHandle<Result<(), WorkerError>>,
    /// Follows the file with the overrides, if there is one.
    overrides: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a worker. It waits for the source topics in the background; look at the telemetry for its progress.
    ///
    /// # Errors
    /// When a client cannot be built from the configuration, or the overrides cannot be used.
    pub fn start(config: Config, telemetry: Telemetry) -> Result<Self, WorkerError> {
        let exporter = Exporter::start(&config.remote_write, telemetry.clone())?;
        Self::launch(config, telemetry, exporter, None)
    }

    /// Starts a worker that replays a stretch of every source partition, under the group of `config`, which must not be
    /// that of live workers. The samples go to `exporter`. [`Worker::done`] says when there is nothing left to do.
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
        let (in_force, watch) = overrides::at_start(config, &exporter, &telemetry)?;
        let replaying = replay.map(|replay| Replaying::new(replay, in_force.tenants.defaults().kafka.shards));
        // Within a replay, everything is counted by the same settings.
        let watch = watch.filter(|_| replaying.is_none());
        let shared = Arc::new(Shared::new(in_force, telemetry, exporter, replaying)?);
        let overrides = watch.map(|watch| overrides::follow(&shared, watch)).transpose()?;
        let member = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("member".to_owned())
                .spawn(move || member::run(&shared))
                .map_err(WorkerError::Thread)?
        };
        Ok(Self { shared, member, overrides })
    }

    /// Whether the worker still serves its group. False after it ended by itself; [`Worker::stop`] tells why.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.member.is_finished()
    }

    /// Whether this worker of a replay owns tasks, and all of them are done. The group may still give it others.
    #[must_use]
    pub fn done(&self) -> bool {
        let tasks = self.shared.telemetry.board().snapshot();
        !tasks.is_empty() && tasks.iter().all(|(_, status)| status.done)
    }

    /// A probe for the admin server: whether the main loop turned within the last half minute.
    #[must_use]
    pub fn alive_probe(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.beat_age() < Duration::from_secs(30))
    }

    /// A probe for the admin server: whether the group has let this worker in.
    #[must_use]
    pub fn joined_probe(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.joined.load(Ordering::Relaxed))
    }

    /// Stops gracefully: drains, commits, releases, leaves the group. Returns within `worker.shutdown_timeout`.
    ///
    /// # Errors
    /// What made the worker end, if it did not end because of this call.
    pub fn stop(self) -> Result<(), WorkerError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let patience = Duration::from_millis(self.shared.config.worker.shutdown_timeout.unsigned_abs());
        let asked = Instant::now();
        while !self.member.is_finished() && asked.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = if self.member.is_finished() {
            self.member.join().unwrap_or_else(|_| Err(WorkerError::Fatal("the member thread died".to_owned())))
        } else {
            // Its threads wait for brokers that do not answer. Nothing is lost: what was not committed is read again.
            tracing::warn!("the brokers do not answer: stopping without having let all tasks go");
            Ok(())
        };
        if self.overrides.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that follows the overrides died");
        }
        self.shared.exporter.stop(Duration::from_secs(1));
        match ended {
            Err(WorkerError::Kafka(KafkaError::Stopping)) => Ok(()),
            other => other,
        }
    }
}

/// The wall clock in milliseconds since the epoch.
fn now() -> Millis {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis)
}

/// Sleeps in small pieces until `what` or until `stop` is raised; tells whether it was not stopped.
fn pause(stop: &AtomicBool, what: Duration) -> bool {
    let until = std::time::Instant::now() + what;
    while std::time::Instant::now() < until {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50).min(what));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_does_not_wait_for_a_broker_that_does_not_answer() {
        // Connections are taken by the system, and nobody ever says a word.
        let broker = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut config = Config::default();
        config.kafka.brokers = broker.local_addr().expect("bound").to_string();
        config.worker.shutdown_timeout = 500;
        let worker = Worker::start(config, Telemetry::new()).expect("starts without a broker");
        let asked = Instant::now();
        worker.stop().expect("stops");
        // Half a second on a machine that has time; it would be ten if the request for topics were waited for.
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    }
}
