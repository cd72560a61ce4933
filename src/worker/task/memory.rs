//! What the worker holds, by its own accounting, and when that is too much.
//!
//! The accounting covers what can grow: buffers of records, label sets, pending edges, commits, series, batches. While
//! it is above the limit, span tasks leave their records in Kafka, until it is below [`CALM`] of the limit. Series
//! tasks continue: what they apply is sent as samples.
//!
//! Waiting helps only as long as some of the memory will be released. Pending edges expire in stream time, which only
//! reading advances, and series stay. So when nothing will be released and it is still too much, reading continues step
//! by step: one record, and its commit. Slow progress above the limit is better than none, and the gauge shows it.
//!
//! There is a limit to that, too. Label sets stay for an hour or more, and in an explosion every record brings new
//! ones: when they alone are above [`CEILING`] of the limit, reading stops, which is logged as an error. Running out of
//! memory would be worse: the worker that acquires the tasks restores the same state and runs out of memory again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::worker::kafka::client;
use crate::worker::telemetry::Telemetry;

/// What is held, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What may be prefetched, at its bound.
    Fetch,
    /// What log readers may prefetch while a task is acquired, at its bound, and the snapshot that they have read.
    Readers,
    /// The open stretches of span tasks.
    Open,
    /// Commits, delta records and snapshots that are not stored yet.
    Commits,
    /// Batches that are not delivered yet.
    Batches,
    /// Label sets that span tasks know.
    Known,
    /// Pending edges that wait, and open traces.
    Edges,
    /// The label sets of series tasks, and what they keep for receivers that are down.
    Series,
}

const PARTS: [(Part, &str); 8] = [
    (Part::Fetch, "fetch_buffers"),
    (Part::Readers, "readers"),
    (Part::Open, "open_deltas"),
    (Part::Commits, "commits"),
    (Part::Batches, "batches"),
    (Part::Known, "known_label_sets"),
    (Part::Edges, "pending_edges"),
    (Part::Series, "series"),
];

/// What is released without further reading.
const LEAVING: [Part; 4] = [Part::Readers, Part::Open, Part::Commits, Part::Batches];
/// Reading continues below this part of the limit, in percent.
const CALM: usize = 90;
/// The maximum of what is never released, in percent of the limit.
const CEILING: usize = 150;
/// What only grows while spans bring new label sets.
const STAYING: [Part; 2] = [Part::Known, Part::Series];
/// The fraction of the limit that prefetched records may take.
const FETCH_SHARE: usize = 4;
/// What all partitions together may prefetch without a limit.
const FETCH_TOGETHER: usize = 256 << 20;
/// The least that one partition may prefetch.
const LEAST_FETCH: usize = 16 << 10;
/// How long the limit must be exceeded before that is logged.
const LOG_AFTER: Duration = Duration::from_secs(30);

/// The memory accounting of a worker.
pub(crate) struct Memory {
    limit: usize,
    parts: [AtomicUsize; PARTS.len()],
    throttled: AtomicBool,
    /// Whether the log reports that reading is paused.
    told: AtomicBool,
    telemetry: Telemetry,
}

/// What one task holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Arc<Memory>,
    amounts: [usize; PARTS.len()],
    /// Since when the task has waited because of memory.
    since: Option<Instant>,
}

/// What a span task may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Read on.
    Read,
    /// Read one record, and commit it.
    Step,
    /// Commit what is open and wait.
    Wait,
    /// The same, but waiting does not help.
    Stand,
}

// === impl Memory ===

impl Memory {
    pub(crate) fn new(limit: usize, telemetry: Telemetry) -> Arc<Self> {
        let [throttled, told] = [const { AtomicBool::new(false) }; 2];
        Arc::new(Self { limit, parts: Default::default(), throttled, told, telemetry })
    }

    /// How much each of `partitions` may prefetch, at most `wished`: together they take no more memory than their part
    /// of the limit, so that a backlog of a few hundred partitions takes no more than that of a few.
    pub(crate) fn fetch_ahead(&self, wished: usize, partitions: usize) -> usize {
        let together = if self.limit == 0 { FETCH_TOGETHER } else { self.limit / FETCH_SHARE };
        wished.min(client::queue_within(together / partitions.max(1)).max(LEAST_FETCH))
    }

    fn of(&self, part: Part) -> usize {
        self.parts[part as usize].load(Ordering::Relaxed)
    }

    fn total(&self) -> usize {
        PARTS.iter().map(|(part, _)| self.of(*part)).sum()
    }

    /// What span tasks may do now.
    fn leave(&self) -> Leave {
        if self.limit == 0 {
            return Leave::Read;
        }
        let total = self.total();
        let throttled =
            if self.throttled.load(Ordering::Relaxed) { total >= self.limit / 100 * CALM } else { total > self.limit };
        if self.throttled.swap(throttled, Ordering::Relaxed) != throttled {
            self.telemetry.memory_throttled(throttled);
            if !throttled && self.told.swap(false, Ordering::Relaxed) {
                tracing::info!(held = total, limit = self.limit, "memory is below the limit, reading continues");
            }
        }
        let staying: usize = STAYING.iter().map(|part| self.of(*part)).sum();
        match throttled {
            false => Leave::Read,
            true if staying > self.limit / 100 * CEILING => Leave::Stand,
            true if LEAVING.iter().all(|part| self.of(*part) == 0) => Leave::Step,
            true => Leave::Wait,
        }
    }

