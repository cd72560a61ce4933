//! A span task that replays a stretch of its partition.

use std::time::{Duration, Instant};

use super::SpanRunner;
use crate::model::Millis;
use crate::tasks::span::{Repeat, SpanTask, StepCut};
use crate::telemetry::TaskId;
use crate::worker::replay::Stretch;
use crate::worker::thread::Context;

/// How often it is said that the log ends too early.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The stretch of a task that replays one.
pub(super) struct Replayed {
    stretch: Stretch,
    /// What happened to the live group.
    repeat: Repeat,
    /// The stream time at which the task began on this worker.
    begun: Option<Millis>,
    /// Whether it waits for other partitions.
    waits: bool,
    /// Where the log ends, if that is too early, and when that was said last.
    ends_early: Option<(i64, Instant)>,
}

/// That a partition has lost what a run was planned for.
fn lost_end(topic: &str, partition: i32, end: i64, planned: i64) -> String {
    format!(
        "{topic}[{partition}] ends at offset {end}, and the run was planned up to {planned}: the topic has lost its end, or was \
         created anew. The run waits; to replay what is there, begin another one with another --id"
    )
}

// === impl Replayed ===

impl Replayed {
    /// The stretch of a task that has been restored.
    pub(super) fn new(stretch: &Stretch, task: &mut SpanTask) -> Self {
        let repeat = Repeat::new(stretch.past.clone(), task);
        Self { stretch: stretch.clone(), repeat, begun: None, waits: false, ends_early: None }
    }

    /// What keeps the task from coming to its end.
    pub(super) fn trouble(&self, id: &TaskId) -> Option<String> {
        let (end, _) = self.ends_early?;
        Some(lost_end(&id.topic, id.partition, end, self.stretch.to))
    }

    /// Repeats what happened before the record at `offset`, which is there.
    pub(super) fn repeat(&mut self, task: &mut SpanTask, offset: i64) -> Vec<StepCut> {
        self.ends_early = None;
        self.repeat.before(task, offset)
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

    /// How far a log that ends at `end` is read.
    pub(super) fn within_stretch(&self, end: i64) -> i64 {
        self.replayed.as_ref().map_or(end, |replayed| end.min(replayed.stretch.to))
    }

    /// The log ends at `end`, before the end of the stretch. Whether the rest comes back, an operator knows.
    pub(super) fn ends_early(&mut self, end: i64) {
        let Some(replayed) = &mut self.replayed else { return };
        let said = replayed.ends_early.map(|(_, at)| at).filter(|at| at.elapsed() < SAY_EVERY);
        replayed.ends_early = Some((end, said.unwrap_or_else(Instant::now)));
        if let Some(trouble) = replayed.trouble(&self.id).filter(|_| said.is_none()) {
            tracing::error!("{trouble}");
        }
    }

    /// The partition holds nothing more of the stretch.
    pub(super) fn finish_stretch(&mut self, context: &Context<'_>) {
        let Some(replayed) = &mut self.replayed else { return };
        // The last offsets may hold no record.
        let (to, settle) = (replayed.stretch.to, replayed.stretch.settle);
        self.task.reached(to);
        let mut cuts = replayed.repeat(&mut self.task, to);
        cuts.extend(self.task.finish(settle));
        cuts.into_iter().for_each(|cut| self.commit(context, cut));
    }
}
