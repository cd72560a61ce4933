//! When a range of the source ends, and the commit for it.

use super::doubt::Patience;
use super::{SpanTask, StepCut};
use crate::core::deltas::DeltaHead;
use crate::core::model::time::{ended_after, last_step};
use crate::core::model::{Counter, Millis};

impl SpanTask {
    /// The cut that is due before the record at `offset` takes stream time to `stream_time`.
    pub(super) fn cut_before(&mut self, offset: i64, stream_time: Millis) -> Option<StepCut> {
        let current = self.stream_time?;
        let step = self.step.end_of(current);
        if self.step.end_of(stream_time) != step {
            return Some(self.end_step(offset, step, stream_time));
        }
        let size = self.processors.table.estimate();
        (size > 0 && size >= self.max_commit_bytes).then(|| self.end_stretch(offset, step, current))
    }

    /// Ends the open step because stream time continues to `toward`, in a later one. A wait that ends before that is
    /// over in its own step: stream time stops at each of those that has one.
    pub(super) fn end_step(&mut self, offset: i64, step: Millis, toward: Millis) -> StepCut {
        self.processors.expire(step - 1, self.clock.as_ref());
        let due = self.processors.next_due();
        let stop = due.filter(|&due| self.step.end_of(due) < self.step.end_of(toward)).unwrap_or(toward);
        let cut = self.end_stretch(offset, step, stop);
        self.advance(stop);
        cut
    }

    /// Ends the open stretch now, for a stop or an early commit. `None` when nothing was read and nothing expired since
    /// the last cut.
    pub fn cut(&mut self) -> Option<StepCut> {
        let (stream_time, position) = (self.stream_time?, self.position?);
        let open = self.open || self.processors.table.estimate() > 0;
        (open && !self.rebuilding()).then(|| self.end_stretch(position, self.step.end_of(stream_time), stream_time))
    }

    /// Ends the partition: nothing more will be offered. The last cut reports that to the shards, which then need not
    /// wait for this source. With `settle`, the pending edges get the rest of their wait first, as if the partition
    /// stayed silent; without, they stay open. Nothing while pending edges are being rebuilt, and nothing the second
    /// time.
    pub fn finish(&mut self, settle: bool) -> Vec<StepCut> {
        let mut cuts = Vec::new();
        if self.rebuilding() || self.has_ended() {
            return cuts;
        }
        cuts.extend(self.settle());
        let position = self.position.unwrap_or_default();
        let waiting = self.stream_time.filter(|_| settle).and_then(|at| self.processors.all_due(at));
        if let Some(over) = waiting {
            while self.step_of_time() < self.step.end_of(over) {
                cuts.push(self.end_step(position, self.step_of_time(), over));
            }
            self.advance(over);
        }
        if self.processors.table.has_earliest() || waiting.is_some() && self.clock.is_some() {
            // Which steps it counts in is known once it is cut, and the end determines the last one.
            cuts.extend(self.cut());
        }
        let step = self.step_of_time();
        let end = ended_after(self.latest_with(step));
        cuts.push(self.end_stretch(position, step, end));
        self.stream_time = Some(end);
        cuts
    }

    /// From the next cut on, nothing counts for `shard` up to the end of `step`: a live shard had closed that without what
    /// comes now. Only [`Repeat`] knows when.
    pub(super) fn missed(&mut self, shard: u32, step: Millis) {
        self.processors.table.not_before(shard, self.step.end_of(step));
    }

    /// Whether the partition has ended, see [`SpanTask::finish`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stream_time.and_then(last_step).is_some()
    }

    /// Advances the stream time of a silent partition toward `to`. Returns a cut when that passes the end of a step;
    /// otherwise nothing happens, as a time that is in no journal must not decide anything. The same while the start is
    /// unknown or pending edges are being rebuilt. Ask again until it returns nothing: on the way there may be steps in
    /// which pending edges have waited long enough.
    pub fn tick(&mut self, to: Millis) -> Option<StepCut> {
        let position = self.position.filter(|_| self.would_tick(to))?;
        if !self.doubt.is_empty() {
            // A record that is not later than this advances stream time no further than the tick does.
            return self.believe(Patience::Decided(to)).or_else(|| self.tick(to));
        }
        let cut = match self.stream_time {
            Some(_) => self.end_step(position, self.step_of_time(), to),
            None => {
                let cut = self.end_stretch(position, self.step.passed(to), to);
                self.advance(to);
                cut
            }
        };
        Some(StepCut { tick: true, ..cut })
    }

    /// The end of the step that stream time is in.
    pub(super) fn step_of_time(&self) -> Millis {
        self.stream_time.map_or(0, |at| self.step.end_of(at))
    }

    /// Whether [`SpanTask::tick`] would do something.
    #[must_use]
    pub fn would_tick(&self, to: Millis) -> bool {
        let passes = self.stream_time.is_none_or(|st| self.step.end_of(st) <= to);
        passes && self.position.is_some() && !self.rebuilding()
    }

    /// Continues at `to`, because an operator has moved the group's offset; the cut records that in the journal. For a
    /// task without pending edges, and without records since the last cut. Stream time stays: what is read again
    /// belongs to the present step.
    pub fn move_to(&mut self, to: i64) -> StepCut {
        let from = self.position.unwrap_or(to);
        let counter = if to < from { Counter::RecordsReadAgain } else { Counter::RecordsPassedOver };
        self.processors.ledger.add(counter, to.abs_diff(from));
        // What is read again counts again, and offsets are in the order of stream time no longer.
        if let Some(seen) = &mut self.processors.seen {
            seen.clear();
        }
        let stream_time = self.stream_time.unwrap_or(0);
        self.end_stretch(to, self.step.end_of(stream_time), stream_time)
    }

    /// The latest step of all, now that `step` is the oldest open one.
    pub(super) fn latest_with(&self, step: Millis) -> Millis {
        self.clock.as_ref().map_or(step, |clock| clock.latest.max(step)).max(self.latest)
    }

    /// Ends the open stretch, in which `step` was the oldest open one.
    pub(super) fn end_stretch(&mut self, to: i64, step: Millis, stream_time: Millis) -> StepCut {
        self.latest = self.latest_with(step);
        let (reread_from, live) = self.processors.live(stream_time);
        let commit_number = self.next_commit_number;
        let head = DeltaHead {
            topic: self.topic.clone(),
            partition: self.partition,
            commit_number,
            part: 0,
            parts: 0,
            step,
            stream_time,
            sender: None,
            tenants: Vec::new(),
        };
        let cut = self.processors.table.cut(head, self.shards);
        self.latest = self.latest.max(cut.latest.unwrap_or(step));
        let from = self.from.replace(to).unwrap_or(to);
        self.position = Some(to);
        self.next_commit_number += 1;
        self.open = false;
        StepCut {
            tick: false,
            from,
            to,
            commit_number,
            step: self.latest,
            stream_time,
            reread_from: reread_from.unwrap_or(to),
            live,
            ledger: self.processors.ledger.clone(),
            delta_records: cut.delta_records,
        }
    }

    pub(super) fn advance(&mut self, stream_time: Millis) {
        if self.stream_time != Some(stream_time) {
            self.stream_time = Some(stream_time);
            self.processors.expire(stream_time, self.clock.as_ref());
        }
    }
}
