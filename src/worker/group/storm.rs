//! Watches for what must not last in a group: that it never settles, and that it keeps evicting this worker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::worker::telemetry::TaskKind;

/// Rebalances that move partitions of this worker within [`MINUTE`] before that is called a storm. A rolling restart of
/// a few workers has fewer.
const STORM: usize = 12;
const MINUTE: Duration = Duration::from_secs(60);

/// Times that a worker is evicted within [`LOSSES_WITHIN`] before it is called unsteady. A worker that is evicted joins again,
/// and each time the whole group shares its partitions out twice.
const LOSSES: usize = 5;
const LOSSES_WITHIN: Duration = Duration::from_secs(300);

/// Counts the rebalances of the last minute.
#[derive(Debug, Default)]
pub(super) struct Storm {
    moves: VecDeque<Instant>,
    told: Option<Instant>,
}

/// Remembers when the groups of span and of series tasks evicted this worker because its heartbeats did not arrive in
/// time.
#[derive(Debug, Default)]
pub(super) struct Losses {
    spans: VecDeque<Instant>,
    series: VecDeque<Instant>,
    unsteady: bool,
}

// === impl Losses ===

impl Losses {
    /// The worker was evicted again. If that was too often, the worker is unsteady, and the count restarts.
    pub(super) fn lost(&mut self, kind: TaskKind, present: Instant) {
        let times = match kind {
            TaskKind::Span => &mut self.spans,
            TaskKind::Series => &mut self.series,
        };
        while times.pop_front_if(|at| present.saturating_duration_since(*at) >= LOSSES_WITHIN).is_some() {}
        times.push_back(present);
        if times.len() >= LOSSES {
            *self = Self { unsteady: true, ..Self::default() };
        }
    }

    /// A group has the worker back; returns once that it is unsteady. Not earlier: an evicted worker cannot see which
    /// members remain.
    pub(super) fn is_back(&mut self) -> bool {
        std::mem::take(&mut self.unsteady)
    }
}

// === impl Storm ===

impl Storm {
    /// The group has moved partitions; returns how often within the last minute if that is a storm, once a minute.
    pub(super) fn moved(&mut self, present: Instant) -> Option<usize> {
        let recent = |at: &Instant| present.saturating_duration_since(*at) < MINUTE;
        while self.moves.pop_front_if(|at| !recent(at)).is_some() {}
        self.moves.push_back(present);
        if self.moves.len() < STORM || self.told.as_ref().is_some_and(recent) {
            return None;
        }
        self.told = Some(present);
        Some(self.moves.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_storm_is_told_once_a_minute() {
        let start = Instant::now();
        let mut storm = Storm::default();
        let told: Vec<u64> = (0..60).filter(|&i| storm.moved(after(start, i * 3)).is_some()).collect();
        assert_eq!(told, [11, 31, 51]);
        let mut calm = Storm::default();
        assert!((0..60).all(|i| calm.moved(after(start, i * 10)).is_none()));
    }

    #[test]
    fn a_worker_is_unsteady_when_one_of_its_groups_threw_it_out_five_times_in_five_minutes() {
        let start = Instant::now();
        for kinds in [&[TaskKind::Span, TaskKind::Series][..], &[TaskKind::Series]] {
            let mut losses = Losses::default();
            let times = (0..15).flat_map(|i| kinds.iter().map(move |kind| (*kind, i * 20)));
            let unsteady = times.filter(|(kind, at)| {
                losses.lost(*kind, after(start, *at));
                losses.is_back()
            });
            let unsteady: Vec<u64> = unsteady.map(|(_, at)| at).collect();
            // What the other group does at the same moment is the first of its next count.
            assert_eq!(unsteady, if kinds.len() == 2 { vec![80, 160, 260] } else { vec![80, 180, 280] });
        }
        let mut rare = Losses::default();
        (0..60).for_each(|i| rare.lost(TaskKind::Span, after(start, i * 80)));
        assert!(!rare.is_back());
    }
}
