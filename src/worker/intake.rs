//! One record on its way into a span task: whose it is, what becomes of it if it cannot be read, and what if it hurts.
//!
//! No record may make the code panic. Should one do so all the same, the task's state is not to be trusted any more: it is
//! dropped and taken over again, which reads the record again. A record at which that happened [`TRIES`] times is passed
//! over, so that a bug costs one record and not the partition.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::message::{BorrowedMessage, Message};

use super::now;
use super::thread::{Context, Ended};
use crate::kafka::tenant;
use crate::tasks::span::{Offer, Record, SpanTask, StepCut};
use crate::telemetry::TaskId;

/// How often a record may make the code panic before it is passed over.
const TRIES: u32 = 3;

/// The records that made the code panic in this process.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    /// Whether there is any, to be looked at without a lock.
    some: AtomicBool,
    records: Mutex<BTreeMap<(String, i32, i64), Panics>>,
}

/// What happened at one record.
#[derive(Debug, Clone, Default)]
struct Panics {
    times: u32,
    text: String,
}

// === impl Isolation ===

impl Isolation {
    /// Notes a panic at a record; returns how many there were.
    fn note(&self, task: &TaskId, offset: i64, text: &str) -> u32 {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let panics = records.entry((task.topic.clone(), task.partition, offset)).or_default();
        panics.times += 1;
        text.clone_into(&mut panics.text);
        self.some.store(true, Ordering::Release);
        panics.times
    }

    /// Why a record is to be passed over, if it is.
    fn verdict(&self, task: &TaskId, offset: i64) -> Option<String> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let panics = records.get(&(task.topic.clone(), task.partition, offset))?;
        (panics.times >= TRIES).then(|| format!("processing it failed {} times ({})", panics.times, panics.text))
    }
}

/// Offers one message to the task; returns the cuts that came before it.
pub(super) fn take(
    context: &Context<'_>,
    id: &TaskId,
    task: &mut SpanTask,
    message: &BorrowedMessage<'_>,
) -> Result<Vec<StepCut>, Ended> {
    let shared = context.shared;
    let record = Record {
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or_default(),
        tenant: tenant::of(message, &shared.config.tenant),
        value: message.payload().unwrap_or_default(),
    };
    if let Some(replaying) = &shared.replaying {
        replaying.has_read(record.value.len());
    }
    if let Some(reason) = shared.isolation.verdict(id, record.offset) {
        if task.isolate(&record) {
            tracing::error!(task = %id, record.offset, reason, "passing over a record; please report it, with the record");
            copy(context, message, &reason);
        }
        return Ok(Vec::new());
    }
    // What a panic leaves behind is dropped with the task, and looked at by nobody.
    let offered = catch_unwind(AssertUnwindSafe(|| offer(task, &record)));
    let cuts = offered.map_err(|panic| {
        let text = text_of(&*panic);
        let times = shared.isolation.note(id, record.offset, &text);
        Ended::Panicked(format!("{text}; at offset {}, {times} times", record.offset))
    })?;
    if let Some(refusal) = task.refusal() {
        tracing::debug!(task = %id, record.offset, %refusal, "a record is not read");
        copy(context, message, &refusal.to_string());
    }
    Ok(cuts)
}

fn offer(task: &mut SpanTask, record: &Record<'_>) -> Vec<StepCut> {
    #[cfg(test)]
    tests::hurt(record);
    let mut cuts = Vec::new();
    while let Offer::CutFirst { cut } = task.offer(record, now()) {
        cuts.push(*cut);
    }
    cuts
}

fn copy(context: &Context<'_>, message: &BorrowedMessage<'_>, reason: &str) {
    if let Some(letters) = &context.shared.dead_letters {
        letters.copy(message, reason);
    }
}

/// Runs a piece of a task's work; a panic ends the task and not its thread.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Ended>) -> Result<T, Ended> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Ended::Panicked(text_of(&*panic))))
}

/// What a panic says.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
#[path = "intake/tests.rs"]
mod tests;
