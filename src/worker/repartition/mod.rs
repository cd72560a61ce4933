//! The repartition stage: records of source topics with any partitioning to topics that are partitioned by
//! trace ID. Span tasks read these.
//!
//! *In:* records of the source partitions that the group `<group>-repartition` gives this worker. *Out:* their pieces
//! ([`crate::core::repartition`]) in the topics `<group>-<topic>-by-trace`. *Owner:* a thread of its own. *Never:* state: all
//! of it is in the offsets of the group. *Next:* [`crate::worker::span_task`], which knows nothing of this.
//!
//! # Why it is exact
//!
//! Both ends are Kafka topics and nothing is kept in between, so this is what Kafka's transactions are for: the pieces of
//! some records and the offsets behind these records are committed together. Readers of the topics see only what is
//! committed. Two owners of a partition at once cannot both commit: the coordinator of the group refuses the offsets of a
//! member that has been evicted, or of an earlier generation, and the transaction is aborted; what it had read is read
//! again, by its owner then. An outcome that is not known ends the session: another one asks the group for its
//! offsets, which waits for transactions that are still open.
//!
//! # Order
//!
//! The records of the partitions of this worker are passed on in the order of their times, as far as they are there
//! (`merge`). Workers publish how far they are, and none gets far ahead of the slowest (`pace`).

mod input;
mod merge;
mod pace;
mod session;
mod start;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use self::session::Session;
use crate::worker::kafka::KafkaError;
use crate::worker::task::{Clients, pause};
use crate::worker::telemetry::Condition;

/// How long it backs off after a failure.
const REST: Duration = Duration::from_secs(1);
const REST_AT_MOST: Duration = Duration::from_secs(30);

/// The running stage. Dropping it commits what has been read, and waits for that.
pub(crate) struct Stage {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

// === impl Stage ===

impl Stage {
    /// Starts the stage, if the settings want it.
    pub(crate) fn start(clients: &Arc<Clients>) -> io::Result<Option<Self>> {
        if !clients.config.kafka.repartition {
            return Ok(None);
        }
        let (clients, stop) = (Arc::clone(clients), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("repartition".to_owned()).spawn(move || run(&clients, &stopped))?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }

    /// Asks it to stop; dropping it waits for that.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the repartition thread died; please report this bug with the log");
        }
    }
}

/// Runs sessions until it is stopped: one that has failed is followed by another.
fn run(clients: &Clients, stop: &AtomicBool) {
    let trouble = clients.telemetry.conditions().reporter(Condition::Write, "repartition");
    let mut rest = REST;
    while !stop.load(Ordering::Relaxed) {
        let ended = Session::open(clients, stop, &trouble).and_then(|mut session| {
            rest = REST;
            trouble.met();
            session.serve()
        });
        match ended {
            Ok(()) | Err(KafkaError::Stopping) => {}
            Err(error) => {
                tracing::warn!(%error, "the repartition stage failed, starting it again");
                trouble.unmet(format!("source topics are not repartitioned: {error}"));
                pause(stop, rest);
                rest = (2 * rest).min(REST_AT_MOST);
            }
        }
    }
}
