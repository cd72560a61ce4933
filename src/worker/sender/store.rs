//! Stores batches instead of sending them, such as in a directory, and the loop that writes each batch until it is
//! kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::remotewrite::{Backoff, StepBatch};

use super::Delivered;
use super::delivery::{Sending, random};
use super::shard_sender::Ticket;

/// Between two attempts to write.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };

/// Stores the batches of all shards, whatever the settings of tenants are.
pub trait Store: std::fmt::Debug + Send + Sync {
    /// The writer of one shard. Nothing is opened yet.
    fn writer(&self, shard: u32) -> Box<dyn Writer>;
}

/// Stores the batches of one shard, in order.
pub trait Writer: std::fmt::Debug + Send {
    /// Stores a batch durably. After an error nothing of the batch is left.
    ///
    /// # Errors
    /// The cause, with what to do about it if that is known.
    fn write(&mut self, batch: &StepBatch) -> Result<(), String>;

    /// Where it writes to, for messages.
    fn path(&self) -> PathBuf;
}

/// A shard whose batches cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Since when.
    pub since: Instant,
    /// Why, with its path and what to do.
    pub why: String,
}

/// A store, and the shards that it cannot write.
#[derive(Debug)]
pub(super) struct Stored {
    store: Arc<dyn Store>,
    stuck: Mutex<BTreeMap<u32, Stuck>>,
}

// === impl Stuck ===

impl Stuck {
    /// The message for users, with how long the shard has waited.
    #[must_use]
    pub fn text(&self, patience: Duration) -> String {
        let seconds = self.since.elapsed().as_secs();
        format!("failing for {seconds} s, stops after {} s: {}", patience.as_secs(), self.why)
    }
}

// === impl Stored ===

impl Stored {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, stuck: Mutex::default() }
    }

    /// The shard that has not been written for the longest time, if one cannot be.
    pub(super) fn stuck(&self) -> Option<Stuck> {
        self.all_stuck().values().min_by_key(|stuck| stuck.since).cloned()
    }

    fn all_stuck(&self) -> MutexGuard<'_, BTreeMap<u32, Stuck>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch, retrying until it is kept, and reports it as delivered.
    pub(super) async fn keep(
        &self,
        sending: &Sending,
        writer: &mut Option<Box<dyn Writer>>,
        batch: &StepBatch,
        ticket: Ticket,
        out: Delivered,
    ) {
        let meters = sending.shared.telemetry.export();
        let writer = writer.get_or_insert_with(|| self.store.writer(sending.shard));
        let mut attempt = 0u32;
        loop {
            let started = Instant::now();
            // The other thread of the exporter continues meanwhile. A shard sender that is dropped falls silent after
            // this batch.
            let kept = tokio::task::block_in_place(|| writer.write(batch));
            meters.seconds.observe(started.elapsed().as_secs_f64());
            let Err(error) = kept else { break };
            sending.failing.failed(None);
            meters.retries.inc();
            attempt = attempt.saturating_add(1);
            let delay = BACKOFF.delay(attempt, random());
            self.note(sending.shard, started, &writer.path(), &error);
            if attempt.is_power_of_two() {
                let (file, step) = (writer.path(), batch.step);
                let file = file.display();
                tracing::warn!(%file, step, attempt, retry_in = ?delay, error, "write failed, retrying; no data is \
                                                                                lost");
            }
            tokio::time::sleep(delay).await;
        }
        sending.failing.answered();
        if attempt > 0 {
            self.all_stuck().remove(&sending.shard);
        }
        let samples = batch.samples();
        meters.bytes.inc_by(batch.requests.iter().map(|r| r.body.len() as u64).sum());
        meters.acknowledged.inc_by(samples);
        ticket.settle(samples);
        (sending.done)(Delivered { acknowledged: samples, ..out });
        drop(ticket);
    }

    fn note(&self, shard: u32, since: Instant, path: &Path, error: &str) {
        let why = format!("{}: {error}", path.display());
        self.all_stuck().entry(shard).or_insert(Stuck { since, why: String::new() }).why = why;
    }
}
