//! Repeats what happened to a live partition and what no record holds; see [`crate::core::journal::past`].

use std::sync::Arc;

use super::{SpanTask, StepCut};
use crate::core::journal::Event;

/// The events of a partition, and how many of them have happened again.
#[derive(Debug, Clone)]
pub struct Repeat {
    events: Arc<[Event]>,
    done: usize,
}

// === impl Repeat ===

impl Repeat {
    /// For a task that continues from its journal: earlier events have happened.
    #[must_use]
    pub fn new(events: Arc<[Event]>, task: &mut SpanTask) -> Self {
        let (position, time) = (task.position().unwrap_or(i64::MIN), task.stream_time());
        // At the position itself, the events that stream time has passed.
        let is_past = |event: &Event| {
            let (Event::Tick(offset, passed) | Event::Missed { offset, passed, .. }) = *event;
            offset < position || (offset == position && time.is_some_and(|at| passed <= at))
        };
        let done = events.iter().rposition(is_past).map_or(0, |last| last + 1);
        for event in &events[..done] {
            if let Event::Missed { shard, step, .. } = *event {
                task.missed(shard, step);
            }
        }
        Self { events, done }
    }

    /// Repeats the events before the record at `offset`; all records below it have been offered.
    pub fn before(&mut self, task: &mut SpanTask, offset: i64) -> Vec<StepCut> {
        // A task that still rebuilds pending edges would take no tick.
        task.reached(offset);
        let mut cuts = Vec::new();
        while let Some(&event) = self.events.get(self.done).filter(|event| event.offset() <= offset) {
            self.done += 1;
            // Records that were read before had been counted when it happened.
            let (Event::Tick(_, time) | Event::Missed { passed: time, .. }) = event;
            cuts.extend(task.settle_as_at(time));
            match event {
                Event::Tick(_, to) => cuts.extend(std::iter::from_fn(|| task.tick(to))),
                Event::Missed { shard, step, cut, .. } => {
                    if cut {
                        cuts.extend(task.cut());
                    }
                    task.missed(shard, step);
                }
            }
        }
        cuts
    }
}