    /// Exports the accounting. Prefetching is counted at its bound, and takes no memory before records have come:
    /// `fetched` bytes of it are there.
    pub(crate) fn show(&self, fetched: usize) {
        for (part, name) in PARTS {
            match part {
                Part::Fetch | Part::Readers => self.telemetry.memory_reserved(name, self.of(part)),
                _ => self.telemetry.memory_held(name, self.of(part)),
            }
        }
        self.telemetry.memory_held("fetch_buffers", fetched);
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("limit", &self.limit).field("parts", &self.parts).finish_non_exhaustive()
    }
}

// === impl Held ===

impl Held {
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), amounts: [0; PARTS.len()], since: None }
    }

    /// The task now holds this much of a kind.
    pub(crate) fn set(&mut self, part: Part, bytes: usize) {
        let (before, account) = (&mut self.amounts[part as usize], &self.memory.parts[part as usize]);
        // Never below zero in between: no other task takes this task's own bytes.
        if bytes >= *before {
            account.fetch_add(bytes - *before, Ordering::Relaxed);
        } else {
            account.fetch_sub(*before - bytes, Ordering::Relaxed);
        }
        *before = bytes;
    }

    /// What the task may do now.
    pub(crate) fn leave(&mut self, task: &dyn std::fmt::Display) -> Leave {
        let leave = self.memory.leave();
        if leave == Leave::Read {
            self.since = None;
        } else if self.since.get_or_insert_with(Instant::now).elapsed() > LOG_AFTER {
            self.since = Some(Instant::now());
            let (held, limit) = (self.memory.total(), self.memory.limit);
            self.memory.told.store(true, Ordering::Relaxed);
            if leave == Leave::Stand {
                tracing::error!(%task, held, limit,
                    "label sets alone take more than 1.5 times worker.memory_limit, reading is stopped; raise it, \
                     set limits, or add workers (spanmill_memory_bytes shows the parts)");
            } else {
                tracing::warn!(%task, held, limit, ?leave,
                    "worker.memory_limit reached, reading is throttled; spans stay in Kafka (spanmill_memory_bytes \
                     shows the parts)");
            }
        }
        leave
    }

    /// Whether there is a limit.
    pub(crate) fn limited(&self) -> bool {
        self.memory.limit > 0
    }

    /// Whether reading is throttled by the memory limit.
    pub(crate) fn waits(&self) -> bool {
        self.since.is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (part, _) in PARTS {
            self.set(part, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_above_the_limit_and_goes_on_well_below_it() {
        let memory = Memory::new(1_000, Telemetry::new());
        let (mut one, mut other) = (Held::new(&memory), Held::new(&memory));
        one.set(Part::Open, 600);
        other.set(Part::Commits, 400);
        assert_eq!(one.leave(&"one"), Leave::Read, "at the limit");
        other.set(Part::Commits, 401);
        assert_eq!((one.leave(&"one"), other.leave(&"other")), (Leave::Wait, Leave::Wait));
        one.set(Part::Open, 500);
        assert_eq!(one.leave(&"one"), Leave::Wait, "901 is not yet calm");
        assert!(one.waits() && memory.telemetry.render().contains("spanmill_memory_throttled 1"));
        drop(other);
        assert_eq!(one.leave(&"one"), Leave::Read, "what a task held goes with it");
        assert!(!one.waits() && memory.telemetry.render().contains("spanmill_memory_throttled 0"));
    }

    #[test]
    fn what_waiting_cannot_give_back_is_gone_past_step_by_step() {
        let memory = Memory::new(1_000, Telemetry::new());
        let mut held = Held::new(&memory);
        held.set(Part::Edges, 2_000);
        assert_eq!(held.leave(&"it"), Leave::Step);
        held.set(Part::Commits, 1);
        assert_eq!(held.leave(&"it"), Leave::Wait, "something is on its way out");
        held.set(Part::Commits, 0);
        held.set(Part::Edges, 100);
        assert_eq!(held.leave(&"it"), Leave::Read);
    }

    #[test]
    fn label_sets_far_above_the_limit_end_all_reading() {
        let memory = Memory::new(1_000, Telemetry::new());
        let (mut span, mut series) = (Held::new(&memory), Held::new(&memory));
        span.set(Part::Known, 700);
        series.set(Part::Series, 800);
        assert_eq!(span.leave(&"it"), Leave::Step);
        // Pending edges end by reading.
        span.set(Part::Edges, 5_000);
        assert_eq!(span.leave(&"it"), Leave::Step);
        series.set(Part::Series, 801);
        assert_eq!(span.leave(&"it"), Leave::Stand);
        drop(series);
        assert_eq!(span.leave(&"it"), Leave::Step, "another worker has that shard now");
    }

    #[test]
    fn partitions_share_what_may_be_fetched_ahead() {
        let (none, some) = (Memory::new(0, Telemetry::new()), Memory::new(64 << 20, Telemetry::new()));
        let together = |memory: &Memory, n: usize| n * client::memory_of(memory.fetch_ahead(8 << 20, n));
        assert_eq!(none.fetch_ahead(8 << 20, 16), 8 << 20, "what is wished");
        assert_eq!(some.fetch_ahead(8 << 20, 1), 8 << 20);
        for n in [32, 128, 1_024] {
            assert!((240 << 20..=256 << 20).contains(&together(&none, n)), "{n}: {}", together(&none, n));
        }
        assert!((15 << 20..=16 << 20).contains(&together(&some, 16)));
        assert_eq!(some.fetch_ahead(8 << 20, 100_000), LEAST_FETCH);
    }
}
