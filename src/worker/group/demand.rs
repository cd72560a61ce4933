//! How many workers the group would need, as one of them sees it: for autoscalers.
//!
//! A worker knows how fast it reads, how much of the time its threads are at work for that, how much comes meanwhile, and what
//! is left to read. So it knows which part of a worker its partitions need. The rest of the group has the other partitions, and
//! needs as much for each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::worker::telemetry::{TaskId, TaskKind, TaskState, TaskStatus};

/// How far a worker is to be used. The rest is for what is not even: partitions, minutes, a worker that restarts.
const TARGET: f64 = 0.75;
/// How much the last look counts: an autoscaler is to see what lasts, about a minute.
const NEW: f64 = 0.15;

/// How much a look counts that has seen a greater speed than is known, or a smaller one: with little to read, a worker is
/// mostly busy with itself, and seems slow.
const FASTER: f64 = 0.5;
const SLOWER: f64 = 0.02;

/// What is measured at one moment.
#[derive(Debug)]
pub(super) struct Moment {
    at: Instant,
    /// How long all threads together have had nothing to do.
    idle: Duration,
    /// Of each source partition that is read: the offset that comes next, and the end.
    tasks: BTreeMap<TaskId, (i64, i64)>,
}

/// What the group needs, from look to look.
#[derive(Debug, Default)]
pub(super) struct Demand {
    before: Option<Moment>,
    /// Which part of a worker the partitions of this one need.
    need: Option<f64>,
    /// How many records a second a worker would read that does nothing else, as far as that has been seen.
    capacity: Option<f64>,
}

// === impl Moment ===

impl Moment {
    pub(super) fn new(at: Instant, idle: Duration, statuses: &[(TaskId, TaskStatus)]) -> Self {
        let read =
            statuses.iter().filter(|(id, s)| id.kind == TaskKind::Span && s.state == TaskState::Running && s.shown);
        let tasks = read.map(|(id, s)| (id.clone(), (s.position, s.end_offset.max(s.position)))).collect();
        Self { at, idle, tasks }
    }
}

// === impl Demand ===

impl Demand {
    /// How many workers a group with so many source `partitions` needs if what is unread is to be read `within` this time, as
    /// the worker with so many `threads` sees it. 0 while it does not know, or has no partition.
    pub(super) fn look(&mut self, now: Moment, threads: usize, partitions: usize, within: Duration) -> f64 {
        let Some(before) = self.before.replace(now) else { return 0.0 };
        let Some(now) = &self.before else { return 0.0 };
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let (mut read, mut came, mut left, mut owned) = (0.0, 0.0, 0.0, 0_usize);
        for (id, (position, end)) in &now.tasks {
            owned += 1;
            left += (end - position) as f64;
            if let Some((from, known)) = before.tasks.get(id) {
                read += (position - from).max(0) as f64;
                came += (end - known).max(0) as f64;
            }
        }
        if owned == 0 || seconds <= 0.0 {
            (self.need, self.capacity) = (None, None);
            return 0.0;
        }
        let idle = now.idle.saturating_sub(before.idle).as_secs_f64();
        let busy = (1.0 - idle / (seconds * threads.max(1) as f64)).clamp(0.0, 1.0);
        let (read, came) = (read / seconds, came / seconds + left / within.as_secs_f64().max(1.0));
        // The progress of a worker that stands still, for memory or for a receiver, is no measure of its speed.
        if read > 0.0 && busy > 0.0 {
            let seen = read / busy;
            let weight = |known| if seen > known { FASTER } else { SLOWER };
            self.capacity = Some(self.capacity.map_or(seen, |known| known + weight(known) * (seen - known)));
        }
        let need = self.capacity.map_or(busy, |capacity| came / capacity);
        let need = self.need.map_or(need, |known| known + NEW * (need - known));
        self.need = Some(need);
        let workers = need / TARGET * partitions as f64 / owned as f64;
        workers.ceil().clamp(1.0, partitions.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker of two threads with two of eight partitions says after ten minutes at these rates a second: records that
    /// come, records that it reads, and the part of the time that its threads are at work.
    fn after(came: i64, read: i64, busy: f64) -> f64 {
        let (begin, mut demand) = (Instant::now(), Demand::default());
        let mut said = 0.0;
        for second in (0_i64..600).step_by(5) {
            let status = |partition| {
                let id = TaskId { kind: TaskKind::Span, topic: "spans".to_owned(), partition };
                let (position, end_offset) = (second * read / 2, second * came / 2);
                (
                    id,
                    TaskStatus {
                        state: TaskState::Running,
                        shown: true,
                        position,
                        end_offset,
                        ..TaskStatus::default()
                    },
                )
            };
            let statuses = [status(0), status(1)];
            let elapsed = Duration::from_secs(second.unsigned_abs());
            let moment = Moment::new(begin + elapsed, elapsed.mul_f64(2.0 * (1.0 - busy)), &statuses);
            said = demand.look(moment, 2, 8, Duration::from_secs(300));
        }
        said
    }

    #[test]
    fn a_group_needs_what_its_partitions_need_and_never_more_workers_than_partitions() {
        // A fourth of the partitions takes half a worker: 2 workers' work, at three quarters of their power.
        assert_eq!(after(1_000, 1_000, 0.5).to_bits(), 3.0_f64.to_bits());
        assert_eq!(after(1_000, 1_000, 0.1).to_bits(), 1.0_f64.to_bits());
        assert_eq!(after(1_000, 1_000, 0.74).to_bits(), 4.0_f64.to_bits());
        // It falls behind, and what is left is to be read as well.
        assert_eq!(after(2_000, 1_000, 1.0).to_bits(), 8.0_f64.to_bits());
        assert!(after(1_000, 900, 1.0) > 5.0);
    }

    #[test]
    fn a_worker_without_a_partition_or_that_has_just_begun_says_nothing() {
        let mut demand = Demand::default();
        let moment = || Moment::new(Instant::now(), Duration::ZERO, &[]);
        assert_eq!(demand.look(moment(), 2, 8, Duration::from_secs(300)).to_bits(), 0.0_f64.to_bits());
        assert_eq!(demand.look(moment(), 2, 8, Duration::from_secs(300)).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn a_worker_that_stands_still_needs_what_it_was_seen_to_need() {
        let (begin, mut demand, mut said) = (Instant::now(), Demand::default(), 0.0);
        let id = TaskId { kind: TaskKind::Span, topic: "spans".to_owned(), partition: 0 };
        for second in (0_i64..1_200).step_by(5) {
            // After five minutes it reads no more, and idles.
            let (position, end_offset) = (second.min(300) * 1_000, second * 1_000);
            let idle = Duration::from_millis((second * 500 + (second - 300).max(0) * 500).unsigned_abs());
            let status =
                TaskStatus { state: TaskState::Running, shown: true, position, end_offset, ..TaskStatus::default() };
            let at = begin + Duration::from_secs(second.unsigned_abs());
            said = demand.look(Moment::new(at, idle, &[(id.clone(), status)]), 1, 4, Duration::from_secs(300));
        }
        assert_eq!(said.to_bits(), 4.0_f64.to_bits(), "the lag of 15 minutes is to be read within 5");
    }
}
