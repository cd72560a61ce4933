//! A span task that replays a stretch of its partition.

use super::SpanRunner;
use crate::model::Millis;
use crate::tasks::span::{SpanTask, StepCut};
use crate::worker::replay::Stretch;
use crate::worker::thread::Context;

/// The stretch of a task that replays one.
pub(super) struct Replayed {
    stretch: Stretch,
    /// Ticks of the live group that have been repeated.
    ticked: usize,
    /// The stream time at which the task began on this worker.
    begun: Option<Millis>,
    /// Whether it waits for other partitions.
    waits: bool,
}

// === impl Replayed ===

impl Replayed {
    /// The stretch of a task that stands at `position` and `stream_time`.
    pub(super) fn new(stretch: &Stretch, position: i64, stream_time: Option<Millis>) -> Self {
        // What is behind the position has been repeated; at the position itself, what stream time has passed.
        let past = |&(offset, to): &(i64, Millis)| {
            offset < position || (offset == position && stream_time.is_some_and(|at| to <= at))
        };
        let ticked = stretch.ticks.partition_point(past);
        Self { stretch: stretch.clone(), ticked, begun: None, waits: false }
    }

    /// Repeats the ticks before the record at `offset`.
    pub(super) fn repeat_ticks(&mut self, task: &mut SpanTask, offset: i64) -> Vec<StepCut> {
        let mut cuts = Vec::new();
        while let Some(to) = self.tick(offset) {
            cuts.extend(task.tick(to));
        }
        cuts
    }

    /// The next tick before the record at `offset`.
    fn tick(&mut self, offset: i64) -> Option<Millis> {
        let (at, to) = *self.stretch.ticks.get(self.ticked)?;
        (at <= offset).then(|| {
            self.ticked += 1;
            to
        })
    }
}

// === impl SpanRunner ===

impl SpanRunner {
    /// Whether the task, if it replays, has nothing to read now: it has come to its end, waits for others, or is too fast.
    pub(super) fn rests(&mut self, context: &Context<'_>) -> bool {
        let (Some(replaying), Some(replayed)) = (&context.shared.replaying, &mut self.replayed) else { return false };
        replayed.waits = self.task.stream_time().is_some_and(|now| {
            let begun = *replayed.begun.get_or_insert(now);
            !self.task.has_ended() && replaying.is_ahead(begun, now)
        });
        let over = self.task.position().is_some_and(|position| position >= replayed.stretch.to);
        if over && !self.task.rebuilding() {
            self.finish_stretch(context);
        }
        self.task.has_ended() || self.waits_for_others() || !replaying.may_read()
    }

    /// Whether the task waits until other partitions have come closer.
    pub(super) fn waits_for_others(&self) -> bool {
        self.replayed.as_ref().is_some_and(|replayed| replayed.waits)
    }

    /// Whether the record at `offset` lies behind the stretch.
    pub(super) fn is_behind_stretch(&self, offset: i64) -> bool {
        self.replayed.as_ref().is_some_and(|replayed| offset >= replayed.stretch.to)
    }

    /// The partition holds nothing more of the stretch.
    pub(super) fn finish_stretch(&mut self, context: &Context<'_>) {
        let Some(replayed) = &mut self.replayed else { return };
        // The last offsets may hold no record.
        let (to, settle) = (replayed.stretch.to, replayed.stretch.settle);
        self.task.reached(to);
        let mut cuts = replayed.repeat_ticks(&mut self.task, to);
        cuts.extend(self.task.finish(settle));
        cuts.into_iter().for_each(|cut| self.commit(context, cut));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_come_once_and_where_they_came_in_life() {
        let ticks = [(3, 10_000), (3, 25_000), (7, 40_000)];
        let stretch = Stretch { from: 0, to: 9, settle: false, ticks: ticks.into() };
        let mut replayed = Replayed::new(&stretch, 0, None);
        assert_eq!(replayed.tick(2), None);
        assert_eq!([replayed.tick(4), replayed.tick(4), replayed.tick(4)], [Some(10_000), Some(25_000), None]);
        assert_eq!([replayed.tick(9), replayed.tick(9)], [Some(40_000), None]);
        // A new owner goes on where the journal says that the last one stopped.
        assert_eq!(Replayed::new(&stretch, 3, Some(10_000)).tick(3), Some(25_000));
        assert_eq!(Replayed::new(&stretch, 4, Some(25_000)).tick(7), Some(40_000));
    }
}
