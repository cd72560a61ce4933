//! One record on its way into a span task: its tenant, and what happens if it cannot be read or causes a panic.
//!
//! No record may make the code panic. Should one do so all the same, the task's state is not to be trusted any more: it
//! is dropped and the task is restarted, which reads the record again. A record at which that happened [`TRIES`] times
//! is skipped instead, so that a bug costs one record and not the partition.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::message::{BorrowedMessage, Message};

use crate::config::settings::TenantSource;
use crate::core::model::Millis;
use crate::core::tasks::span::{Offer, Record, Refusal, SpanTask, StepCut};
use crate::worker::kafka::{DeadLetters, KafkaError, tenant};
use crate::worker::task::{Clients, Ended, TaskContext, text_of};
use crate::worker::telemetry::TaskId;

/// How often it is logged for a topic that its records are not read.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How often a record may make the code panic before it is skipped.
const TRIES: u32 = 3;

/// What the span tasks of a worker share about records that are not read.
pub(crate) struct Intake {
    /// The records that made the code panic.
    isolation: Isolation,
    /// What was logged about records that are not read.
    refusals: Refusals,
    /// Where copies of records go that cannot be read, if anywhere.
    dead_letters: Option<DeadLetters>,
}

/// The records that made the code panic in this process.
#[derive(Debug, Default)]
struct Isolation {
    /// Whether there is any, readable without a lock.
    some: AtomicBool,
    records: Mutex<BTreeMap<(String, i32, i64), Panics>>,
}

/// Records that were not read since that was last logged, and when it was logged, by topic and kind.
#[derive(Debug, Default)]
struct Refusals(Mutex<BTreeMap<(String, &'static str), (Instant, u64)>>);

// === impl Refusals ===

impl Refusals {
    /// Counts one. If it is time to log, returns how many there were since the last time.
    fn note(&self, topic: &str, kind: &'static str, present: Instant) -> Option<u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((said, since)) = known.get_mut(&(topic.to_owned(), kind)) else {
            known.insert((topic.to_owned(), kind), (present, 0));
            return Some(1);
        };
        *since += 1;
        if present.saturating_duration_since(*said) < SAY_EVERY {
            return None;
        }
        *said = present;
        Some(std::mem::take(since))
    }
}

/// What happened at one record.
#[derive(Debug, Clone, Default)]
struct Panics {
    times: u32,
    text: String,
}

// === impl Isolation ===

impl Isolation {
    /// Counts a panic at a record; returns how many there were.
    fn note(&self, task: &TaskId, offset: i64, text: &str) -> u32 {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let panics = records.entry((task.topic.clone(), task.partition, offset)).or_default();
        panics.times += 1;
        text.clone_into(&mut panics.text);
        self.some.store(true, Ordering::Release);
        panics.times
    }

    /// Why a record is to be skipped, if it is.
    fn verdict(&self, task: &TaskId, offset: i64) -> Option<String> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let panics = records.get(&(task.topic.clone(), task.partition, offset))?;
        (panics.times >= TRIES).then(|| format!("processing failed {} times ({})", panics.times, panics.text))
    }
}

// === impl Intake ===

impl Intake {
    pub(crate) fn new(clients: &Clients) -> Result<Self, KafkaError> {
        Ok(Self {
            isolation: Isolation::default(),
            refusals: Refusals::default(),
            dead_letters: DeadLetters::new(&clients.config.kafka, clients.telemetry.clone())?,
        })
    }

    /// Offers one message, whose tenant is found by `tenant`, to the task; returns the cuts that came before it.
    pub(super) fn take(
        &self,
        context: &TaskContext<'_>,
        id: &TaskId,
        task: &mut SpanTask,
        (message, tenant): (&BorrowedMessage<'_>, &TenantSource),
    ) -> Result<Vec<StepCut>, Ended> {
        let record = Record {
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or_default(),
            tenant: tenant::of(message, tenant),
            value: message.payload().unwrap_or_default(),
        };
        context.mode.has_read(record.value.len());
        if let Some(reason) = self.isolation.verdict(id, record.offset) {
            if task.isolate(&record) {
                tracing::error!(task = %id, offset = record.offset, error = reason, "skipping a record that repeatedly caused a panic; \
                                                                please report this bug with the record");
                self.copy(message, &reason);
            }
            return Ok(Vec::new());
        }
        let present = context.mode.present(context.clock);
        let cuts = self.watched(id, task, Some(record.offset), |task| offer(task, &record, present))?;
        if let Some(refusal) = task.refusal() {
            self.tell(id, &record, refusal);
            self.copy(message, &refusal.to_string());
        }
        Ok(cuts)
    }

    /// Runs code that counts records which waited, because their time was doubtful. A panic is attributed to the record
    /// that was being counted, so that it is skipped like one that causes a panic when it is offered.
    pub(super) fn counting<T>(
        &self,
        id: &TaskId,
        task: &mut SpanTask,
        work: impl FnOnce(&mut SpanTask) -> T,
    ) -> Result<T, Ended> {
        self.watched(id, task, None, work)
    }

    /// The same; a panic is attributed to the record at `offered` if no other is being counted.
    fn watched<T>(
        &self,
        id: &TaskId,
        task: &mut SpanTask,
        offered: Option<i64>,
        work: impl FnOnce(&mut SpanTask) -> T,
    ) -> Result<T, Ended> {
        // What a panic leaves behind is dropped with the task, unread.
        catch_unwind(AssertUnwindSafe(|| work(task))).map_err(|panic| {
            let text = text_of(&*panic);
            let Some(offset) = task.counting().or(offered) else { return Ended::Panicked(text) };
            let times = self.isolation.note(id, offset, &text);
            Ended::Panicked(format!("{text}; at offset {offset}, {times} times"))
        })
    }

    /// Logs that a record is not read: one line per kind, topic and minute, with an example, and how many there were
    /// meanwhile.
    fn tell(&self, id: &TaskId, record: &Record<'_>, refusal: Refusal) {
        let (offset, reason) = (record.offset, refusal.describe(record.value));
        match self.refusals.note(&id.topic, refusal.name(), Instant::now()) {
            Some(refused) => {
                tracing::warn!(task = %id, offset, refused, reason, "record dropped; the ledger counts all dropped \
                                                                 records");
            }
            None => tracing::debug!(task = %id, offset, reason, "record dropped"),
        }
    }

    fn copy(&self, message: &BorrowedMessage<'_>, reason: &str) {
        if let Some(letters) = &self.dead_letters {
            letters.copy(message, reason);
        }
    }
}

fn offer(task: &mut SpanTask, record: &Record<'_>, present: Millis) -> Vec<StepCut> {
    let mut cuts = Vec::new();
    while let Offer::CutFirst { cut } = task.offer(record, present) {
        cuts.push(*cut);
    }
    cuts
}

#[cfg(test)]
#[path = "intake/tests.rs"]
pub(super) mod tests;
