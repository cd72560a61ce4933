//! All shards close the steps that one of them has closed, and receivers get what they lack: as from any owner of a shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{APPENDS_WITHIN, Attempt, ReshardError, Stage};
use crate::core::journal::{AppendProgress, Change, EmitCause, EmitMark, JournalWriter};
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;
use crate::core::tasks::series::{SeriesTask, Terms};
use crate::worker::sender::{Delivered, Outbox};
use crate::worker::series_task::meant;
use crate::worker::task::TakenSeries;

/// How long to wait for an answer before looking again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A shard of the present sharding.
pub(super) struct Shard {
    pub(super) number: u32,
    pub(super) task: SeriesTask,
    pub(super) terms: Terms,
    pub(super) writer: JournalWriter,
    /// The offset after the last delta record that was read.
    pub(super) position: i64,
    /// The sources that join it.
    pub(super) joining: BTreeSet<(String, i32)>,
    acknowledged: Option<Millis>,
    /// Where the last step-close record ended.
    marked: i64,
    /// What the last snapshot carries, and steps that receivers may lack.
    unsent: Vec<StepBatch>,
    carried: Vec<StepBatch>,
}

/// The batches without an answer, by what to call them.
#[derive(Default)]
struct Waiting {
    by_track: Mutex<BTreeMap<String, usize>>,
    changed: Condvar,
}

// === impl Shard ===

impl Shard {
    pub(super) fn new(number: u32, taken: TakenSeries) -> Self {
        Self {
            number,
            marked: taken.writer.next().unwrap_or(taken.start),
            task: taken.task,
            terms: taken.terms,
            writer: taken.writer,
            position: taken.start,
            joining: taken.joining,
            acknowledged: taken.acknowledged,
            unsent: taken.resend.into_iter().flat_map(|(_, batches)| batches).collect(),
            carried: taken.undelivered,
        }
    }

    /// Its partition of the topics.
    pub(super) fn partition(&self) -> i32 {
        self.number.cast_signed()
    }
}

// === impl Waiting ===

impl Waiting {
    fn change(&self, track: &str, by: isize) {
        let mut waiting = self.by_track.lock().unwrap_or_else(PoisonError::into_inner);
        let known = waiting.entry(track.to_owned()).or_default();
        *known = known.saturating_add_signed(by);
        if *known == 0 {
            waiting.remove(track);
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Those that still wait, after a moment.
    fn wait(&self) -> BTreeMap<String, usize> {
        let waiting = self.by_track.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout(waiting, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
        waited.0.clone()
    }
}

/// What a track is called.
fn track(tenant: &str, endpoint: Option<&str>) -> String {
    let tenant = tenant.escape_debug();
    endpoint.map_or_else(|| tenant.to_string(), |endpoint| format!("{tenant} at {}", endpoint.escape_debug()))
}

impl Attempt<'_> {
    /// Appends the records of a frame, and waits until it counts.
    pub(super) fn append(
        &self,
        (journal, partition): (&str, i32),
        writer: &mut JournalWriter,
        records: &[Vec<u8>],
    ) -> Result<(), ReshardError> {
        let appender = &self.offline.means.clients.appender;
        let mut counts = false;
        for record in records {
            let offset = appender.append_and_wait(journal, partition, record, APPENDS_WITHIN)?;
            match writer.acknowledged(offset) {
                AppendProgress::Accepted(_) => counts = true,
                AppendProgress::Pending => {}
                AppendProgress::ReadGap { .. } | AppendProgress::Fenced | AppendProgress::Unknown => counts = false,
            }
        }
        if counts { Ok(()) } else { Err(ReshardError::Meanwhile { journal: journal.to_owned(), partition }) }
    }

    /// Closes the steps in all shards that any of them has closed; returns how many that were.
    pub(super) fn close(&self, shards: &mut [Shard]) -> Result<usize, ReshardError> {
        let Some(last) = shards.iter().filter_map(|shard| shard.task.closed()).max() else { return Ok(0) };
        let mut steps = 0;
        for shard in shards {
            while let Some(step) = shard.task.next_until(last) {
                self.close_one(shard, step)?;
                steps += 1;
            }
        }
        Ok(steps)
    }

    fn close_one(&self, shard: &mut Shard, step: Millis) -> Result<(), ReshardError> {
        let late = shard.task.source_times().filter(|(.., at)| *at < step);
        let behind: Vec<_> = late.map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
        let cause = if behind.is_empty() { EmitCause::Watermark } else { EmitCause::Forced };
        let (behind, basis) = (shard.task.places(behind), Some(shard.task.basis()));
        let closed = shard.task.close(step);
        let (settings, _) = shard.terms.change(&mut shard.task);
        // Without endpoints: each of them may lack the step.
        let change = Change { settings, ..Change::default() };
        let (acknowledged, left_out) = (shard.acknowledged, Vec::new());
        let mark = EmitMark { step, cause, acknowledged, left_out, behind, basis, change };
        let to = shard.position.max(shard.marked);
        let records = shard.writer.commit(shard.marked, to, &mark.encode());
        shard.marked = to;
        let journal = self.topics.names().series_journal();
        self.append((&journal, shard.partition()), &mut shard.writer, &records)?;
        shard.unsent.extend(closed.batches);
        Ok(())
    }

    /// Sends everything that receivers may lack, and waits until it is settled; returns how many batches that were.
    pub(super) fn send(&self, shards: &mut [Shard]) -> Result<usize, ReshardError> {
        let (waiting, mut sent) = (Arc::<Waiting>::default(), 0);
        let mut outboxes: Vec<Outbox> = Vec::new();
        for shard in shards {
            let answers = Arc::clone(&waiting);
            let done = move |d: Delivered| {
                answers.change(&track(&d.tenant, d.endpoint.as_deref()), -1);
            };
            let exporter = &self.offline.means.clients.exporter;
            let mut outbox = Outbox::new(exporter.open(shard.number, Box::new(done)));
            for batch in self.batches(shard) {
                waiting.change(&track(&batch.tenant, batch.endpoint.as_deref()), 1);
                outbox.put(batch);
                sent += 1;
            }
            outboxes.push(outbox);
        }
        self.wait_for(&waiting, &mut outboxes)?;
        Ok(sent)
    }

    /// What a shard has to send, in order.
    fn batches(&self, shard: &mut Shard) -> Vec<StepBatch> {
        let exporter = &self.offline.means.clients.exporter;
        let mut all = Vec::new();
        for batch in std::mem::take(&mut shard.carried) {
            // One for an endpoint that is not configured any more is for none.
            let endpoints = meant(&batch, &exporter.routes(&batch.tenant)).into_iter();
            all.extend(endpoints.map(|endpoint| StepBatch { endpoint, ..batch.clone() }));
        }
        let unsent = std::mem::take(&mut shard.unsent);
        all.extend(unsent.into_iter().flat_map(|batch| exporter.for_endpoints(batch)));
        all
    }

    fn wait_for(&self, waiting: &Waiting, outboxes: &mut [Outbox]) -> Result<(), ReshardError> {
        let (mut before, mut since) = (BTreeMap::new(), Instant::now());
        loop {
            outboxes.iter_mut().for_each(Outbox::send);
            let left = waiting.wait();
            if left.is_empty() {
                return Ok(());
            }
            if self.how.stop.load(Ordering::Relaxed) {
                return Err(ReshardError::Stopped(Stage::Divide));
            }
            if left != before {
                (before, since) = (left, Instant::now());
            } else if since.elapsed() > self.how.patience {
                return Err(ReshardError::Unsent { waiting: left.into_keys().collect() });
            }
        }
    }
}
