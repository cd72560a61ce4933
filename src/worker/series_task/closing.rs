//! Which step is closed when, and what its step-close record holds.

use std::time::{Duration, Instant};

use super::{Ending, SeriesRunner};
use crate::core::journal::{Change, EmitCause, EmitMark};
use crate::core::model::Millis;
use crate::worker::task::{SourceList, TaskContext};
use crate::worker::telemetry::Cause;

impl SeriesRunner {
    pub(super) fn close_ready(&mut self, context: &TaskContext<'_>) {
        let sources = self.awaited(context);
        while !self.full(context)
            && let Some(step) = self.task.closable(&sources)
        {
            self.close(context, step, Cause::Watermark, Vec::new());
        }
    }

    /// Closes steps of a shard that has no samples, as often as snapshots are written, so that the deltas that it has
    /// read may be deleted.
    pub(super) fn close_idle(&mut self, context: &TaskContext<'_>) {
        let every = context.clients.config.core.series.snapshot_every;
        if self.full(context) || self.ending != Ending::Open {
            return;
        }
        let sources = self.awaited(context);
        if let Some(step) = self.task.idle_until(&sources)
            && self.task.closed().is_none_or(|closed| step.saturating_sub(closed) >= every)
        {
            self.close(context, step, Cause::Watermark, Vec::new());
        }
    }

    /// Closes a step without sources that have been silent for longer than the grace time.
    pub(super) fn force(&mut self, context: &TaskContext<'_>) {
        if !context.mode.time_passes() {
            return;
        }
        let grace = Duration::from_millis(context.clients.config.core.time.stall_grace.unsigned_abs());
        if !self.at_end || self.full(context) {
            return;
        }
        let sources = self.awaited(context);
        let (Some(step), behind) = self.task.held_back_by(&sources) else { return };
        if self.silence.is_over(&behind, Instant::now(), grace) {
            tracing::warn!(shard = self.id.partition, step, without = ?behind,
                "closing a step without the stalled partitions; check that all workers are running");
            self.close(context, step, Cause::Forced, behind);
        }
    }

