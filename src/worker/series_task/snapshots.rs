//! Snapshots of a shard's state in its journal: when one is begun, and what follows when it counts.

use std::time::Instant;

use super::{Ending, SeriesRunner, turns};
use crate::core::journal::{DeltaChain, SeriesSnapshot, What};
use crate::core::model::Millis;
use crate::worker::task::TaskContext;

/// Marks the first record of a snapshot.
pub(super) struct SnapshotBegins;

/// A snapshot that is being written.
pub(super) struct Writing {
    /// The step whose state it holds.
    pub(super) step: Millis,
    /// The offset in the deltas topic up to which it counts.
    pub(super) position: i64,
    /// The delta records that it counts.
    pub(super) chain: DeltaChain,
    /// Where it begins in the journal, once that is known.
    pub(super) begins: Option<i64>,
    /// Its bytes, which the producer holds until they are stored.
    pub(super) bytes: usize,
    /// Turns of the shards of a worker, one after the other; none at a hand-over, which does not wait.
    pub(super) _turn: Option<turns::Turn>,
}

impl SeriesRunner {
    /// Writes the state to the journal, at a moment when the receivers have everything that the state contains. Batches
    /// for a receiver that is down are part of it.
    pub(super) fn write_snapshot(&mut self, context: &TaskContext<'_>) {
        let Some(closed) = self.task.closed().filter(|_| self.ending == Ending::Open) else { return };
        let due = self.snapshot.is_none() || self.is_unsaved_for(1, context);
        if due || self.leaving.is_under_way() {
            self.snapshot_now(context, closed);
        }
    }

    pub(super) fn snapshot_now(&mut self, context: &TaskContext<'_>, closed: Millis) {
        let settled = self.pending.is_empty() && !self.delivering.is_waiting();
        if !settled || self.writing.is_some() || self.snapshot == Some(closed) {
            return;
        }
        let turn = self.shards.snapshots.ask(self.id.partition, Instant::now());
        if turn.is_none() && !self.leaving.is_under_way() {
            return;
        }
        let (undelivered, apart) = self.delivering.undelivered();
        let snapshot = SeriesSnapshot {
            body: self.task.snapshot(),
            deltas_offset: self.position,
            step: closed,
            undelivered,
            apart,
            settings: self.task.settings().encode(),
            joining: self.joining.behind(closed, &self.task).into_iter().collect(),
        };
        let records = self.journal.writer.snapshot(&snapshot.into_bytes());
        self.saved = Instant::now();
        let bytes = records.iter().map(Vec::len).sum();
        let (position, chain) = (self.position, self.task.counted().0.clone());
        self.writing = Some(Writing { step: closed, position, chain, begins: None, bytes, _turn: turn });
        self.journal.append(context, records, Some(SnapshotBegins));
    }

    pub(super) fn snapshotted(&mut self, context: &TaskContext<'_>) {
        let Some(Writing { step, position, chain, begins, .. }) = self.writing.take() else { return };
        self.snapshot = Some(step);
        self.acknowledged = self.acknowledged.max(Some(step));
        self.delivering.held(step);
        self.advance();
        context.offsets.note_trim(&self.id.topic, self.id.partition, position);
        for (topic, partition, (commit_number, _)) in chain.sources() {
            context.clients.notify_journal(topic, partition, self.id.partition, What::Holds, commit_number);
        }
        if let Some(offset) = begins {
            context.offsets.note_trim(self.journal.topic(), self.id.partition, offset);
        }
    }
}
