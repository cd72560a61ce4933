//! Sends closed steps to the receivers, with a shard sender per shard, and counts the results.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SentSamples;
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;
use crate::worker::sender::{Delivered, Exporter, ShardSender};

/// Sends batches, and counts the answers.
#[derive(Debug)]
pub(super) struct Sending {
    senders: Vec<ShardSender>,
    resend: bool,
    shared: Arc<SendingState>,
}

#[derive(Debug, Default)]
struct SendingState {
    answers: Mutex<Answers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Answers {
    samples: SentSamples,
    /// Batches without an answer, by step.
    waiting: BTreeMap<Millis, usize>,
    /// The steps of which a part was sent, whatever the result.
    sent: BTreeSet<Millis>,
    /// Batches that have been answered, and how many of them the sender knows of.
    answered: u64,
    seen: u64,
}

// === impl Sending ===

impl Sending {
    pub(super) fn new(exporter: &Exporter, shards: u32, resend: bool) -> Self {
        let shared = Arc::<SendingState>::default();
        let open = |shard| {
            let shared = Arc::clone(&shared);
            exporter.open(shard, Box::new(move |delivered| shared.settle(&delivered)))
        };
        Self { senders: (0..shards).map(open).collect(), resend, shared }
    }

    /// Enqueues a batch. Returns it if too many of its shard are in flight.
    pub(super) fn try_send(&self, shard: u32, batch: StepBatch) -> Option<StepBatch> {
        let (step, batch) = (batch.step, StepBatch { resend: batch.resend || self.resend, ..batch });
        // Before it is sent: its answer may be there at once.
        self.shared.begin(step);
        let refused = self.senders[shard as usize].try_send(batch).err()?;
        self.shared.take_back(step);
        Some(refused)
    }

    /// Waits until something has been answered since the last wait, but no longer than `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        let answers = self.shared.lock();
        let nothing_new = |answers: &mut Answers| answers.answered == answers.seen;
        let waited = self.shared.changed.wait_timeout_while(answers, timeout, nothing_new);
        let (mut answers, _) = waited.unwrap_or_else(PoisonError::into_inner);
        answers.seen = answers.answered;
    }

    /// The batches that have no answer yet.
    pub(super) fn waiting(&self) -> usize {
        self.shared.lock().waiting.values().sum()
    }

    /// The results of the samples.
    pub(super) fn samples(&self) -> SentSamples {
        self.shared.lock().samples
    }

    /// The last step up to which everything is answered. `torn` means that the last step may be incomplete.
    pub(super) fn settled(&self, torn: bool) -> Option<Millis> {
        let answers = self.shared.lock();
        let last = answers.sent.last().copied()?;
        let end = answers.waiting.keys().next().copied().unwrap_or(if torn { last } else { last + 1 });
        answers.sent.range(..end).next_back().copied()
    }
}

// === impl SendingState ===

impl SendingState {
    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, step: Millis) {
        let mut answers = self.lock();
        answers.sent.insert(step);
        *answers.waiting.entry(step).or_default() += 1;
    }

    fn take_back(&self, step: Millis) {
        self.lock().leave(step);
    }

    fn settle(&self, delivered: &Delivered) {
        let mut answers = self.lock();
        answers.leave(delivered.step);
        answers.answered += 1;
        answers.samples.add(delivered);
        drop(answers);
        self.changed.notify_all();
    }
}

// === impl Answers ===

impl Answers {
    /// A batch of a step waits no longer.
    fn leave(&mut self, step: Millis) {
        if let Entry::Occupied(mut waiting) = self.waiting.entry(step) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
    }
}