    /// In a replay: reports to the span tasks how far the slowest of them is. When all sources have ended and
    /// everything is closed and acknowledged, it records that in the journal.
    pub(super) fn end_replay(&mut self, context: &TaskContext<'_>) {
        let Some(replaying) = context.mode.replaying() else { return };
        let sources = context.sources.all();
        let times = sources.iter().map(|source| self.task.time_of(source));
        let slowest = times.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().min());
        replaying.tell_floor(self.id.partition, slowest);
        let settled = self.pending.is_empty() && !self.delivering.is_waiting() && self.writing.is_none();
        if self.ending != Ending::Open || !settled || !self.task.has_ended(&sources) {
            return;
        }
        let closed = self.task.closed();
        if self.snapshot != closed {
            // The mark comes last: nothing needs to be read again after it.
            return closed.into_iter().for_each(|closed| self.snapshot_now(context, closed));
        }
        let step = closed.unwrap_or_default();
        let (acknowledged, left_out) = (self.acknowledged, Vec::new());
        let (cause, behind, change) = (EmitCause::End, Vec::new(), Change::default());
        let basis = Some(self.task.basis());
        let mark = EmitMark { step, cause, acknowledged, left_out, behind, basis, change };
        self.ending = Ending::Marked(self.journal.writer.next_commit_number());
        let records = self.mark(&mark);
        self.journal.append(context, records, None);
    }

    /// Closes a step, without the sources that are `behind` and those that join.
    pub(super) fn close(
        &mut self,
        context: &TaskContext<'_>,
        step: Millis,
        cause: Cause,
        mut behind: Vec<(String, i32)>,
    ) {
        self.first.get_or_insert(step);
        behind.extend(self.joining.behind(step, &self.task));
        let behind = self.task.places(behind);
        let left_out = self.delivering.left_out();
        let gone = self.let_go(context, step);
        let basis = Some(self.task.basis());
        let closed = self.task.close_without(step, &left_out);
        self.tell_given_up(context);
        let change = Change { endpoints: self.marks(context, &closed), ..self.change(context, step, gone) };
        context.clients.telemetry.left_out(left_out.len());
        context.clients.telemetry.illegal_series(closed.illegal.as_ref());
        context.clients.telemetry.step_closed(cause);
        let late = context.clock.present().saturating_sub(step);
        self.traces.closed(&context.clients.telemetry, self.id.partition, step, cause, late);
        let cause = match cause {
            Cause::Watermark => EmitCause::Watermark,
            Cause::Forced => EmitCause::Forced,
        };
        let mark = EmitMark { step, cause, acknowledged: self.acknowledged, left_out, behind, basis, change };
        let commit_number = self.journal.writer.next_commit_number();
        let records = self.mark(&mark);
        #[cfg(feature = "sabotage")]
        if crate::core::journal::sabotage::is_off(crate::core::journal::sabotage::Rule::Emit) {
            self.deliver(context, closed.step, closed.batches);
            self.journal.append(context, records, None);
            return;
        }
        self.pending.push_back((commit_number, closed));
        self.journal.append(context, records, None);
    }

    /// The records of a mark.
    pub(super) fn mark(&mut self, mark: &EmitMark) -> Vec<Vec<u8>> {
        let to = self.position.max(self.marked);
        let records = self.journal.writer.commit(self.marked, to, &mark.encode());
        self.marked = to;
        records
    }

    /// Applies the changes that take effect with `step`, which has just been closed.
    pub(super) fn change(&mut self, context: &TaskContext<'_>, step: Millis, gone: Vec<(String, i32)>) -> Change {
        let (settings, changes) = self.terms.change(&mut self.task);
        if !changes.is_empty() {
            context.clients.telemetry.settings_changed();
            tracing::info!(shard = self.id.partition, after = step, ?changes, "settings of the shard changed");
        }
        Change { settings, gone, endpoints: Vec::new() }
    }

    /// Forgets sources that are no longer configured, once their memory is over; returns them.
    pub(super) fn let_go(&mut self, context: &TaskContext<'_>, step: Millis) -> Vec<(String, i32)> {
        let gone = self.task.gone(&context.sources.all(), step);
        if !gone.is_empty() {
            tracing::info!(shard = self.id.partition, step, ?gone, "forgetting sources that are no longer configured");
            self.task.let_go(&gone);
            let missed = self.gaps.give_up(&gone);
            if !missed.is_empty() {
                tracing::error!(
                    shard = self.id.partition,
                    ?missed,
                    "giving up delta records that the deltas topic has lost, because their sources are no longer \
                     configured; to have them counted, put the topics back into kafka.topics"
                );
                if self.gaps.lasting() == 0 {
                    self.ends.met();
                }
            }
        }
        gone
    }

    /// Logs the deltas that never received the labels of their set.
    pub(super) fn tell_given_up(&mut self, context: &TaskContext<'_>) {
        let lost = self.task.given_up() - self.given_up;
        if lost > 0 {
            self.given_up += lost;
            context.clients.telemetry.deltas_lost(lost);
            tracing::error!(
                shard = self.id.partition,
                lost,
                "labels of some label sets were never received; their counts are lost"
            );
        }
    }

    /// The sources that steps wait for. In a replay these are all that were planned.
    pub(super) fn awaited(&mut self, context: &TaskContext<'_>) -> SourceList {
        let all = context.sources.all();
        if context.mode.time_passes() { self.joining.look(all, &self.task) } else { all }
    }

    /// Whether enough steps are in flight, or a snapshot is long overdue: in a backlog the receiver never has
    /// everything unless closing pauses briefly.
    pub(super) fn full(&self, context: &TaskContext<'_>) -> bool {
        let overdue = self.is_unsaved_for(2, context);
        self.delivering.full(self.pending.len())
            || (overdue && (!self.pending.is_empty() || self.delivering.is_waiting()))
    }

    /// Whether the event time since the last snapshot exceeds `times` snapshot intervals. A replay runs through event
    /// time at high speed and would do little but write snapshots, so there the clock counts as well.
    pub(super) fn is_unsaved_for(&self, times: i64, context: &TaskContext<'_>) -> bool {
        let rests = self.saved.elapsed() < context.mode.rest_between_snapshots();
        !rests
            && self.closed_since_snapshot() >= context.clients.config.core.series.snapshot_every.saturating_mul(times)
    }

    /// How much event time lies between the last snapshot, or the start of the task, and the last closed step.
    pub(super) fn closed_since_snapshot(&self) -> Millis {
        let closed = self.task.closed().unwrap_or_default();
        closed.saturating_sub(self.snapshot.or(self.first).unwrap_or(closed))
    }
}
